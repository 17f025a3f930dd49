"""A hub on a thread of its own, or as a process; and a client that speaks plain HTTP to it."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from edge_process import COMMAND, free_port, until

from twinbridge.testing.hub import RunningHub, hub_running

GROUP = "devices.twinbridge.io"
OURS = f"/apis/{GROUP}/v1alpha1/namespaces/default"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"


@contextmanager
def hub_on_a_thread(state: Path, tokens: str | None = None, port: int = 0) -> Iterator[RunningHub]:
    """Served until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="hub")
    thread.start()
    served = hub_running(state, port=port, tokens=tokens)
    try:
        yield asyncio.run_coroutine_threadsafe(served.__aenter__(), loop).result(20)
    finally:
        leaving = served.__aexit__(None, None, None)
        asyncio.run_coroutine_threadsafe(leaving, loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, which is its own CA, and its key."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=hub",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return certificate, key


class HubProcess:
    """`twinbridge hub`; `log` is all that it has said. With `tls` it has a certificate and key."""

    def __init__(
        self, state: Path, *more: str, port: int = 0, tls: tuple[Path, Path] | None = None
    ) -> None:
        self.port = port or free_port()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._verify = ssl.create_default_context(cafile=tls[0]) if tls else True
        if tls:
            more = (*more, "--tls-cert", str(tls[0]), "--tls-key", str(tls[1]))
        self._said = state.parent / f"hub-{self.port}.log"
        with self._said.open("ab") as said:
            self.process = subprocess.Popen(
                [*COMMAND, "hub", "--listen", f"127.0.0.1:{self.port}",
                 "--state-dir", state, *more],
                stdout=said,
                stderr=subprocess.STDOUT,
            )  # fmt: skip

    @property
    def log(self) -> str:
        return self._said.read_text()

    def ready(self) -> None:
        def seen() -> bool:
            assert self.process.poll() is None, self.log
            try:
                return httpx.get(f"{self.url}/readyz", timeout=5, verify=self._verify).is_success
            except httpx.TransportError:
                return False

        until(seen, "a hub that is ready")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)


@contextmanager
def hub_process(
    state: Path, *more: str, port: int = 0, tls: tuple[Path, Path] | None = None
) -> Iterator[HubProcess]:
    """Ready; killed at the end if it still runs."""
    running = HubProcess(state, *more, port=port, tls=tls)
    try:
        running.ready()
        yield running
    finally:
        running.kill()


class Api:
    """Requests to a hub, and what came back as (code, JSON)."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def ask(self, method: str, path: str, body: object = None, **more: Any) -> tuple[int, Any]:
        """`type` is the body's media type, `accept` the answer's; the rest are parameters."""
        answer = self.raw(method, path, body, **more)
        return answer.status_code, answer.json()

    def raw(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        type: str = "application/json",  # noqa: A002 - as in Content-Type
        accept: str = "application/json",
        **parameters: str,
    ) -> httpx.Response:
        content = json.dumps(body) if body is not None and not isinstance(body, bytes) else body
        return self.client.request(
            method,
            path,
            content=content,  # type: ignore[arg-type]  # bytes, text or None by now
            headers={"Content-Type": type, "Accept": accept},
            params=parameters,
        )

    def do(self, method: str, path: str, body: object = None, **more: Any) -> Any:
        """Asks for what must succeed; gives the JSON."""
        code, found = self.ask(method, path, body, **more)
        assert code in (200, 201), found
        return found

    def refused(self, code: int, method: str, path: str, body: object = None, **more: Any) -> Any:
        """Asks for what must be refused so; gives the Status."""
        came, found = self.ask(method, path, body, **more)
        assert came == code, found
        assert found["kind"] == "Status", found
        assert found["code"] == code, found
        return found

    @contextmanager
    def watch(self, path: str, accept: str = "application/json", **parameters: str) -> Iterator[
        Iterator[Any]
    ]:  # fmt: skip
        """The events of a watch; it ends with the block, or after 20 s."""
        asked = {"watch": "true", "timeoutSeconds": "20", **parameters}
        headers = {"Accept": accept}
        with self.client.stream("GET", path, params=asked, headers=headers, timeout=25) as lines:
            yield (json.loads(line) for line in lines.iter_lines())


@contextmanager
def api_of(url: str, token: str = "") -> Iterator[Api]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(base_url=url, headers=headers, timeout=20) as client:
        yield Api(client)


@contextmanager
def api_of_kubeconfig(path: Path) -> Iterator[Api]:
    """Of the current context of a kubeconfig with a token, or with a client's certificate."""
    config = yaml.safe_load(path.read_text())

    def named(kind: str, name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = next(e for e in config[f"{kind}s"] if e["name"] == name)[kind]
        return found

    context = named("context", config["current-context"])
    cluster, user = named("cluster", context["cluster"]), named("user", context["user"])
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))

        def pem(of: Mapping[str, Any], name: str) -> str | None:
            if f"{name}-data" in of:
                there = folder / name
                there.write_bytes(base64.b64decode(of[f"{name}-data"]))
                return str(there)
            return of.get(name)

        trust = ssl.create_default_context(cafile=pem(cluster, "certificate-authority"))
        if certificate := pem(user, "client-certificate"):
            trust.load_cert_chain(certificate, pem(user, "client-key"))
        token = {"Authorization": f"Bearer {user['token']}"} if user.get("token") else {}
        client = httpx.Client(base_url=cluster["server"], headers=token, verify=trust, timeout=20)
        yield Api(stack.enter_context(client))


def a_device(name: str = "", node: str = "edge-1", **labels: str) -> dict[str, Any]:
    named = {"name": name} if name else {"generateName": "pump-"}
    return {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "Device",
        "metadata": {**named, "labels": labels},
        "spec": {
            "modelRef": {"name": "pump-drive"},
            "nodeName": node,
            "connection": {"modbus": {"host": "127.0.0.1", "port": 5020, "unit": 1}},
        },
    }
