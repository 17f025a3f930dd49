"""Every policy, every kind of user, and everything that can be wrong with a certificate."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from asyncua import ua
from asyncua.common.utils import ServiceError
from opcua_certificates import DAY, Pair, pair
from pydantic import ValidationError
from secured_server import EVERY, Bench, Operators, connection, server_time, trust

from twinbridge.errors import LinkLost
from twinbridge_opcua.trust.refusal import refusal
from twinbridge_opcua.trust.security import cautions

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path

    from twinbridge_opcua.config import OpcUaConnection

POLICIES = ("Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss")
MODES = ("Sign", "SignAndEncrypt")


async def refused(attempt: Awaitable[object]) -> str:
    with pytest.raises(LinkLost) as caught:
        await attempt
    return str(caught.value)


async def objection(bench: Bench, pki: Path, server: Pair, **more: Any) -> str:
    """What is said of a server with this certificate."""
    async with bench.serving(server) as url:
        return await refused(server_time(connection(url, pki, **more)))


def test_every_policy_connects_in_every_mode(bench: Bench, tmp_path: Path) -> None:
    async def scenario() -> None:
        own = pair()
        trust(tmp_path, own)
        async with bench.serving(own, policies=EVERY) as url:
            for policy in POLICIES:
                for mode in MODES:
                    wanted = connection(url, tmp_path, security={"policy": policy, "mode": mode})
                    assert await server_time(wanted) == ua.ServerState.Running

    bench.run(scenario())


def test_a_server_is_trusted_once_a_person_has_moved_its_certificate(
    bench: Bench, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with bench.serving() as url:
            wanted = connection(url, tmp_path)
            said = await refused(server_time(wanted))
            (kept,) = (tmp_path / "rejected").iterdir()
            assert "not trusted yet" in said
            assert str(kept) in said
            assert kept.stem.rpartition("-")[2] in said  # the thumbprint
            kept.rename(tmp_path / "trusted" / kept.name)
            assert await server_time(wanted) == ua.ServerState.Running

    bench.run(scenario())


def test_a_server_is_trusted_through_its_authority(bench: Bench, tmp_path: Path) -> None:
    async def scenario() -> None:
        authority = pair("authority", uri=None, hosts=(), authority=True)
        department = pair("department", uri=None, hosts=(), authority=True, issuer=authority)
        trust(tmp_path, authority)
        async with bench.serving(pair(issuer=department)) as url:
            wanted = connection(url, tmp_path)
            assert "not trusted yet" in await refused(server_time(wanted))
            (tmp_path / "issuers" / "department.pem").write_bytes(department.pem)
            assert await server_time(wanted) == ua.ServerState.Running

    bench.run(scenario())


def test_a_certificate_that_is_no_authority_vouches_for_nobody(
    bench: Bench, tmp_path: Path
) -> None:
    async def scenario() -> None:
        pretender = pair("pretender")
        trust(tmp_path, pretender)
        assert "not trusted yet" in await objection(bench, tmp_path, pair(issuer=pretender))

    bench.run(scenario())


def test_an_authority_of_the_same_name_vouches_for_nobody(bench: Bench, tmp_path: Path) -> None:
    async def scenario() -> None:
        trust(tmp_path, pair("authority", uri=None, hosts=(), authority=True))
        forged = pair("authority", uri=None, hosts=(), authority=True, bits=2049)
        assert "not trusted yet" in await objection(bench, tmp_path, pair(issuer=forged))

    bench.run(scenario())


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "expired": ({"starts": -30 * DAY, "ends": -2 * DAY}, "it expired on"),
    "not yet valid": ({"starts": 2 * DAY}, "it is valid only from"),
    "wrong host": ({"hosts": ("plc-7", "10.0.0.7")}, "made out to plc-7, 10.0.0.7, not to 127"),
    "no host": ({"hosts": ()}, "made out to no host name at all"),
    "another application": ({"uri": "urn:test:x"}, "belongs to the application urn:test:x"),
    "not for servers": ({"server": False}, "not made for servers"),
    "short key": ({"bits": 1024}, "its key has 1024 bits"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_trusted_certificate_may_still_be_wrong(bench: Bench, tmp_path: Path, what: str) -> None:
    async def scenario() -> None:
        wrong, expected = WRONG[what]
        certificate = pair(**wrong)
        trust(tmp_path, certificate)
        said = await objection(bench, tmp_path, certificate)
        assert expected in said
        assert "not trusted" not in said
        assert not list((tmp_path / "rejected").iterdir())

    bench.run(scenario())


def test_all_that_is_wrong_is_said_at_once(bench: Bench, tmp_path: Path) -> None:
    async def scenario() -> None:
        wrong = pair(hosts=("plc-7",), starts=-30 * DAY, ends=-2 * DAY)
        said = await objection(bench, tmp_path, wrong)
        for clause in ("not trusted yet", "it expired on", "made out to plc-7"):
            assert clause in said

    bench.run(scenario())


def test_an_expired_authority_is_told_from_an_expired_server(bench: Bench, tmp_path: Path) -> None:
    async def scenario() -> None:
        authority = pair(
            "authority", uri=None, hosts=(), authority=True, starts=-9 * DAY, ends=-DAY
        )
        trust(tmp_path, authority)
        said = await objection(bench, tmp_path, pair(issuer=authority))
        assert "of its issuer 'authority': it expired on" in said

    bench.run(scenario())


def test_the_server_says_what_it_offers_if_nothing_fits(bench: Bench, tmp_path: Path) -> None:
    async def scenario() -> None:
        offered = [
            ua.SecurityPolicyType.NoSecurity,
            ua.SecurityPolicyType.Aes128Sha256RsaOaep_Sign,
        ]
        async with bench.serving(policies=offered) as url:
            said = await refused(server_time(connection(url, tmp_path)))
            assert "no endpoint with security Basic256Sha256/SignAndEncrypt" in said
            assert "it offers None, Aes128_Sha256_RsaOaep/Sign" in said

    bench.run(scenario())


def operator(folder: Path, password: str = "pa55\n", name: str = "operator") -> dict[str, str]:
    file = folder / "password"
    file.write_text(password)
    return {"name": name, "passwordFile": str(file)}


USER_TOKENS = (ua.UserNameIdentityToken, ua.X509IdentityToken)


@pytest.mark.parametrize("mode", MODES)
def test_a_user_logs_in_with_the_password_of_a_file(
    bench: Bench, tmp_path: Path, mode: str
) -> None:
    async def scenario() -> None:
        own = pair()
        trust(tmp_path, own)
        policies = [getattr(ua.SecurityPolicyType, f"Basic256Sha256_{mode}")]
        async with bench.serving(
            own, users=Operators(), tokens=USER_TOKENS, policies=policies
        ) as url:
            security = {"policy": "Basic256Sha256", "mode": mode}
            user = operator(tmp_path)
            wanted = connection(url, tmp_path, user=user, security=security)
            assert await server_time(wanted) == ua.ServerState.Running

    bench.run(scenario())


async def told(wanted: OpcUaConnection) -> str | None:
    """What a person is told when the server itself says no."""
    with pytest.raises((ua.UaError, ConnectionError)) as caught:
        await server_time(wanted)
    return refusal(caught.value, wanted)


def test_a_wrong_password_is_told_as_such(bench: Bench, tmp_path: Path) -> None:
    async def scenario() -> None:
        own = pair()
        trust(tmp_path, own)
        async with bench.serving(own, users=Operators(), tokens=USER_TOKENS) as url:
            wanted = connection(url, tmp_path, user=operator(tmp_path, "wrong"))
            said = await told(wanted)
            assert said is not None
            assert "refuses the user 'operator'" in said

    bench.run(scenario())


def test_a_password_is_never_sent_where_anybody_could_read_it(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="a password or key is never sent unprotected"):
        connection("opc.tcp://x", tmp_path, user=operator(tmp_path), security=None)

    async def scenario() -> None:
        own = pair()
        trust(tmp_path, own)
        policies = [ua.SecurityPolicyType.Basic256Sha256_Sign]
        async with bench.serving(
            own, users=Operators(), tokens=USER_TOKENS, policies=policies
        ) as url:
            bench.ask_for_plain_passwords()
            security = {"policy": "Basic256Sha256", "mode": "Sign"}
            wanted = connection(url, tmp_path, user=operator(tmp_path), security=security)
            assert "wants the password unencrypted" in await refused(server_time(wanted))

    bench.run(scenario())


def test_a_server_without_anonymous_users_says_whom_it_takes(bench: Bench, tmp_path: Path) -> None:
    async def scenario() -> None:
        own = pair()
        trust(tmp_path, own)
        async with bench.serving(own, users=Operators(), tokens=USER_TOKENS) as url:
            said = await refused(server_time(connection(url, tmp_path)))
            assert "takes no anonymous on this endpoint" in said
            assert "user with password" in said

    bench.run(scenario())


def test_a_password_file_that_is_missing_is_named(bench: Bench, tmp_path: Path) -> None:
    async def scenario() -> None:
        own = pair()
        trust(tmp_path, own)
        async with bench.serving(own, users=Operators(), tokens=USER_TOKENS) as url:
            user = {"name": "operator", "passwordFile": str(tmp_path / "nowhere")}
            said = await refused(server_time(connection(url, tmp_path, user=user)))
            assert f"the passwordFile {tmp_path / 'nowhere'} cannot be read" in said

    bench.run(scenario())


def test_a_user_logs_in_with_a_certificate(bench: Bench, tmp_path: Path) -> None:
    async def scenario() -> None:
        own, user = pair(), pair("operator", uri=None, hosts=(), server=False)
        trust(tmp_path, own)
        certificate, key = user.write(tmp_path, "operator")
        files = {"certificate": str(certificate), "key": str(key)}
        async with bench.serving(own, users=Operators(user.der), tokens=USER_TOKENS) as url:
            wanted = connection(url, tmp_path, userCertificate=files)
            assert await server_time(wanted) == ua.ServerState.Running
        async with bench.serving(own, users=Operators(), tokens=USER_TOKENS) as url:
            said = await told(connection(url, tmp_path, userCertificate=files))
            assert said is not None
            assert f"refuses the user's certificate {certificate}" in said

    bench.run(scenario())


def test_a_server_that_does_not_trust_us_is_told_from_one_that_is_away(
    bench: Bench, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async def distrust(*_: object) -> None:
            raise ServiceError(ua.StatusCodes.BadCertificateUntrusted)

        own = pair()
        trust(tmp_path, own)
        async with bench.serving(own, validator=distrust) as url:
            said = await told(connection(url, tmp_path))
            assert said is not None
            assert "have our certificate trusted in the server" in said
            assert str(tmp_path / "own" / "cert.der") in said

    bench.run(scenario())


def test_certificates_that_end_soon_are_announced(bench: Bench, tmp_path: Path) -> None:
    async def scenario() -> None:
        own = pair(ends=29 * DAY + timedelta(hours=1))
        user = pair("operator", uri=None, hosts=(), server=False, ends=3 * DAY)
        trust(tmp_path, own)
        certificate, key = user.write(tmp_path, "operator")
        files = {"certificate": str(certificate), "key": str(key)}
        async with bench.serving(own, users=Operators(user.der), tokens=USER_TOKENS) as url:
            wanted = connection(url, tmp_path, userCertificate=files)
            await server_time(wanted)
            text = cautions(wanted)["certificate-expiry"]
            assert f"the certificate of the server at {url} ends on" in text
            assert f"the user's certificate {certificate} ends on" in text
            assert "our own" not in text
        async with bench.serving(pair(ends=31 * DAY)) as url:
            wanted = connection(url, tmp_path)
            await refused(server_time(wanted))
            assert cautions(wanted) == {}

    bench.run(scenario())
