"""Registers ↔ raw values: numbers, BCD and strings in every byte and word order.

Registers travel as bytes, high byte first (MODBUS Application Protocol V1.1b3, 4.2). An order
names the bytes of 32 bits: ABCD as the standard has it, CDAB with words exchanged, BADC with
the bytes of each word exchanged, DCBA both. 64 bits are alike; 16 bits know only the byte order.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from twinbridge_modbus.config import Order

Raw: TypeAlias = int | float | str
Endian: TypeAlias = Literal["big", "little"]


class BadValue(ValueError):
    """The registers hold no valid value; the text says why."""


class Refused(ValueError):
    """A value cannot be written; the text says why and what is allowed."""


@dataclass(frozen=True, slots=True)
class RawCodec:
    """One encoding in one order. `decode` takes 2 * `count` bytes and may raise BadValue.

    `encode` gives as many bytes, and raises Refused naming the range when the value is outside.
    `lowest` and `highest` bound an integer encoding.
    """

    count: int
    decode: Callable[[bytes], Raw]
    encode: Callable[[Raw], bytes]
    lowest: int | None = None
    highest: int | None = None
    packed: struct.Struct | None = None
    """Set where decoding is nothing but this."""


def exchange_bytes(raw: bytes) -> bytes:
    """Exchange the two bytes of each register."""
    exchanged = bytearray(raw)
    exchanged[::2], exchanged[1::2] = raw[1::2], raw[::2]
    return bytes(exchanged)


def _ordered(order: Order, count: int) -> tuple[bool, Endian]:
    """Whether to exchange bytes first, and how to read the result."""
    if count == 1:
        return False, "little" if order in ("BADC", "DCBA") else "big"
    return order in ("CDAB", "BADC"), "little" if order in ("CDAB", "DCBA") else "big"


_SHAPES: dict[tuple[int, bool], str] = {
    (1, False): "H",
    (1, True): "h",
    (2, False): "I",
    (2, True): "i",
    (4, False): "Q",
    (4, True): "q",
}


def _numbers(
    shape: str, order: Order, count: int
) -> tuple[Callable[[bytes], Raw], Callable[[Raw], bytes], struct.Struct | None]:
    exchange, endian = _ordered(order, count)
    packed = struct.Struct((">" if endian == "big" else "<") + shape)

    def decode(raw: bytes) -> Raw:
        number: Raw = packed.unpack(raw)[0]
        return number

    def decode_exchanged(raw: bytes) -> Raw:
        number: Raw = packed.unpack(exchange_bytes(raw))[0]
        return number

    def encode(number: Raw) -> bytes:
        return packed.pack(number)

    def encode_exchanged(number: Raw) -> bytes:
        return exchange_bytes(packed.pack(number))

    if exchange:
        return decode_exchanged, encode_exchanged, None
    return decode, encode, packed


def _within(number: Raw, lowest: int, highest: int) -> None:
    if not isinstance(number, int) or not lowest <= number <= highest:
        raise Refused(f"raw value {number} does not fit: allowed is {lowest} to {highest}")


def integer(order: Order, count: int, *, signed: bool) -> RawCodec:
    """16, 32 or 64 bits, two's complement if signed."""
    bits = 16 * count
    lowest, highest = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    decode, pack, packed = _numbers(_SHAPES[count, signed], order, count)

    def encode(number: Raw) -> bytes:
        _within(number, lowest, highest)
        return pack(number)

    return RawCodec(count, decode, encode, lowest, highest, packed)


def floating(order: Order, count: int) -> RawCodec:
    """IEEE 754 with 32 or 64 bits. NaN and the infinities are bad."""
    read, pack, _ = _numbers("f" if count == 2 else "d", order, count)  # noqa: PLR2004 - two registers

    def decode(raw: bytes) -> Raw:
        number = read(raw)
        if not math.isfinite(number):  # type: ignore[arg-type]  # the shape is f or d
            raise BadValue(f"the device sends {number}")
        return number

    def encode(number: Raw) -> bytes:
        try:
            return pack(number)
        except OverflowError:
            raise Refused(
                f"{number} does not fit: float{16 * count} holds ±3.4028234663852886e38"
            ) from None

    return RawCodec(count, decode, encode)


def binary_coded(order: Order, count: int) -> RawCodec:
    """Four bits per decimal digit. A digit above 9 is bad."""
    decode_bits, pack, _ = _numbers(_SHAPES[count, False], order, count)
    highest = 10 ** (4 * count) - 1

    def decode(raw: bytes) -> Raw:
        digits = f"{decode_bits(raw):x}"
        if not digits.isdecimal():
            raise BadValue(f"0x{digits} is not BCD")
        return int(digits)

    def encode(number: Raw) -> bytes:
        _within(number, 0, highest)
        return pack(int(str(number), 16))

    return RawCodec(count, decode, encode, 0, highest)


def text(order: Order, length: int, *, trim: bool) -> RawCodec:
    """Latin-1, two characters a register, filled with NUL; trimmed at NUL, and of blanks."""
    exchange = order in ("BADC", "DCBA")
    size = 2 * length

    def decode(raw: bytes) -> Raw:
        characters = (exchange_bytes(raw) if exchange else raw).decode("latin-1")
        return characters.split("\0", 1)[0].rstrip(" ") if trim else characters

    def encode(characters: Raw) -> bytes:
        try:
            raw = str(characters).encode("latin-1")
        except UnicodeEncodeError as error:
            raise Refused(f"{characters!r} has a character outside Latin-1") from error
        if len(raw) > size:
            raise Refused(f"{characters!r} does not fit: allowed are {size} characters")
        padded = raw.ljust(size, b"\0")
        return exchange_bytes(padded) if exchange else padded

    return RawCodec(length, decode, encode)


def truth() -> RawCodec:
    """A whole register as a bool: anything but zero is true."""

    def decode(raw: bytes) -> Raw:
        return int(any(raw))

    def encode(number: Raw) -> bytes:
        return b"\0\1" if number else b"\0\0"

    return RawCodec(1, decode, encode, 0, 1)


def single_bit() -> RawCodec:
    """A coil or discrete input, handed over as one byte 0 or 1."""

    def decode(raw: bytes) -> Raw:
        return raw[0]

    def encode(number: Raw) -> bytes:
        return b"\1" if number else b"\0"

    return RawCodec(1, decode, encode, 0, 1)
