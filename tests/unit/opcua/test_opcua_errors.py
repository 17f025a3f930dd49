"""Status codes and errors of the library, in our words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncua.common.utils
import pytest
from asyncua import ua
from asyncua.ua import uaerrors
from asyncua.ua.status_codes import StatusCodes, code_to_name_doc

from twinbridge.core.model import Quality, Reason
from twinbridge.errors import DeviceBusy, DeviceError, DeviceFault, LinkLost, NoResponse
from twinbridge_opcua.status import quality_of, said, translated

if TYPE_CHECKING:
    from collections.abc import Iterator

assert asyncua.common.utils


def family(root: type[Exception]) -> Iterator[type[Exception]]:
    yield root
    for child in root.__subclasses__():
        yield from family(child)


def made(kind: type[Exception]) -> Exception:
    if kind is uaerrors.UaStatusCodeError or kind.__name__ == "ServiceError":
        return kind(StatusCodes.BadInternalError)
    if kind is uaerrors.UaStatusCodeErrors:
        return kind([StatusCodes.BadInternalError])
    return kind()


PLAIN = (OSError, ConnectionError, TimeoutError, ValueError, RuntimeError)


@pytest.mark.parametrize(
    "kind", [*dict.fromkeys(family(uaerrors.UaError)), *PLAIN], ids=lambda kind: kind.__name__
)
def test_every_error_of_the_library_becomes_one_of_ours(kind: type[Exception]) -> None:
    ours = translated(made(kind), "opcua://plc:4840")
    assert isinstance(ours, DeviceError)
    assert str(ours).startswith("opcua://plc:4840: ")
    assert len(str(ours)) > len("opcua://plc:4840: ")


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (uaerrors.BadTimeout(), NoResponse),
        (TimeoutError(), NoResponse),
        (uaerrors.BadSessionIdInvalid(), LinkLost),
        (uaerrors.BadSubscriptionIdInvalid(), LinkLost),
        (uaerrors.BadSecureChannelClosed(), LinkLost),
        (ConnectionResetError(104, "Connection reset by peer"), LinkLost),
        (uaerrors.BadServerTooBusy(), DeviceBusy),
        (uaerrors.BadInternalError(), DeviceFault),
    ],
)
def test_a_lost_link_is_told_from_a_failed_request(
    error: Exception, ours: type[DeviceError]
) -> None:
    assert type(translated(error, "x")) is ours


@pytest.mark.parametrize("code", sorted(code_to_name_doc))
def test_the_severity_of_a_code_is_the_quality_of_the_value(code: int) -> None:
    quality, reason, words = quality_of(code)
    assert quality is (Quality.GOOD, Quality.UNCERTAIN, Quality.BAD, Quality.BAD)[code >> 30]
    if quality is Quality.GOOD:
        assert (reason, words) == (Reason.NONE, "")
    else:
        assert reason is not Reason.NONE
        assert f"0x{code:08X}" in words
        assert ua.status_codes.get_name_and_doc(code)[0] in words


@pytest.mark.parametrize(
    ("code", "quality", "reason"),
    [
        (StatusCodes.UncertainLastUsableValue, Quality.UNCERTAIN, Reason.STALE),
        (StatusCodes.UncertainEngineeringUnitsExceeded, Quality.UNCERTAIN, Reason.OUT_OF_RANGE),
        (StatusCodes.BadNodeIdUnknown, Quality.BAD, Reason.NOT_READ),
        (StatusCodes.BadNoCommunication, Quality.BAD, Reason.COMM_LOST),
        (StatusCodes.BadSensorFailure, Quality.BAD, Reason.DEVICE_FAULT),
        (StatusCodes.BadWaitingForInitialData, Quality.BAD, Reason.NOT_READ),
    ],
)
def test_a_code_has_its_reason(code: int, quality: Quality, reason: Reason) -> None:
    assert quality_of(code)[:2] == (quality, reason)


def test_info_bits_change_neither_name_nor_reason() -> None:
    overflowed = StatusCodes.UncertainLastUsableValue | 0x480
    assert quality_of(overflowed)[:2] == (Quality.UNCERTAIN, Reason.STALE)
    assert said(overflowed).endswith("(UncertainLastUsableValue, 0x40900480)")
