"""Cuts requests out of a stream of bytes, and wraps answers: Modbus TCP, and RTU over TCP."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

MBAP_HEADER = 7
SHORTEST_MBAP_LENGTH, LONGEST_MBAP_LENGTH = 2, 254
RTU_FIXED = {1: 8, 2: 8, 3: 8, 4: 8, 5: 8, 6: 8, 22: 10, 43: 7}
"""Request lengths in bytes with unit and CRC, by function code."""
RTU_COUNTED = {15: 6, 16: 6, 23: 10}
"""Where the byte count of a request of variable length stands."""


class Framing(StrEnum):
    TCP = "tcp"
    RTU = "rtu"


class Unframed(Exception):
    """The bytes cannot be a request."""


class Request(NamedTuple):
    transaction: int
    unit: int
    pdu: bytes


def cut_tcp(buffer: bytes) -> tuple[Request | None, bytes]:
    """The first request and the rest of the buffer; (None, buffer) while it is incomplete."""
    if len(buffer) < MBAP_HEADER:
        return None, buffer
    length = buffer[4] << 8 | buffer[5]
    if buffer[2] | buffer[3] or not SHORTEST_MBAP_LENGTH <= length <= LONGEST_MBAP_LENGTH:
        raise Unframed
    end = 6 + length
    if len(buffer) < end:
        return None, buffer
    return Request(buffer[0] << 8 | buffer[1], buffer[6], buffer[7:end]), buffer[end:]


def cut_rtu(buffer: bytes) -> tuple[Request | None, bytes]:
    """As `cut_tcp`; a bad CRC is Unframed, since the stream has no gap to find the next start."""
    end = _rtu_length(buffer)
    if end is None or len(buffer) < end:
        return None, buffer
    if crc16(buffer[: end - 2]) != buffer[end - 2 : end]:
        raise Unframed
    return Request(0, buffer[0], buffer[1 : end - 2]), buffer[end:]


def _rtu_length(buffer: bytes) -> int | None:
    if len(buffer) < 2:  # noqa: PLR2004 - unit and function code
        return None
    function = buffer[1]
    if (fixed := RTU_FIXED.get(function)) is not None:
        return fixed
    if (counted := RTU_COUNTED.get(function)) is not None:
        return counted + 3 + buffer[counted] if len(buffer) > counted else None
    raise Unframed


def wrap_tcp(transaction: int, unit: int, pdu: bytes) -> bytes:
    return (transaction << 32 | len(pdu) + 1).to_bytes(6, "big") + bytes((unit,)) + pdu


def wrap_rtu(_transaction: int, unit: int, pdu: bytes) -> bytes:
    frame = bytes((unit,)) + pdu
    return frame + crc16(frame)


def crc16(frame: bytes) -> bytes:
    """Modbus over Serial Line V1.02, 6.2.2: low byte first."""
    crc = 0xFFFF
    for byte in frame:
        crc ^= byte
        for _bit in range(8):
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
    return crc.to_bytes(2, "little")
