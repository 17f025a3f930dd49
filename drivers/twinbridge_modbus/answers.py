"""What a device answers instead of data, and what the client library raises, as our errors."""

from __future__ import annotations

from twinbridge.errors import DeviceBusy, DeviceError, DeviceFault, NoResponse, WriteRejected

# MODBUS Application Protocol V1.1b3, 7
_EXCEPTIONS: dict[int, tuple[type[DeviceError], str]] = {
    0x01: (WriteRejected, "illegal function (01)"),
    0x02: (WriteRejected, "illegal data address (02)"),
    0x03: (WriteRejected, "illegal data value (03)"),
    0x04: (DeviceFault, "server device failure (04)"),
    0x06: (DeviceBusy, "server device busy (06)"),
    0x08: (DeviceFault, "memory parity error (08)"),
    0x0A: (NoResponse, "gateway: path unavailable (0A)"),
    0x0B: (NoResponse, "gateway: target device failed to respond (0B)"),
}


class Acknowledged(DeviceBusy):
    """05: the device has accepted the request and works on it."""


def exception_answer(code: int, where: str) -> DeviceError:
    """The error for an exception code; a refusal of the request itself is a WriteRejected."""
    if code == 0x05:  # noqa: PLR2004 - the code's number is its name
        return Acknowledged(f"{where}: acknowledged, still working (05)")
    kind, text = _EXCEPTIONS.get(code, (DeviceFault, f"exception ({code:02X})"))
    return kind(f"{where}: {text}")
