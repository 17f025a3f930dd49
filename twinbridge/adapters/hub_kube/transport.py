"""The official client's connections, set up for a line that may go dead without a word."""

from __future__ import annotations

import socket
from typing import Any, Final

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.client.rest import RESTClientObject
from typing_extensions import override

CONNECTIONS: Final = 16
"""Four watches, the writes in flight, and room for what a watch makes us fetch."""
KEEP_IDLE: Final = 30.0
"""Seconds for which an idle connection is kept."""
_DEAD_AFTER_MS = 15_000
_OPTIONS: Final = (
    ("TCP_NODELAY", 1),
    ("TCP_KEEPIDLE", 8),
    ("TCP_KEEPINTVL", 2),
    ("TCP_KEEPCNT", 3),
    ("TCP_USER_TIMEOUT", _DEAD_AFTER_MS),
)


def opened(configuration: Configuration) -> ApiClient:
    """Raises OSError (also ssl.SSLError) when a certificate cannot be read."""
    configuration.retries = None
    configuration.connection_pool_maxsize = CONNECTIONS
    api = ApiClient(configuration)
    api.rest_client = _Connections(configuration)
    return api


class _Connections(RESTClientObject):
    @override
    def _create_connector(self) -> aiohttp.TCPConnector:
        return aiohttp.TCPConnector(
            limit=self.maxsize,
            ssl=self.ssl_context,
            keepalive_timeout=KEEP_IDLE,
            socket_factory=_socket,
        )


def _socket(found: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = found
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OPTIONS:
        option: Any = getattr(socket, name, None)  # not every system has each
        if option is not None:
            made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made
