"""Answers one Modbus request PDU from a bank (MODBUS Application Protocol V1.1b3, 6)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from twinbridge_simulators.registers import ExceptionCode, Refused, RegisterBank, Table

READ_TABLES = {1: Table.COIL, 2: Table.DISCRETE, 3: Table.HOLDING, 4: Table.INPUT}
WRITE_TABLES = {5: Table.COIL, 6: Table.HOLDING, 15: Table.COIL, 16: Table.HOLDING}
MOST_READ_BITS, MOST_READ_REGISTERS = 2000, 125
MOST_WRITTEN_BITS, MOST_WRITTEN_REGISTERS = 1968, 123
MOST_EXCHANGED_REGISTERS = 121
COIL_ON = 0xFF00
_ASCII_BITS = bytes([48] + [49] * 255)


class Touched(NamedTuple):
    """Cells that a request reads or writes."""

    table: Table
    address: int
    length: int


def respond(bank: RegisterBank, pdu: bytes) -> bytes:
    """The response PDU; a refused request becomes an exception response."""
    function = pdu[0]
    answer = _FUNCTIONS.get(function)
    if answer is None:
        return exception(function, ExceptionCode.ILLEGAL_FUNCTION)
    try:
        return answer(bank, pdu)
    except Refused as refused:
        return exception(function, refused.code)
    except (struct.error, IndexError):
        return exception(function, ExceptionCode.ILLEGAL_VALUE)


def exception(function: int, code: int) -> bytes:
    return bytes((function | 0x80, code))


def touched(pdu: bytes) -> Iterator[Touched]:
    """Which cells a well-formed request concerns."""
    function = pdu[0]
    if table := READ_TABLES.get(function):
        address, count = struct.unpack_from(">HH", pdu, 1)
        yield Touched(table, address, count)
    elif function in {5, 6, 22}:
        (address,) = struct.unpack_from(">H", pdu, 1)
        yield Touched(WRITE_TABLES.get(function, Table.HOLDING), address, 1)
    elif function in {15, 16}:
        address, count = struct.unpack_from(">HH", pdu, 1)
        yield Touched(WRITE_TABLES[function], address, count)
    elif function == 23:  # noqa: PLR2004 - the function's number is its name
        read, count, write, written = struct.unpack_from(">HHHH", pdu, 1)
        yield Touched(Table.HOLDING, read, count)
        yield Touched(Table.HOLDING, write, written)


def _read_registers(bank: RegisterBank, pdu: bytes) -> bytes:
    function, address, count = struct.unpack(">BHH", pdu)
    _check(count, bank.most_registers)
    cells = bank.read(READ_TABLES[function], address, count)
    return bytes((function, len(cells))) + cells


def _read_bits(bank: RegisterBank, pdu: bytes) -> bytes:
    function, address, count = struct.unpack(">BHH", pdu)
    _check(count, MOST_READ_BITS)
    cells = bank.read(READ_TABLES[function], address, count)
    packed = int(cells[::-1].translate(_ASCII_BITS), 2).to_bytes((count + 7) // 8, "little")
    return bytes((function, len(packed))) + packed


def _write_coil(bank: RegisterBank, pdu: bytes) -> bytes:
    _function, address, value = struct.unpack(">BHH", pdu)
    if value not in {0, COIL_ON}:
        raise Refused(ExceptionCode.ILLEGAL_VALUE)
    bank.write(Table.COIL, address, (int(value == COIL_ON),))
    return pdu


def _write_register(bank: RegisterBank, pdu: bytes) -> bytes:
    _function, address, value = struct.unpack(">BHH", pdu)
    bank.write(Table.HOLDING, address, (value,))
    return pdu


def _write_coils(bank: RegisterBank, pdu: bytes) -> bytes:
    _function, address, count, size = struct.unpack_from(">BHHB", pdu)
    _check(count, MOST_WRITTEN_BITS)
    if size != (count + 7) // 8 or len(pdu) != 6 + size:
        raise Refused(ExceptionCode.ILLEGAL_VALUE)
    packed = int.from_bytes(pdu[6:], "little")
    bank.write(Table.COIL, address, [packed >> i & 1 for i in range(count)])
    return pdu[:5]


def _write_registers(bank: RegisterBank, pdu: bytes) -> bytes:
    _function, address, count, size = struct.unpack_from(">BHHB", pdu)
    _check(count, MOST_WRITTEN_REGISTERS)
    if size != 2 * count or len(pdu) != 6 + size:
        raise Refused(ExceptionCode.ILLEGAL_VALUE)
    bank.write(Table.HOLDING, address, struct.unpack(f">{count}H", pdu[6:]))
    return pdu[:5]


def _mask_write(bank: RegisterBank, pdu: bytes) -> bytes:
    _function, address, and_mask, or_mask = struct.unpack(">BHHH", pdu)
    (now,) = bank.get(Table.HOLDING, address)
    bank.write(Table.HOLDING, address, (now & and_mask | or_mask & ~and_mask & 0xFFFF,))
    return pdu


def _exchange(bank: RegisterBank, pdu: bytes) -> bytes:
    function, read, count, write, written, size = struct.unpack_from(">BHHHHB", pdu)
    _check(count, MOST_READ_REGISTERS)
    _check(written, MOST_EXCHANGED_REGISTERS)
    if size != 2 * written or len(pdu) != 10 + size:
        raise Refused(ExceptionCode.ILLEGAL_VALUE)
    bank.read(Table.HOLDING, read, count)
    bank.write(Table.HOLDING, write, struct.unpack(f">{written}H", pdu[10:]))
    cells = bank.read(Table.HOLDING, read, count)
    return bytes((function, len(cells))) + cells


def _identify(bank: RegisterBank, pdu: bytes) -> bytes:
    """Basic (1), regular (2), extended (3) and single (4) access; all of it fits one answer."""
    function, kind, code, first = struct.unpack(">BBBB", pdu)
    if kind != 0x0E or not bank.identification:  # noqa: PLR2004 - MEI type of device identification
        raise Refused(ExceptionCode.ILLEGAL_FUNCTION)
    last = {1: 0x02, 2: 0x7F, 3: 0xFF, 4: first}.get(code)
    if last is None:
        raise Refused(ExceptionCode.ILLEGAL_VALUE)
    objects = {i: t.encode() for i, t in bank.identification.items() if first <= i <= last}
    if not objects:
        raise Refused(ExceptionCode.ILLEGAL_ADDRESS)
    body = b"".join(bytes((i, len(text))) + text for i, text in sorted(objects.items()))
    return bytes((function, kind, code, 0x83, 0, 0, len(objects))) + body


def _check(count: int, most: int) -> None:
    if not 1 <= count <= most:
        raise Refused(ExceptionCode.ILLEGAL_VALUE)


_FUNCTIONS: dict[int, Callable[[RegisterBank, bytes], bytes]] = {
    1: _read_bits,
    2: _read_bits,
    3: _read_registers,
    4: _read_registers,
    5: _write_coil,
    6: _write_register,
    15: _write_coils,
    16: _write_registers,
    22: _mask_write,
    23: _exchange,
    43: _identify,
}
