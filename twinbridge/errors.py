"""Every error that TwinBridge raises on purpose.

TwinBridgeError
├── InvalidInput             what a person or a client gave is wrong; the message names the place
│   ├── InvalidDefinition    a resource (YAML or CR) is refused
│   ├── InvalidDesired       a desired value is refused: type, range, access
│   └── UnknownName          no such device, property, rule or alarm
├── Conflict                 the request is sound but cannot be done in the present state
│   ├── Interlocked          a standing trip holds the property
│   ├── StaleVersion         If-Match names a version that is not the current one
│   └── ResetRefused         the trip's condition is not clear, or another trip stands now
├── DeviceError              the device or the way to it failed
│   ├── LinkLost             the connection is gone: every device behind the link is lost
│   ├── NoResponse           this device did not answer; its link may be sound
│   ├── DeviceFault          the device answered that it has failed; try later
│   ├── DeviceBusy           the device asks to be asked again soon
│   └── WriteRejected        the device refuses this write; a repeat would be refused too
├── StoreUnavailable         the disk does not take what must be kept
└── Unreachable              the other side (agent, hub, broker) cannot be reached
"""

from __future__ import annotations


class TwinBridgeError(Exception):
    """The root; its text is written for the person who must act on it."""


class InvalidInput(TwinBridgeError):
    """What was given is wrong."""


class InvalidDefinition(InvalidInput):
    """A resource is refused."""


class InvalidDesired(InvalidInput):
    """A desired value is refused. `field` names it, `allowed` says what would be right."""

    def __init__(self, message: str, *, field: str, allowed: str) -> None:
        super().__init__(message)
        self.field = field
        self.allowed = allowed


class UnknownName(InvalidInput):
    """No such device, property, rule or alarm."""


class Conflict(TwinBridgeError):
    """Cannot be done in the present state."""


class Interlocked(Conflict):
    """A standing trip holds the property."""


class StaleVersion(Conflict):
    """The version named is not the current one."""


class ResetRefused(Conflict):
    """The trip may not be released now."""


class DeviceError(TwinBridgeError):
    """The device, or the way to it, failed. `kind` labels the metric."""

    kind = "device_error"


class LinkLost(DeviceError):
    """The connection is gone."""

    kind = "link_lost"


class NoResponse(DeviceError):
    """The device did not answer in time."""

    kind = "timeout"


class DeviceFault(DeviceError):
    """The device answered that it has failed."""

    kind = "device_fault"


class DeviceBusy(DeviceError):
    """The device asks to be asked again soon."""

    kind = "busy"


class WriteRejected(DeviceError):
    """The device refuses this write."""

    kind = "write_rejected"


class StoreUnavailable(TwinBridgeError):
    """The disk does not take what must be kept."""


class Unreachable(TwinBridgeError):
    """The other side cannot be reached."""


class HubUnavailable(Unreachable):
    """The hub, or a sink of telemetry, does not take it now; it may later.

    `retry_after` in seconds, where the other side said when.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class HubRefused(TwinBridgeError):
    """The hub, or a sink, does not take this as it is.

    `for_good`: it said that asking again is of no use.
    """

    def __init__(self, message: str, *, for_good: bool = False) -> None:
        super().__init__(message)
        self.for_good = for_good
