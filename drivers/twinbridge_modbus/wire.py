"""The one place that touches pymodbus: its transports and framers, with our own exchange.

pymodbus carries and frames; it checks neither function nor byte count, makes a list of integers
of every answer, and starts a timer per request. So a Wire hands PDUs over as bytes and checks who
answers what itself.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import ssl
import struct
from functools import partial
from typing import Any, Final

from pymodbus import exceptions as library
from pymodbus.framer import FramerBase, FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU
from pymodbus.transaction import TransactionManager
from pymodbus.transport import CommParams, CommType
from typing_extensions import override

from twinbridge.errors import DeviceError, LinkLost, NoResponse
from twinbridge_modbus.config import ModbusConnection, SerialLine, TlsOptions

TRANSLATED: Final[dict[type[library.ModbusException], type[DeviceError]]] = {
    library.ModbusException: NoResponse,
    library.ModbusIOException: NoResponse,
    library.ParameterException: NoResponse,
    library.NoSuchIdException: NoResponse,
    library.NotImplementedException: NoResponse,
    library.ConnectionException: LinkLost,
    library.MessageRegisterException: LinkLost,
}
"""Every exception of the library; a test fails when it grows one more."""

_MBAP_HEADER = 7
_LONGEST_MBAP_LENGTH = 254
_EXCEPTION = 0x80
_SHORTEST_PDU = 2
_LONGEST_FRAME = 260
# its debug lines would format every frame; what matters is said by our errors
logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)


def translate(error: library.ModbusException, where: str) -> DeviceError:
    """The one translation of what the library raises."""
    kinds = (TRANSLATED[kind] for kind in type(error).__mro__ if kind in TRANSLATED)
    return next(kinds, NoResponse)(f"{where}: {error}")


class Wire(TransactionManager):
    """One connection, good for one life: after a fault it is thrown away and a new one made."""

    def __init__(self, connection: ModbusConnection, endpoint: str) -> None:
        rtu = connection.transport in ("serial", "rtuOverTcp")
        framer: FramerBase = (FramerRTU if rtu else FramerSocket)(DecodePDU(False))
        super().__init__(_parameters(connection), framer, 0, False, None, None, None)
        self.tainted = False
        """An answer may still be under way: the wire must not carry another request."""
        self._connection = connection
        self._endpoint = endpoint
        self._serial = connection.serial
        self._rtu = rtu
        self._answer: asyncio.Future[bytes] | None = None
        self._unit = self._function = self._tid = 0
        self._deadline = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._dropped = ""

    @property
    def usable(self) -> bool:
        return not self.tainted and self.transport is not None

    async def open(self) -> None:
        """Raises LinkLost when there is no connection within the timeout."""
        try:
            if self._connection.tls is not None:
                self._secure(self._connection, self._connection.tls)
            async with asyncio.timeout(self.comm_params.timeout_connect):
                self.transport, _ = await self.call_create()
            if self._serial is not None and self._serial.rs485:
                _switch_direction(self.transport)
        except TimeoutError:
            raise LinkLost(f"{self._endpoint}: no connection in time") from None
        except (OSError, ValueError) as error:
            raise LinkLost(f"{self._endpoint}: {error}") from error

    def _secure(self, connection: ModbusConnection, options: TlsOptions) -> None:
        """Have the server's name verified, which the library's own call leaves no room for."""
        self.call_create = partial(
            self.loop.create_connection,
            self.handle_new_connection,
            connection.host,
            connection.effective_port,
            ssl=_tls_context(options),
            server_hostname=options.server_name or connection.host,
        )

    async def exchange(self, unit: int, request: bytes, timeout: float) -> bytes:  # noqa: ASYNC109 - one lazy timer serves all requests
        """Send a PDU and return the PDU that answers it, which may be an exception.

        Raises NoResponse for silence or nonsense, LinkLost when the connection ends.
        """
        if self.transport is None:
            raise LinkLost(f"{self._endpoint}: connection closed")
        self._tid = tid = self._tid % 65535 + 1
        self._unit, self._function = unit, request[0]
        self._dropped = ""
        answer: asyncio.Future[bytes] = self.loop.create_future()
        self._answer = answer
        try:
            self.send(self.framer.encode(request, unit, tid))
            self._expect_by(self.loop.time() + timeout)
            return await answer
        except library.ModbusException as error:
            self.tainted = True
            raise translate(error, self._endpoint) from error
        except BaseException:
            self.tainted = True
            raise
        finally:
            self._answer = None

    def _expect_by(self, deadline: float) -> None:
        self._deadline = deadline
        if self._watch is None:
            self._watch = self.loop.call_at(deadline, self._look)
        elif deadline < self._watch.when():
            self._watch.cancel()
            self._watch = self.loop.call_at(deadline, self._look)

    def _look(self) -> None:
        """One timer for many requests: it finds the deadline moved on more often than not."""
        self._watch = None
        if self._answer is None or self._answer.done():
            return
        if self.loop.time() < self._deadline:
            self._watch = self.loop.call_at(self._deadline, self._look)
        else:
            self._fail(f"no answer in time{self._dropped}")

    def _fail(self, why: str) -> None:
        self.tainted = True
        if self._answer is not None and not self._answer.done():
            where = f"{self._endpoint} unit {self._unit}"
            self._answer.set_exception(NoResponse(f"{where}: {why}"))

    @override
    def datagram_received(self, data: bytes, addr: tuple[Any, ...] | None) -> None:
        if self.comm_params.handle_local_echo:
            super().datagram_received(data, addr)
            return
        if self.recv_buffer:
            data = self.recv_buffer + data
        used = self.callback_data(data, addr)
        self.recv_buffer = data[used:]
        if len(self.recv_buffer) > _LONGEST_FRAME:
            self._fail("garbage instead of an answer")
            self.recv_buffer = b""

    @override
    def callback_data(self, data: bytes, addr: tuple[Any, ...] | None = None) -> int:
        try:
            return self._frames(data)
        except (library.ModbusException, IndexError, struct.error) as error:
            self._fail(f"garbage instead of an answer: {error}")
            return len(data)

    def _frames(self, data: bytes) -> int:
        """Take whole frames; returns how many bytes they had."""
        used = 0
        while used < len(data):
            rest = data[used:] if used else data
            if not self._rtu and _is_no_mbap(rest):
                self._fail("garbage instead of an answer")
                return len(data)
            length, unit, tid, pdu = self.framer.decode(rest)
            if not length:
                break
            used += length
            if pdu:
                self._received(unit, tid, pdu)
        return used

    def _received(self, unit: int, tid: int, pdu: bytes) -> None:
        answer = self._answer
        if answer is None or answer.done():
            self.tainted = True
        elif not self._rtu and tid != self._tid:
            self._dropped = f" (dropped one of transaction {tid}, this is {self._tid})"
        elif unit != self._unit:
            self._dropped = f" (dropped one of unit {unit})"
        elif pdu[0] & ~_EXCEPTION != self._function or len(pdu) < _SHORTEST_PDU:
            self._fail(f"answered function {pdu[0]} instead of {self._function}")
        else:
            answer.set_result(pdu)

    @override
    def callback_disconnected(self, exc: Exception | None) -> None:
        self.tainted = True
        if self._answer is not None and not self._answer.done():
            why = f": {exc}" if exc else ""
            self._answer.set_exception(LinkLost(f"{self._endpoint}: connection closed{why}"))

    @override
    def error_received(self, exc: Exception) -> None:
        """UDP: nobody listens there."""
        self.callback_disconnected(exc)

    def drop(self) -> None:
        """Close at once; nothing that is still under way arrives any more."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(LinkLost(f"{self._endpoint}: closed"))
        transport = self.transport
        self.close()
        if isinstance(transport, asyncio.WriteTransport):
            transport.abort()


