"""What a status code means for a value, and what an error of the library means for the link."""

from __future__ import annotations

from functools import lru_cache
from os import strerror

from asyncua.ua.status_codes import StatusCodes, get_name_and_doc
from asyncua.ua.uaerrors import UaError, UaStatusCodeError

from twinbridge.core.model import Quality, Reason
from twinbridge.errors import DeviceBusy, DeviceError, DeviceFault, LinkLost, NoResponse

_SEVERITY_SHIFT = 30
_UNCERTAIN = 1
OVERFLOW = 0x480
"""Info type DataValue with the overflow bit: the server's queue lost a value before this one."""
_CODE = 0xFFFF0000
"""Without the info bits, which say no more of the value's quality."""

_COMMUNICATION = frozenset(
    {
        StatusCodes.BadCommunicationError,
        StatusCodes.BadNoCommunication,
        StatusCodes.BadNotConnected,
        StatusCodes.BadConnectionClosed,
        StatusCodes.BadServerNotConnected,
        StatusCodes.BadOutOfService,
        StatusCodes.BadShutdown,
        StatusCodes.BadTimeout,
    }
)
_NOTHING_YET = frozenset(
    {
        StatusCodes.BadWaitingForInitialData,
        StatusCodes.BadNoData,
        StatusCodes.BadDataUnavailable,
        StatusCodes.BadNodeIdUnknown,
        StatusCodes.BadNodeIdInvalid,
        StatusCodes.BadNoMatch,
        StatusCodes.BadNotReadable,
        StatusCodes.BadUserAccessDenied,
        StatusCodes.BadAttributeIdInvalid,
        StatusCodes.BadIndexRangeNoData,
        StatusCodes.BadIndexRangeInvalid,
    }
)
_RANGE = frozenset(
    {
        StatusCodes.BadOutOfRange,
        StatusCodes.UncertainEngineeringUnitsExceeded,
        StatusCodes.UncertainSensorNotAccurate,
    }
)
_STALE = frozenset(
    {
        StatusCodes.UncertainLastUsableValue,
        StatusCodes.UncertainNoCommunicationLastUsableValue,
    }
)
_SESSION_OVER = frozenset(
    {
        StatusCodes.BadSubscriptionIdInvalid,
        StatusCodes.BadSessionIdInvalid,
        StatusCodes.BadSessionClosed,
        StatusCodes.BadSessionNotActivated,
        StatusCodes.BadSecureChannelClosed,
        StatusCodes.BadSecureChannelIdInvalid,
        StatusCodes.BadSecureChannelTokenUnknown,
        StatusCodes.BadConnectionClosed,
        StatusCodes.BadServerHalted,
        StatusCodes.BadShutdown,
        StatusCodes.BadTcpInternalError,
        StatusCodes.BadCommunicationError,
    }
)
_BUSY = frozenset({StatusCodes.BadTooManyPublishRequests, StatusCodes.BadServerTooBusy})

_WORDS = {
    StatusCodes.BadNodeIdUnknown: "the server has no such node",
    StatusCodes.BadNoMatch: "the server has no node at this path",
    StatusCodes.BadNotReadable: "the node cannot be read",
    StatusCodes.BadNotWritable: "the node cannot be written",
    StatusCodes.BadUserAccessDenied: "the server does not let this user",
    StatusCodes.BadTypeMismatch: "the node takes another type",
    StatusCodes.BadOutOfRange: "the value is out of the node's range",
    StatusCodes.BadWaitingForInitialData: "the server has no value yet",
    StatusCodes.BadSensorFailure: "the sensor has failed",
    StatusCodes.BadDeviceFailure: "the device behind the server has failed",
    StatusCodes.BadNotConnected: "the server has no connection to its device",
    StatusCodes.UncertainLastUsableValue: "the last value that was usable",
}


def bare(code: int) -> int:
    """The code without its info bits, as the library names it."""
    return code & _CODE


@lru_cache(maxsize=512)
def said(code: int) -> str:
    """`the server has no such node (BadNodeIdUnknown, 0x80340000)`."""
    name, doc = get_name_and_doc(code & _CODE)
    words = _WORDS.get(code & _CODE) or doc.rstrip(".")
    words = words[:1].lower() + words[1:] if words else "the server says"
    return f"{words} ({name}, 0x{code:08X})"


@lru_cache(maxsize=512)
def quality_of(code: int) -> tuple[Quality, Reason, str]:
    """By severity; the full code stays in the words. Good has no words."""
    severity = code >> _SEVERITY_SHIFT
    if not severity:
        return Quality.GOOD, Reason.NONE, ""
    bare = code & _CODE
    if bare in _STALE:
        reason = Reason.STALE
    elif bare in _RANGE:
        reason = Reason.OUT_OF_RANGE
    elif bare in _COMMUNICATION:
        reason = Reason.COMM_LOST
    elif bare in _NOTHING_YET:
        reason = Reason.NOT_READ
    else:
        reason = Reason.DEVICE_FAULT
    quality = Quality.UNCERTAIN if severity == _UNCERTAIN else Quality.BAD
    return quality, reason, said(code)


def translated(error: Exception, where: str) -> DeviceError:
    """The library's error as one of ours; `where` is the endpoint, for the message."""
    if isinstance(error, DeviceError):
        return error
    if isinstance(error, UaStatusCodeError):
        return of_status(error.code, where)
    if isinstance(error, TimeoutError):
        return NoResponse(f"{where}: no answer in time")
    if isinstance(error, UaError):
        return DeviceFault(f"{where}: the answer makes no sense: {error or type(error).__name__}")
    return LinkLost(f"{where}: {_words_of(error)}")


def of_status(code: int, where: str) -> DeviceError:
    if bare(code) == StatusCodes.BadTimeout:
        return NoResponse(f"{where}: {said(code)}")
    if bare(code) in _SESSION_OVER:
        return LinkLost(f"{where}: {said(code)}")
    if bare(code) in _BUSY:
        return DeviceBusy(f"{where}: {said(code)}")
    return DeviceFault(f"{where}: {said(code)}")


def _words_of(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return strerror(error.errno)
    return str(error) or type(error).__name__
