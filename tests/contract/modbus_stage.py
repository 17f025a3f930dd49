"""Modbus machines for `DriverContract`: a unit each, behind one server."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from twinbridge.core.model import Value
from twinbridge.ports import Driver
from twinbridge.testing.driver_contract import Cell, Mistake, Traits
from twinbridge_modbus import driver, link
from twinbridge_simulators.faults import FaultKind, fault
from twinbridge_simulators.modbus_server import ModbusServer
from twinbridge_simulators.registers import ExceptionCode, Refused, RegisterBank, Table

FLOAT32_MAX, FLOAT32_LEAST = 3.4028234663852886e38, 1.401298464324817e-45
FLOAT64_MAX, FLOAT64_LEAST = 1.7976931348623157e308, 5e-324
TEXT = 8
"""Registers of the text."""


@dataclass(frozen=True, slots=True)
class Place:
    """A cell with its bytes: how a value lies in the registers, in words of the wire."""

    cell: Cell
    table: Table
    address: int
    words: int
    pack: Callable[[Value], bytes]
    unpack: Callable[[bytes], Value]


def registers(
    name: str, kind: str, encoding: str, address: int, form: str, *values: Value
) -> Place:
    """Struct's format says how it lies on the wire."""
    block = {"table": "holding", "address": address, "encoding": encoding}
    packer = struct.Struct(form)
    return Place(
        Cell(name, kind, block, values),
        Table.HOLDING,
        address,
        packer.size // 2,
        packer.pack,
        lambda raw: packer.unpack(raw)[0],
    )


def bit(name: str, table: Table, address: int, *, writable: bool) -> Place:
    block = {"table": str(table), "address": address}
    cell = Cell(name, "bool", block, (False, True), writable)
    return Place(cell, table, address, 1, lambda v: bytes((bool(v),)), lambda raw: bool(raw[0]))


def bcd(name: str, address: int, digits: int) -> Place:
    block = {"table": "holding", "address": address, "encoding": f"bcd{4 * digits}"}
    return Place(
        Cell(name, "int", block, (0, 10**digits - 1, int("1234567890"[:digits]))),
        Table.HOLDING,
        address,
        digits // 4,
        lambda value: bytes.fromhex(f"{value:0{digits}d}"),
        lambda raw: int(raw.hex()),
    )


def swapped(name: str, address: int) -> Place:
    """The low word first, as many PLCs do."""

    def turn(raw: bytes) -> bytes:
        return raw[2:] + raw[:2]

    block = {"table": "holding", "address": address, "encoding": "int32", "order": "CDAB"}
    return Place(
        Cell(name, "int", block, (0x01020304, -(2**31), 2**31 - 1)),
        Table.HOLDING,
        address,
        2,
        lambda value: turn(struct.pack(">i", value)),
        lambda raw: struct.unpack(">i", turn(raw))[0],
    )


def text(name: str, address: int) -> Place:
    block = {"table": "holding", "address": address, "encoding": "string", "length": TEXT}
    return Place(
        Cell(name, "string", block, ("motor 1", "", "x" * 2 * TEXT, "ä°µ")),
        Table.HOLDING,
        address,
        TEXT,
        lambda value: str(value).encode("latin-1").ljust(2 * TEXT, b"\0"),
        lambda raw: raw.rstrip(b"\0").decode("latin-1"),
    )


def scaled(name: str, address: int) -> Place:
    """In tenths from -273.15: numbers that no double holds exactly."""
    scale = {"encoding": "int16", "scale": 0.1, "offset": -273.15}
    return Place(
        Cell(
            name,
            "float",
            {"table": "holding", "address": address, **scale},
            (3.35, -3549.95, 3003.55),
        ),
        Table.HOLDING,
        address,
        1,
        lambda value: struct.pack(">h", round((float(value) + 273.15) * 10)),
        lambda raw: round(struct.unpack(">h", raw)[0] / 10 - 273.15, 2),
    )


def read_only(name: str, address: int) -> Place:
    block = {"table": "input", "address": address, "encoding": "uint16"}
    packer = struct.Struct(">H")
    return Place(
        Cell(name, "int", block, (7, 0, 65535), writable=False),
        Table.INPUT,
        address,
        1,
        packer.pack,
        lambda raw: packer.unpack(raw)[0],
    )