def _is_no_mbap(data: bytes) -> bool:
    if len(data) < _MBAP_HEADER - 1:
        return False
    length = int.from_bytes(data[4:6], "big")
    return data[2:4] != b"\0\0" or not _SHORTEST_PDU <= length <= _LONGEST_MBAP_LENGTH


def _parameters(connection: ModbusConnection) -> CommParams:
    timeout = connection.timeout / 1e9
    if connection.serial is not None:
        return _serial_parameters(connection.serial, timeout)
    kind = {"udp": CommType.UDP, "tls": CommType.TLS}.get(connection.transport, CommType.TCP)
    return CommParams(
        comm_name="twinbridge",
        comm_type=kind,
        host=connection.host or "",
        port=connection.effective_port,
        timeout_connect=timeout,
    )


def _serial_parameters(line: SerialLine, timeout: float) -> CommParams:
    return CommParams(
        comm_name="twinbridge",
        comm_type=CommType.SERIAL,
        host=line.device,
        baudrate=line.baudrate,
        bytesize=8,
        parity={"even": "E", "odd": "O", "none": "N"}[line.parity],
        stopbits=line.stopbits,
        handle_local_echo=line.echo,
        timeout_connect=timeout,
    )


def _switch_direction(transport: Any) -> None:  # noqa: ANN401 - pymodbus's serial transport has no public type
    """Let the kernel raise RTS while it sends. Raises ValueError or OSError if it cannot."""
    rs485 = importlib.import_module("serial.rs485")
    transport.sync_serial.rs485_mode = rs485.RS485Settings()


def _tls_context(options: TlsOptions) -> ssl.SSLContext:
    """TLS 1.2 or newer, the device's name verified (MODBUS/TCP Security V36)."""
    context = ssl.create_default_context(cafile=options.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if options.cert is not None:
        context.load_cert_chain(options.cert, options.key)
    return context
