"""Every transport against pymodbus's own servers, which know nothing of our exchange."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import uvloop
from modbus_rig import BOUND, connection, opened, point, run, values, word
from pty_line import serial_line
from pymodbus import FramerType
from pymodbus import exceptions as library
from pymodbus.framer import FramerRTU
from pymodbus.pdu import DecodePDU
from pymodbus.pdu.device import ModbusDeviceIdentification
from pymodbus.server import (
    ModbusSerialServer,
    ModbusTcpServer,
    ModbusTlsServer,
    ModbusUdpServer,
)
from pymodbus.simulator import DataType, SimData, SimDevice
from tls_files import make_certificates

from twinbridge.errors import DeviceError, LinkLost, NoResponse, WriteRejected
from twinbridge.ports import UNCHANGED
from twinbridge_modbus.link import ModbusLink
from twinbridge_modbus.wire import TRANSLATED, translate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


def device() -> SimDevice:
    """Unit 1: holding registers 0 to 99 hold 100 to 199."""
    held = [SimData(0, values=list(range(100, 200)), datatype=DataType.REGISTERS)]
    return SimDevice(id=1, simdata=held)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def serving(server: Any) -> AsyncIterator[None]:
    await server.serve_forever(background=True)
    try:
        yield
    finally:
        await server.shutdown()


async def works(wire: dict[str, Any]) -> None:
    """Reads, confirms, writes, reads back, and finds an address that is not there."""
    points = [word("a", 0, wire), word("b", 99, wire)]
    energy = point("energy", "float", wire, address=10, encoding="float32", order="CDAB")
    async with opened(wire) as link:
        assert await values(link, points) == {"a": 100, "b": 199}
        (request, _) = link.plan(points)
        await link.read(request)
        assert await link.read(request) is UNCHANGED
        await link.write(points[0], 65535)
        await link.write(energy, 1.5)
        assert [r.value for r in (await link.read(request)).readings] == [65535]
        assert await values(link, [energy]) == {"energy": 1.5}
        with pytest.raises(WriteRejected, match=r"\(02\)"):
            await link.write(word("c", 5000, wire), 1)


def test_tcp() -> None:
    async def test() -> None:
        port = free_port()
        async with serving(ModbusTcpServer(device(), address=("127.0.0.1", port))):
            await works(connection(port))

    run(test())


def test_rtu_over_tcp() -> None:
    async def test() -> None:
        port = free_port()
        server = ModbusTcpServer(device(), framer=FramerType.RTU, address=("127.0.0.1", port))
        async with serving(server):
            await works(connection(port, transport="rtuOverTcp"))

    run(test())


def test_a_late_rtu_answer_never_becomes_another_points_value() -> None:
    """RTU frames carry no transaction: only a new socket keeps them apart."""
    framer = FramerRTU(DecodePDU(True))
    connections = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        first = connections == 1
        try:
            while asked := await reader.read(8):
                if first:
                    # kept back until the next request comes, or the socket is gone
                    await reader.read(8)
                address = int.from_bytes(asked[2:4], "big")
                writer.write(framer.encode(b"\x03\x02" + address.to_bytes(2, "big"), 1, 0))
        finally:
            writer.close()

    async def test() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            wire = connection(server.sockets[0].getsockname()[1], transport="rtuOverTcp")
            async with opened(wire) as link:
                one, other = link.plan([word("a", 111, wire), word("b", 222, wire)])
                with pytest.raises(NoResponse):
                    await link.read(one)
                assert [r.value for r in (await link.read(other)).readings] == [222]
                assert [r.value for r in (await link.read(one)).readings] == [111]

    run(test())


def test_a_device_says_who_it_is() -> None:
    async def test() -> None:
        port = free_port()
        identity = ModbusDeviceIdentification(
            info_name={"VendorName": "Acme", "ProductCode": "P7", "MajorMinorRevision": "1.2"}
        )
        address = ("127.0.0.1", port)
        server = ModbusTcpServer(device(), identity=identity, address=address)
        async with serving(server), opened(connection(port)) as link:
            assert isinstance(link, ModbusLink)
            found = await link.identify(1)
        assert found == {"vendor": "Acme", "product": "P7", "revision": "1.2"}

    run(test())


def test_tcp_on_uvloop() -> None:
    async def test() -> None:
        port = free_port()
        async with serving(ModbusTcpServer(device(), address=("127.0.0.1", port))):
            await works(connection(port))

    uvloop.run(asyncio.wait_for(test(), BOUND))


def test_udp() -> None:
    async def test() -> None:
        port = free_port(socket.SOCK_DGRAM)
        async with serving(ModbusUdpServer(device(), address=("127.0.0.1", port))):
            await works(connection(port, transport="udp"))

    run(test())


def test_udp_to_nobody_is_a_device_error() -> None:
    async def test() -> None:
        wire = connection(free_port(socket.SOCK_DGRAM), transport="udp")
        with pytest.raises((LinkLost, NoResponse)):
            async with opened(wire) as link:
                await values(link, [word("a", 0, wire)])

    run(test())


def _server_tls(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "plc.pem", folder / "plc.key")
    context.load_verify_locations(folder / "authority.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_tls_with_a_client_certificate(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    options = {
        "ca": str(tmp_path / "authority.pem"),
        "cert": str(tmp_path / "client.pem"),
        "key": str(tmp_path / "client.key"),
        "serverName": "plc",
    }

    async def test() -> None:
        port = free_port()
        address = ("127.0.0.1", port)
        server = ModbusTlsServer(
            device(), framer=FramerType.SOCKET, address=address, sslctx=_server_tls(tmp_path)
        )
        async with serving(server):
            await works(connection(port, transport="tls", tls=options, timeout="2s"))
            wrong = connection(port, transport="tls", tls=options | {"serverName": "other"})
            with pytest.raises(LinkLost, match="other"):
                async with opened(wrong):
                    pass

    run(test())


def test_a_missing_certificate_file_is_said(tmp_path: Path) -> None:
    async def test() -> None:
        wire = connection(802, transport="tls", tls={"ca": str(tmp_path / "absent.pem")})
        with pytest.raises(LinkLost, match="No such file"):
            async with opened(wire):
                pass

    run(test())


def test_serial_rtu() -> None:
    async def test() -> None:
        with serial_line() as (ours, theirs):
            server = ModbusSerialServer(device(), port=theirs, baudrate=19200)
            async with serving(server):
                line = {"device": ours, "baudrate": 19200, "parity": "none"}
                await works(connection(transport="serial", serial=line, timeout="1s"))

    run(test())


def test_a_serial_device_that_is_not_there_is_said() -> None:
    async def test() -> None:
        wire = connection(transport="serial", serial={"device": "/dev/absent"})
        with pytest.raises(LinkLost, match="/dev/absent"):
            async with opened(wire):
                pass

    run(test())


def test_every_exception_of_the_library_is_translated() -> None:
    grown = {
        kind
        for kind in vars(library).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    }
    assert grown == set(TRANSLATED)
    for kind, ours in TRANSLATED.items():
        assert type(translate(kind("why"), "plc")) is ours
        assert issubclass(ours, DeviceError)
