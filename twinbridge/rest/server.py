"""Serves the API with uvicorn inside the running event loop."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from fastapi import FastAPI

from twinbridge.errors import InvalidInput
from twinbridge.rest.guard import LOOPBACK

DRAIN = 1
"""Seconds that requests in flight have when the server stops; those of the whole stop are few."""


def _is_fault(record: logging.LogRecord) -> bool:
    """A request that was cut off by the stop, for its client never finished it, is none."""
    cut_off = record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not cut_off and "timeout graceful shutdown" not in record.msg


logging.getLogger("uvicorn.error").addFilter(_is_fault)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the command, not to the API."""
        yield


@asynccontextmanager
async def serve(app: FastAPI, host: str, port: int) -> AsyncIterator[str]:
    """The API at `host`:`port` (0: any free port) while the context lasts; gives its URL.

    Raises InvalidInput when it cannot listen there, or may not: without tokens the API listens
    on loopback only.
    """
    if app.state.tokens is None and host not in LOOPBACK:
        raise InvalidInput(
            f"--api {host}:{port}: beyond loopback the API needs tokens; give --api-token-file, "
            "or listen on 127.0.0.1"
        )
    with _listen(host, port) as listener:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=DRAIN,
        )
        server = _Server(config)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(server.serve([listener]), name="api")
            # uvicorn has no event for it
            while not server.started and not task.done():  # noqa: ASYNC110 - as said above
                await asyncio.sleep(0.01)
            try:
                yield _url(listener)
            finally:
                app.state.service.events.close()
                server.should_exit = True


@contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise InvalidInput(f"--api {host}:{port}: {_why(error)}") from None
    with listener:
        yield listener


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use; name another one, or stop the agent that has it"
    return error.strerror or str(error)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
