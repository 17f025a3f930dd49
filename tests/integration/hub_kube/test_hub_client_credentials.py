"""Who the client says it is, and whom it believes."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import pytest
from hub_stage import device, listening, until
from opcua_certificates import Pair, pair
from scripted_hub import ScriptedHub

from twinbridge.adapters.hub_kube import credentials, open_hub
from twinbridge.adapters.hub_kube.credentials import parse_where
from twinbridge.adapters.hub_kube.limits import Limits
from twinbridge.errors import HubUnavailable, InvalidInput
from twinbridge.ports import Ref
from twinbridge.testing.hub import kubeconfig

if TYPE_CHECKING:
    from pathlib import Path

QUICK = Limits(first_wait=0.01, longest_wait=0.1)


@pytest.fixture
def authority() -> Pair:
    return pair("plant CA", uri=None, hosts=(), authority=True)


def _pem(path: Path, *parts: bytes) -> Path:
    path.write_bytes(b"".join(parts))
    return path


def _server(folder: Path, authority: Pair, *, users: bool = False) -> ssl.SSLContext:
    host = pair("hub", uri=None, issuer=authority)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(_pem(folder / "hub.pem", host.pem, host.key_pem))
    if users:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=authority.pem.decode())
    return context


def test_a_hub_whose_ca_is_known_is_believed_and_no_other(tmp_path: Path, authority: Pair) -> None:
    async def scene() -> None:
        other = pair("other CA", uri=None, hosts=(), authority=True)
        right, wrong = (
            _pem(tmp_path / "right.pem", authority.pem),
            _pem(tmp_path / "wrong.pem", other.pem),
        )
        async with asyncio.timeout(20), ScriptedHub().serving(_server(tmp_path, authority)) as hub:
            hub.put(device("pump-1"))
            async with (
                open_hub(hub.url, "edge-1", ca_file=right, limits=QUICK) as client,
                listening(client) as heard,
            ):
                await heard.until(lambda now: Ref("Device", "pump-1") in now)
            asked = len(hub.asked)
            async with open_hub(hub.url, "edge-1", ca_file=wrong, limits=QUICK) as client:
                with pytest.raises(HubUnavailable, match="certificate"):
                    await client.renew("a", 30)
            assert len(hub.asked) == asked

    asyncio.run(scene())


def test_a_kubeconfig_gives_ca_and_client_certificate(tmp_path: Path, authority: Pair) -> None:
    async def scene() -> None:
        user = pair("edge-1", uri=None, issuer=authority, server=False)
        _pem(tmp_path / "ca.pem", authority.pem)
        _pem(tmp_path / "user.pem", user.pem)
        _pem(tmp_path / "user.key", user.key_pem)
        context = _server(tmp_path, authority, users=True)
        async with asyncio.timeout(20), ScriptedHub().serving(context) as hub:
            config = tmp_path / "config"
            config.write_text(
                "apiVersion: v1\nkind: Config\ncurrent-context: a\n"
                "contexts: [{name: a, context: {cluster: a, user: a}}]\n"
                "clusters: [{name: a, cluster:"
                f" {{server: '{hub.url}', certificate-authority: ca.pem}}}}]\n"
                "users: [{name: a, user:"
                " {client-certificate: user.pem, client-key: user.key}}]\n"
            )
            async with open_hub(str(config), "edge-1", limits=QUICK) as client:
                assert await client.renew("a", 30) == "a"
                await until(lambda: client.connected)

    asyncio.run(scene())


@pytest.mark.parametrize("text", ["", "{", "a: [", "users: [{token: s3cret", "kind: Config\n"])
def test_a_kubeconfig_of_nonsense_is_refused_without_its_content(tmp_path: Path, text: str) -> None:
    config = tmp_path / "config"
    config.write_text(text)
    with pytest.raises(InvalidInput, match="config") as caught:
        parse_where(str(config), None, None, None)
    assert "s3cret" not in str(caught.value)


def test_a_kubeconfig_of_nonsense_but_for_its_namespace_is_told_without_its_content(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        config = tmp_path / "config"
        config.write_text(
            "current-context: a\ncontexts: [{name: a, context: {user: u, cluster: c}}]\n"
            "clusters: 7\nusers: [{token: s3cret}]\n"
        )
        async with asyncio.timeout(20), open_hub(str(config), "edge-1", limits=QUICK) as client:
            with pytest.raises(HubUnavailable, match="config") as caught:
                await client.renew("a", 30)
            assert "s3cret" not in str(caught.value)

    asyncio.run(scene())


@pytest.mark.parametrize("content", [None, b"", b"two\nlines", b"\xff\xfe"])
def test_a_token_that_is_none_is_told_by_its_file(tmp_path: Path, content: bytes | None) -> None:
    async def scene() -> None:
        token = tmp_path / "token"
        if content is not None:
            token.write_bytes(content)
        async with (
            asyncio.timeout(20),
            ScriptedHub().serving() as hub,
            open_hub(hub.url, "edge-1", token_file=token, limits=QUICK) as client,
        ):
            with pytest.raises(HubUnavailable, match="token"):
                await client.renew("a", 30)
            assert not hub.asked
            token.write_text("good")
            assert await client.renew("a", 30) == "a"

    asyncio.run(scene())


def test_within_a_cluster_all_comes_from_the_service_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "namespace").write_text("plant\n")
    monkeypatch.setattr(credentials, "ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    found = parse_where("in-cluster", None, None, None)
    assert found.url == "https://[fd00::1]:443"
    assert found.namespace == "plant"
    assert found.token_file == tmp_path / "token"
    assert found.ca_file == tmp_path / "ca.crt"
    assert parse_where("in-cluster", "default", None, None).namespace == "default"


def test_the_namespace_is_that_of_the_current_context_unless_another_is_given(
    tmp_path: Path,
) -> None:
    config = tmp_path / "config"
    config.write_text(kubeconfig("http://127.0.0.1:1", namespace="plant"))
    assert parse_where(str(config), None, None, None).namespace == "plant"
    assert parse_where(str(config), "other", None, None).namespace == "other"
    config.write_text(config.read_text().replace("namespace: plant", ""))
    assert parse_where(str(config), None, None, None).namespace == "default"
    assert parse_where("http://hub", None, None, None).namespace == "default"


@pytest.mark.parametrize("where", ["in-cluster", "ftp://hub", "nowhere.yaml", "hub:6443"])
def test_a_hub_that_cannot_be_meant_is_refused(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(InvalidInput, match="--hub"):
        parse_where(where, "default", None, None)
