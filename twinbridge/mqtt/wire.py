"""The socket beneath a session: reached without blocking, read in large pieces."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from twinbridge.api.broker import Broker, Tls

PIECE = 16_384
"""Bytes that are taken at once: some hundred messages, a few ms of the loop's time."""
LARGE = 65_536
"""A packet that is longer is handed on as it comes, not gathered first."""
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)
"""A broker that leaves Nagle's algorithm on (mosquitto, unless told) sends a small message only
once the one before is acknowledged, and the system takes up to 40 ms for that (RFC 1122, 4.2.3.2).
"""


class BufferedSocket:
    """What the client library takes for its socket.

    `fill` takes what has come; the library may `recv` only what is dealt out to it, a packet at
    a time, which costs no system call for each of its bytes. What it sends gathers until
    `flush`: many packets, one system call.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.held = b""
        self.at = 0
        """Where in `held` the first byte is that nobody has taken."""
        self._dealt = 0
        self._out = bytearray()
        self._on_close: Callable[[], None] | None = None

    @property
    def pending(self) -> bool:
        """Whether TLS holds bytes of which the selector knows nothing."""
        return isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0

    def fill(self) -> bool:
        """Take what has come; False at the end of the stream. Raises OSError."""
        try:
            came = self._socket.recv(PIECE)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return True
        self._acknowledge()
        self.held = self.held[self.at :] + came if self.at < len(self.held) else came
        self.at = 0
        return bool(came)

    def _acknowledge(self) -> None:
        """Let the broker send on; the system forgets the wish, so that it is said each time."""
        if _QUICKACK is not None:
            with suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)

    def deal(self, until: int) -> None:
        """Let the library read up to that place in `held`."""
        self._dealt = until

    def recv(self, size: int) -> bytes:
        """Raises BlockingIOError when what was dealt is used up."""
        start = self.at
        if start >= self._dealt:
            raise BlockingIOError
        self.at = min(start + size, self._dealt)
        return self.held[start : self.at]

    @property
    def backlog(self) -> int:
        """Bytes that the system has not taken yet."""
        return len(self._out)

    def send(self, content: bytes) -> int:
        """Take it all; `flush` sends it."""
        self._out += content
        return len(content)

    def flush(self) -> bool:
        """Send what the system takes; whether something is left. Raises OSError."""
        while self._out:
            try:
                sent = self._socket.send(self._out)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return True
            del self._out[:sent]
        return False

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - the socket's own signature
        self._socket.setblocking(flag)

    def fileno(self) -> int:
        return self._socket.fileno()

    def when_closed(self, call: Callable[[], None]) -> None:
        """Called right before the socket is closed, while its number is still its own."""
        self._on_close = call

    def close(self) -> None:
        """What has gathered goes out before, as far as the system takes it: a good-bye may be
        part of it, and the client library closes right after that.
        """
        call, self._on_close = self._on_close, None
        if call is not None:
            call()
        with suppress(OSError):
            self.flush()
        self._socket.close()


async def dial(broker: Broker) -> BufferedSocket:
    """Raises OSError (also of TLS). The caller bounds the time; cancelled, it leaves nothing."""
    context = await asyncio.to_thread(tls_context, broker.tls) if broker.tls else None
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(broker.host, broker.port, type=socket.SOCK_STREAM)
    failed: OSError = OSError("the name has no address")
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(sock, address)
            if context is not None:
                sock = context.wrap_socket(
                    sock, server_hostname=broker.host, do_handshake_on_connect=False
                )
                await _handshake(sock)
        except OSError as error:
            sock.close()
            failed = error
        except BaseException:
            sock.close()
            raise
        else:
            return BufferedSocket(sock)
    raise failed


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Reads the certificates. Raises OSError, an SSLError among them."""
    context = ssl.create_default_context(cafile=tls.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.certificate is not None:
        context.load_cert_chain(tls.certificate, tls.key)
    return context


async def _handshake(sock: ssl.SSLSocket) -> None:
    loop = asyncio.get_running_loop()
    number = sock.fileno()
    while True:
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            await _ready(partial(loop.add_reader, number), partial(loop.remove_reader, number))
        except ssl.SSLWantWriteError:
            await _ready(partial(loop.add_writer, number), partial(loop.remove_writer, number))
        else:
            return


async def _ready(
    watch: Callable[[Callable[[], None]], object], unwatch: Callable[[], object]
) -> None:
    woken = asyncio.Event()
    watch(woken.set)
    try:
        await woken.wait()
    finally:
        unwatch()
