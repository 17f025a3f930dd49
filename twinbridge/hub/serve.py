"""Serves the hub with uvicorn inside the running event loop."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import uvicorn
from starlette.types import ASGIApp

from twinbridge.errors import InvalidInput
from twinbridge.hub.hub import Hub

LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
DRAIN: Final = 2
"""Seconds that requests in flight have when the server stops."""
_BACKLOG: Final = 2048
"""Connections that wait to be taken: a thousand edges may come back at once."""


class Tls(NamedTuple):
    certificate: Path
    key: Path


class Listen(NamedTuple):
    host: str
    port: int
    """0: any free one."""
    tls: Tls | None = None


def _is_fault(record: logging.LogRecord) -> bool:
    """A request that was cut off by the stop, for its client never finished it, is none."""
    cut_off = record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not cut_off and "timeout graceful shutdown" not in record.msg


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the command, not to the API."""
        yield


@asynccontextmanager
async def serve(hub: Hub, app: ASGIApp, listen: Listen) -> AsyncIterator[str]:
    """The hub's API while the context lasts; gives its URL.

    Raises InvalidInput when it cannot listen there, or may not: without tokens the hub listens
    on loopback only.
    """
    if hub.tokens is None and listen.host not in LOOPBACK:
        raise InvalidInput(
            f"--listen {listen.host}:{listen.port}: beyond loopback the hub needs tokens; give "
            "--token-file, or listen on 127.0.0.1"
        )
    logging.getLogger("uvicorn.error").addFilter(_is_fault)
    with _listener(listen) as listener:
        server = _Server(_config(app, listen.tls))
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(server.serve([listener]), name="hub api")
            # uvicorn has no event for it
            while not server.started and not task.done():  # noqa: ASYNC110 - as said above
                await asyncio.sleep(0.01)
            try:
                yield _url(listener, listen.tls)
            finally:
                hub.watchers.close()
                server.should_exit = True


def _config(app: ASGIApp, tls: Tls | None) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=DRAIN,
        timeout_keep_alive=75,
        backlog=_BACKLOG,
        ssl_certfile=tls.certificate if tls else None,
        ssl_keyfile=tls.key if tls else None,
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one
        named = f" {tls.certificate}, {tls.key}" if tls else ""
        raise InvalidInput(f"certificate and key{named}: {error}") from None
    return config


@contextmanager
def _listener(listen: Listen) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    # With the protocol named, asyncio sets TCP_NODELAY on what it accepts; else answers wait 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((listen.host, listen.port))
    except OSError as error:
        listener.close()
        why = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            why = "the port is in use; name another one"
        raise InvalidInput(f"--listen {listen.host}:{listen.port}: {why}") from None
    with listener:
        yield listener


def _url(listener: socket.socket, tls: Tls | None) -> str:
    host, port = listener.getsockname()[:2]
    scheme = "https" if tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
