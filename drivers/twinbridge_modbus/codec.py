"""A property and its address, compiled once into decode and encode.

    registers → raw → bit or field → scaled, labelled → value

and back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from twinbridge.core.model import PropertySpec, Value, ValueType
from twinbridge_modbus import raw as encodings
from twinbridge_modbus.config import ModbusAddress
from twinbridge_modbus.conversion import conversion
from twinbridge_modbus.raw import BadValue, Raw, RawCodec, Refused

__all__ = ["BadValue", "Codec", "Refused", "compile_codec", "complaints"]

LAST_ADDRESS = 65535
MAX_WRITE_REGISTERS = 123
MAX_READ_WRITE_REGISTERS = 121


@dataclass(frozen=True, slots=True)
class Codec:
    """Both directions of one property.

    `decode(registers, power)` raises BadValue; `power` is the content of the scale-factor
    register, 0 without one. `encode(value, power, current)` raises Refused; `current` holds the
    registers as they are, needed where `partial` says that the property is only some of their bits.
    """

    count: int
    decode: Callable[[bytes, int], Value]
    encode: Callable[[Value, int, bytes], bytes]
    partial: bool = False
    masks: Callable[[Value], tuple[int, int]] | None = None
    """(and, or) of function 22 for bits of a single register; raises Refused."""


def compile_codec(spec: PropertySpec, address: ModbusAddress) -> Codec:
    """Raises ValueError with every complaint that `complaints` has."""
    if wrong := list(complaints(spec, address)):
        raise ValueError("; ".join(wrong))
    base = _raw_codec(address)
    window = _window(address)
    take = _extraction(base, window, _invalid(base, address))
    to_value, to_raw = conversion(spec, address)

    def decode(registers: bytes, power: int) -> Value:
        return to_value(take(registers), power)

    if window is None:

        def encode(value: Value, power: int, _current: bytes) -> bytes:
            return base.encode(to_raw(value, power))

        return Codec(base.count, _fastest(spec, address, base, decode), encode)
    low, size = window

    def insert(value: Value, power: int, current: bytes) -> bytes:
        bits = _fitting(to_raw(value, power), size)
        kept = _integer(base.decode(current)) & ~(((1 << size) - 1) << low)
        return base.encode(kept | bits << low)

    def masks(value: Value) -> tuple[int, int]:
        number = _fitting(to_raw(value, 0), size)
        field = base.decode(base.encode(((1 << size) - 1) << low))
        return 0xFFFF & ~_integer(field), number << low

    # function 22 knows the register as it is on the wire, so only in the standard's byte order
    maskable = base.count == 1 and address.effective_order in ("ABCD", "CDAB")
    return Codec(base.count, decode, insert, partial=True, masks=masks if maskable else None)


def _fastest(
    spec: PropertySpec,
    address: ModbusAddress,
    base: RawCodec,
    general: Callable[[bytes, int], Value],
) -> Callable[[bytes, int], Value]:
    """Plain numbers, the bulk of every plant, need no steps after the first."""
    plain = address.scale is None and not address.offset and address.scale_factor is None
    if address.invalid_values or address.clamp or address.labels or not plain:
        return general
    if spec.type is ValueType.INT and _window(address) is None and base.packed is not None:
        unpack = base.packed.unpack
        return lambda registers, _power: unpack(registers)[0]
    if spec.type is ValueType.FLOAT and address.encoding in ("float32", "float64"):
        return lambda registers, _power: base.decode(registers)
    return general


def _raw_codec(address: ModbusAddress) -> RawCodec:  # noqa: PLR0911 - a table of encodings
    order = address.effective_order
    match address.encoding:
        case _ if address.place[0] in ("coil", "discrete"):
            return encodings.single_bit()
        case "bool":
            return encodings.truth()
        case "string":
            return encodings.text(order, address.length or 1, trim=address.trim)
        case "float32":
            return encodings.floating(order, 2)
        case "float64":
            return encodings.floating(order, 4)
        case "bcd16":
            return encodings.binary_coded(order, 1)
        case "bcd32":
            return encodings.binary_coded(order, 2)
        case "unixtime":
            return encodings.integer(order, 2, signed=False)
        case None:
            return encodings.integer(order, 1, signed=False)
        case name:
            count = int(name.removeprefix("u").removeprefix("int")) // 16
            signed = not name.startswith("u") and _window(address) is None
            return encodings.integer(order, count, signed=signed)


def _window(address: ModbusAddress) -> tuple[int, int] | None:
    """(lowest bit, number of bits) of a property that is part of a register."""
    if address.bit is not None:
        return address.bit, 1
    if address.field is not None:
        return address.field.low, address.field.high - address.field.low + 1
    return None


def _invalid(base: RawCodec, address: ModbusAddress) -> frozenset[Raw]:
    """0x8000 means -32768 to an int16: a pattern is folded to the number it encodes."""
    values = set(address.invalid_values)
    if base.lowest is not None and base.highest is not None and base.lowest < 0:
        span = base.highest - base.lowest + 1
        values |= {v - span for v in values if base.highest < v < span}
    return frozenset(values)


def _extraction(
    base: RawCodec, window: tuple[int, int] | None, invalid: frozenset[Raw]
) -> Callable[[bytes], Raw]:
    read = base.decode
    low, mask = (window[0], (1 << window[1]) - 1) if window else (0, 0)

    def take(registers: bytes) -> Raw:
        number = read(registers)
        if window is not None:
            number = _integer(number) >> low & mask
        if number in invalid:
            raise BadValue(f"raw value {number} means 'not available'")
        return number

    return take if window or invalid else read


def _integer(number: Raw) -> int:
    if not isinstance(number, int):
        raise BadValue(f"{number} has no bits")
    return number


def _fitting(number: Raw, size: int) -> int:
    if not isinstance(number, int) or not 0 <= number < 1 << size:
        raise Refused(f"{number} does not fit: allowed is 0 to {(1 << size) - 1}")
    return number


def complaints(spec: PropertySpec, address: ModbusAddress) -> Iterator[str]:
    """What is wrong between a property and its address, a sentence each."""
    table, first = address.place
    if spec.access.writable and table in ("discrete", "input"):
        yield f"table {table} cannot be written, but access is {spec.access}"
    if table in ("coil", "discrete"):
        yield from _bit_complaints(table, address)
    elif address.encoding is None and _window(address) is None:
        yield "encoding is missing: a register needs one, e.g. int16"
    yield from _type_complaints(spec, address)
    yield from _field_complaints(address)
    yield from _write_complaints(spec, address)
    if address.encoding == "string" and address.length is None:
        yield "length is missing: a string needs its number of registers"
    elif (last := first + _raw_codec(address).count - 1) > LAST_ADDRESS:
        yield f"the value ends at address {last}; the last address is {LAST_ADDRESS}"


def _write_complaints(spec: PropertySpec, address: ModbusAddress) -> Iterator[str]:
    function, count = address.write_function, _raw_codec(address).count
    if not spec.access.writable:
        return
    if function == "single" and count > 1:
        yield f"writeFunction single writes one register, the value has {count}"
    if function == "readWrite" and address.place[0] == "coil":
        yield "writeFunction readWrite is for registers; a coil has single or multiple"
    most = MAX_READ_WRITE_REGISTERS if function == "readWrite" else MAX_WRITE_REGISTERS
    if count > most:
        yield f"the value has {count} registers, a write carries at most {most}"


def _bit_complaints(table: str, address: ModbusAddress) -> Iterator[str]:
    if address.encoding not in (None, "bool"):
        yield f"encoding {address.encoding} needs registers; a {table} is a bool"
    if address.bit is not None or address.field is not None:
        yield f"bit and field are parts of a register; a {table} has none"


def _type_complaints(spec: PropertySpec, address: ModbusAddress) -> Iterator[str]:
    one_bit = address.place[0] in ("coil", "discrete") or address.encoding == "bool"
    one_bit = one_bit or address.bit is not None
    if address.labels is not None:
        if spec.type is not ValueType.STRING:
            yield f"labels give a string, but type is {spec.type}"
        if address.encoding in ("string", "float32", "float64", "unixtime"):
            yield f"labels name whole numbers, but encoding is {address.encoding}"
    elif spec.type is ValueType.BOOL and not one_bit:
        yield "type bool needs a coil, a discrete input, a bit, or encoding bool"
    elif spec.type is ValueType.STRING and address.encoding not in ("string", "unixtime"):
        yield "type string needs encoding string or unixtime, or labels"
    elif spec.type is not ValueType.STRING and address.encoding == "string":
        yield f"encoding string gives a string, but type is {spec.type}"
    elif spec.type is ValueType.INT and address.encoding in ("float32", "float64"):
        yield f"encoding {address.encoding} gives fractions: type must be float"
    elif spec.type in (ValueType.INT, ValueType.FLOAT) and one_bit:
        yield f"one bit gives a bool, but type is {spec.type}; use field for a number"
    yield from _scale_complaints(spec, address)


def _scale_complaints(spec: PropertySpec, address: ModbusAddress) -> Iterator[str]:
    scaled = address.scale is not None or address.offset or address.scale_factor is not None
    numeric = spec.type in (ValueType.INT, ValueType.FLOAT)
    if scaled and not numeric:
        yield f"scale, offset and scaleFactor need a number, but type is {spec.type}"
    if address.scale is not None and not 1e-30 <= abs(address.scale) <= 1e30:  # noqa: PLR2004 - far beyond any unit
        yield "scale must be between 1e-30 and 1e30, or the same below zero"
    if not math.isfinite(address.offset):
        yield "offset must be a finite number"
    whole = address.offset.is_integer() and (address.scale is None or address.scale.is_integer())
    if spec.type is ValueType.INT and (not whole or address.scale_factor is not None):
        yield "a fractional scale or offset, or a scaleFactor, gives fractions: type must be float"
    if address.scale_factor is not None and address.place[0] in ("coil", "discrete"):
        yield "scaleFactor needs a property in registers"
    if address.clamp and (not numeric or (spec.minimum is None and spec.maximum is None)):
        yield "clamp needs a number with a minimum or a maximum"


def _field_complaints(address: ModbusAddress) -> Iterator[str]:
    window = _window(address)
    if address.bit is not None and address.field is not None:
        yield "give bit or field, not both"
    whole = (None, "int16", "uint16", "int32", "uint32", "int64", "uint64")
    if window is not None and address.encoding not in whole:
        yield f"bit and field need an integer encoding, not {address.encoding}"
    elif window is not None:
        bits = int((address.encoding or "uint16").removeprefix("u").removeprefix("int"))
        if sum(window) > bits:
            yield f"bit {sum(window) - 1} is outside the {bits} bits of the value"
    if address.length is not None and address.encoding != "string":
        yield "length is for encoding string"
    if address.encoding == "string" and address.effective_order in ("CDAB", "DCBA"):
        yield "the registers of a string are in order: use order ABCD or BADC"
    if address.labels is not None and len(set(address.labels.values())) < len(address.labels):
        yield "two labels are the same"
