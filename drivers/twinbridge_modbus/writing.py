"""The PDUs of writing and of identification (MODBUS Application Protocol V1.1b3, 6.5 to 6.21)."""

from __future__ import annotations

import struct

from twinbridge_modbus.address import BoundAddress

IDENTIFY = bytes((43, 14, 1, 0))
_OBJECTS = {0: "vendor", 1: "product", 2: "revision"}
_MASK_WRITE, _READ_WRITE = 22, 23


def write(where: BoundAddress, raw: bytes) -> bytes:
    """Function 5 or 6 for one address, 15 or 16 for more, unless the address names another."""
    function = where.model.write_function
    if where.table == "coil":
        if function == "multiple":
            return struct.pack(">BHHB", 15, where.address, 1, 1) + raw
        return struct.pack(">BHH", 5, where.address, 0xFF00 if raw[0] else 0)
    if function == "readWrite":
        place = (where.address, where.count)
        return struct.pack(">BHHHHB", _READ_WRITE, *place, *place, len(raw)) + raw
    if where.count == 1 and function != "multiple":
        return struct.pack(">BH", 6, where.address) + raw
    return struct.pack(">BHHB", 16, where.address, where.count, len(raw)) + raw


def mask_write(address: int, and_mask: int, or_mask: int) -> bytes:
    return struct.pack(">BHHH", _MASK_WRITE, address, and_mask, or_mask)


def acknowledges(request: bytes, answer: bytes) -> bool:
    """Whether an answer echoes what the function says it must."""
    match request[0]:
        case 15 | 16:
            return answer == request[:5]
        case 23:
            size = request[9]
            return len(answer) == size + 2 and answer[1] == size
        case _:
            return answer == request


def identification(answer: bytes) -> dict[str, str]:
    """Basic device identification. Raises ValueError for an answer cut short."""
    found: dict[str, str] = {}
    try:
        position = 7
        for _ in range(answer[6]):
            number, length = answer[position], answer[position + 1]
            text = answer[position + 2 : position + 2 + length]
            if len(text) != length:
                raise ValueError("the identification is cut short")
            found[_OBJECTS.get(number, str(number))] = text.decode("latin-1")
            position += 2 + length
    except IndexError:
        raise ValueError("the identification is cut short") from None
    return found
