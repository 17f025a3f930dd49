"""Tokens and authorities of an engine that asks who writes."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mosquitto import Certificates

from twinbridge.adapters.sink_remote_write import open_remote_write
from twinbridge.core.model import Quality, Reason, Sample
from twinbridge.errors import HubUnavailable
from twinbridge.ports import OutboxBatch, OutboxRecord


@contextmanager
def engine(certificates: Certificates, tokens: set[str]) -> Iterator[str]:
    """Takes what comes with one of the tokens; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            given = self.headers.get("Authorization", "").removeprefix("Bearer ")
            self.send_response(204 if given in tokens else 401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trust.load_cert_chain(certificates.server, certificates.server_key)
    server.socket = trust.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}/api/v1/write"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def batch() -> OutboxBatch:
    sample = Sample(1.5, Quality.GOOD, Reason.NONE, time.time_ns(), 1)
    return OutboxBatch("o", [OutboxRecord(1, "samples", "press", 1, 1, [("p", sample)])], live=True)


def test_a_token_that_was_renewed_in_its_file_is_used_at_once(tmp_path: Path) -> None:
    certificates, token, tokens = Certificates.make(tmp_path), tmp_path / "token", {"old"}
    token.write_text("old\n")

    async def scenario(url: str) -> None:
        async with open_remote_write(url, {}, token_file=token, ca_file=certificates.ca) as sink:
            await sink.send(batch())
            tokens.clear()
            tokens.add("new")
            with pytest.raises(HubUnavailable, match="401"):
                await sink.send(batch())
            token.write_text("new\n")
            await sink.send(batch())

    with engine(certificates, tokens) as url:
        asyncio.run(scenario(url))


def test_an_engine_of_a_strange_authority_is_told_nothing(tmp_path: Path) -> None:
    certificates = Certificates.make(tmp_path)

    async def scenario(url: str) -> None:
        async with open_remote_write(url, {}, ca_file=certificates.stranger_ca) as sink:
            with pytest.raises(HubUnavailable, match=r"(?i)certificate"):
                await sink.send(batch())

    with engine(certificates, set()) as url:
        asyncio.run(scenario(url))


def test_a_missing_token_file_is_waited_for(tmp_path: Path) -> None:
    certificates, token = Certificates.make(tmp_path), tmp_path / "token"

    async def scenario(url: str) -> None:
        async with open_remote_write(url, {}, token_file=token, ca_file=certificates.ca) as sink:
            with pytest.raises(HubUnavailable, match="token"):
                await sink.send(batch())
            token.write_text("mine")
            await sink.send(batch())

    with engine(certificates, {"mine"}) as url:
        asyncio.run(scenario(url))


def test_an_authority_that_cannot_be_read_is_an_error_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_remote_write("https://127.0.0.1:1/", {}, ca_file=tmp_path / "none"):
            raise AssertionError("opened without whom to trust")

    with pytest.raises(OSError, match="No such file"):
        asyncio.run(scenario())