PLACES = (
    registers("temperature", "float", "float32", 0, ">f", 20.0, 91.5, FLOAT32_MAX, FLOAT32_LEAST),
    registers("speed", "int", "uint16", 2, ">H", 10, 0, 65535),
    bit("run", Table.COIL, 0, writable=True),
    bit("door", Table.DISCRETE, 0, writable=False),
    registers("short", "int", "int16", 3, ">h", 1, -(2**15), 2**15 - 1),
    registers("long", "int", "int32", 4, ">i", 1, -(2**31), 2**31 - 1),
    registers("count", "int", "uint32", 6, ">I", 1, 0, 2**32 - 1),
    registers("energy", "int", "int64", 8, ">q", 1, -(2**63), 2**63 - 1),
    registers("serial", "int", "uint64", 12, ">Q", 1, 0, 2**64 - 1),
    registers("ratio", "float", "float64", 16, ">d", 0.1, -FLOAT64_MAX, FLOAT64_MAX, FLOAT64_LEAST),
    bcd("digits", 20, 4),
    bcd("odometer", 21, 8),
    swapped("position", 23),
    text("label", 25),
    scaled("level", 40),
    read_only("voltage", 100),
)


class ModbusStage:
    """`async with` starts the server."""

    driver: Driver = driver
    traits = Traits(
        client_libraries=("pymodbus", "serial"), stations=3, notices=2.0, nan="temperature"
    )
    cells: Sequence[Cell] = tuple(place.cell for place in PLACES)
    mistakes = (
        Mistake("float", {"table": "coil", "address": 1}, "bool"),
        Mistake("int", {"table": "holding", "address": 1}, "encoding"),
        Mistake(
            "int",
            {"table": "input", "address": 1, "encoding": "int16"},
            "input",
            writable=True,
        ),
    )

    def __init__(self) -> None:
        self._places = {place.cell.name: place for place in PLACES}
        self._banks = [_Unit() for _ in range(self.traits.stations)]
        units = {n + 1: unit.bank for n, unit in enumerate(self._banks)}
        self._server = ModbusServer("127.0.0.1", 0, dict(units))
        self._probe_after = link.PROBE_AFTER

    async def __aenter__(self) -> Self:
        for station in range(self.traits.stations):
            for cell in self.cells:
                await self.set(cell.name, cell.values[0], station)
        link.PROBE_AFTER = 0.2  # seconds; a refused address is asked for again after a minute
        await self._server.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        link.PROBE_AFTER = self._probe_after
        await self._server.__aexit__(kind, error, trace)

    @property
    def port(self) -> int:
        return self._server.port

    def connection(self, port: int, station: int) -> Mapping[str, object]:
        return {"host": "127.0.0.1", "port": port, "unit": station + 1, "timeout": "500ms"}

    async def start(self) -> None:
        self._server.clear(fault(FaultKind.REFUSE))

    async def stop(self) -> None:
        self._server.inject(fault(FaultKind.REFUSE))

    async def set(self, name: str, value: Value, station: int = 0) -> None:
        place = self._places[name]
        self._banks[station].bank.put_raw(place.table, place.address, place.pack(value))

    async def value(self, name: str, station: int = 0) -> Value:
        place = self._places[name]
        return place.unpack(self._banks[station].bank.read(place.table, place.address, place.words))

    def writes(self, station: int = 0) -> Sequence[tuple[str, Value]]:
        return self._banks[station].writes

    async def refuse(self, name: str) -> None:
        self._banks[0].refused.add(name)

    async def ignore(self, name: str) -> None:
        place = self._places[name]
        self._banks[0].ignored[name] = place.pack(await self.value(name))

    async def fail(self, name: str) -> None:
        place = self._places[name]
        where = {"unit": 1, "table": place.table, "address": place.address}
        self._server.inject(fault(FaultKind.EXCEPTION, code=2, **where))

    async def doubt(self, name: str) -> None:
        raise NotImplementedError("Modbus knows no uncertain value")

    async def mute(self, station: int) -> None:
        self._server.inject(fault(FaultKind.SILENT, unit=station + 1))

    async def slow(self, seconds: float) -> None:
        self._server.inject(fault(FaultKind.SLOW, delay=seconds))

    async def heal(self) -> None:
        self._server.clear()
        self._banks[0].refused.clear()
        self._banks[0].ignored.clear()


class _Unit:
    """A unit's registers, with what was written to them."""

    def __init__(self) -> None:
        self.bank = RegisterBank()
        self.bank.on_write = self._written
        self.writes: list[tuple[str, Value]] = []
        self.refused: set[str] = set()
        self.ignored: dict[str, bytes] = {}

    def _written(self, table: Table, address: int, values: Sequence[int]) -> None:
        for place in PLACES:
            if place.table is not table or not address <= place.address < address + len(values):
                continue
            name = place.cell.name
            if name in self.refused:
                raise Refused(ExceptionCode.ILLEGAL_VALUE)
            raw = self.bank.read(table, place.address, place.words)
            self.writes.append((name, place.unpack(raw)))
            if name in self.ignored:
                self.bank.put_raw(table, place.address, self.ignored[name])
