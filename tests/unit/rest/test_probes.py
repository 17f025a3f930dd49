"""What a kubelet and Prometheus get of a process that serves no API."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import TypeVar

import pytest
from prometheus_client import CollectorRegistry, Gauge

from twinbridge.errors import InvalidInput
from twinbridge.rest import probes
from twinbridge.rest.probes import Health, Verdict, serve_probes

BOUND = 30.0
T = TypeVar("T")


@dataclass
class Process:
    """Its health, as a test wants it."""

    live: Verdict = (True, {"status": "ok"})
    ready: Verdict = (True, {"ready": True})
    metrics: CollectorRegistry = field(default_factory=CollectorRegistry)

    @property
    def health(self) -> Health:
        return Health(lambda: self.live, lambda: self.ready)


@asynccontextmanager
async def served(process: Process) -> AsyncIterator[int]:
    async with (
        asyncio.timeout(BOUND),
        serve_probes(process.health, process.metrics, "127.0.0.1", 0) as url,
    ):
        yield int(url.rpartition(":")[2])


def ask(port: int, path: str, method: str = "GET") -> tuple[int, str, bytes]:
    """Status, media type and body, as an ordinary client sees them."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read()
    finally:
        connection.close()


def raw(port: int, request: bytes) -> bytes:
    """All that comes back to it until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        found = b""
        while part := connection.recv(65536):
            found += part
        return found


def asked(process: Process, question: Callable[[int], T]) -> T:
    async def scenario() -> T:
        async with served(process) as port:
            return await asyncio.to_thread(question, port)

    return asyncio.run(scenario())


def test_healthz_and_readyz_say_what_they_are_told_and_503_for_no() -> None:
    process = Process(ready=(False, {"ready": False, "store": "disk full"}))
    assert asked(process, lambda port: ask(port, "/healthz")) == (
        200,
        "application/json",
        b'{"status":"ok"}',
    )
    status, _, body = asked(process, lambda port: ask(port, "/readyz"))
    assert (status, json.loads(body)) == (503, {"ready": False, "store": "disk full"})
    assert asked(process, lambda port: ask(port, "/api/v1/readyz?verbose"))[0] == 503


def test_metrics_are_those_of_the_registry_as_prometheus_reads_them() -> None:
    process = Process()
    Gauge("twinbridge_devices", "Devices served.", registry=process.metrics).set(7)
    status, media_type, body = asked(process, lambda port: ask(port, "/metrics"))
    assert (status, media_type.partition(";")[0]) == (200, "text/plain")
    assert b"twinbridge_devices 7.0" in body


def test_what_is_not_there_is_a_problem_that_names_what_is() -> None:
    status, media_type, body = asked(Process(), lambda port: ask(port, "/api/v1/devices"))
    assert (status, media_type) == (404, "application/problem+json")
    assert "/healthz" in json.loads(body)["detail"]


def test_head_gives_no_body_and_other_methods_are_refused() -> None:
    assert asked(Process(), lambda port: ask(port, "/healthz", "HEAD")) == (
        200,
        "application/json",
        b"",
    )
    assert asked(Process(), lambda port: ask(port, "/healthz", "POST"))[0] == 405


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /healthz\r\n\r\n", b"400"),
        (b"\xff\xfe\x00\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 20_000, b"431"),
        (b"GET " + b"/" * 7000 + b" HTTP/1.1\r\n\r\n", b"404"),
    ],
)
def test_garbage_is_refused_and_the_next_probe_answered(request_: bytes, status: bytes) -> None:
    def question(port: int) -> bytes:
        said = raw(port, request_)
        assert ask(port, "/healthz")[0] == 200
        return said

    assert asked(Process(), question).split(b" ")[1] == status


def test_clients_that_say_nothing_hold_no_place_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probes, "WITHIN", 0.2)
    monkeypatch.setattr(probes, "CONNECTIONS", 3)

    def question(port: int) -> None:
        idle = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(10)]
        for connection in idle:
            with connection:
                assert connection.recv(1) == b"", "sent away, or let go after a while"
        assert ask(port, "/healthz")[0] == 200

    asked(Process(), question)


def test_an_address_that_is_taken_is_said() -> None:
    async def scenario() -> None:
        async with served(Process()) as port:
            with pytest.raises(InvalidInput, match=f"--probes 127.0.0.1:{port}: .*in use"):
                async with serve_probes(Process().health, CollectorRegistry(), "127.0.0.1", port):
                    pytest.fail("took an address that is taken")

    asyncio.run(scenario())
