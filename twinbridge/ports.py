"""The Protocols that adapters and drivers fill.

A driver author reads this file, `twinbridge.errors` and one driver.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from pydantic import BaseModel

from twinbridge.api.driver_models import DriverModels
from twinbridge.core.model import Point, Quality, Reason, Value


class Reading(NamedTuple):
    """What a driver says of one point. `source_time` is UTC ns, or None: the time of receipt."""

    point: Point
    value: Value | None
    quality: Quality = Quality.GOOD
    reason: Reason = Reason.NONE
    message: str = ""
    source_time: int | None = None


class ReadRequest(Protocol):
    """One request on the wire: the points that it covers, all of one device or gateway unit."""

    @property
    def points(self) -> Sequence[Point]: ...


@dataclass(frozen=True, slots=True)
class ReadResult:
    """`readings` holds only what differs from the last success of the same request.

    A point of the request that is not in `readings` is thereby confirmed: unchanged and good.
    `replan` asks for `plan()` to be called again, since the device refused part of the request.
    """

    readings: Sequence[Reading] = ()
    replan: bool = False


UNCHANGED = ReadResult()


class Link(Protocol):
    """One open connection to one endpoint. One task calls it, one call at a time.

    Raises only `twinbridge.errors.DeviceError`s. `LinkLost` ends the link: it is closed and
    opened anew. After any error the next success of a request delivers all its points again.
    """

    def plan(self, points: Sequence[Point]) -> Sequence[ReadRequest]:
        """Arrange points into as few requests as the device allows; pure, no I/O."""

    async def read(self, request: ReadRequest) -> ReadResult:
        """Do one request. A refused point becomes a bad Reading, never an exception."""

    async def write(self, point: Point, value: Value) -> None:
        """Write one point; returns once the device has acknowledged. Never retries a pulse."""


class Driver(DriverModels, Protocol):
    """One protocol. Importing a driver must not import its client library; `open` may."""

    def endpoint(self, connection: BaseModel) -> str:
        """Devices with equal endpoints share one Link, e.g. `modbus-tcp://10.0.0.5:502`."""

    def unit(self, connection: BaseModel) -> str:
        """Which station behind the endpoint; stations fail on their own. '' if there is one."""

    def open(self, connection: BaseModel) -> AbstractAsyncContextManager[Link]:
        """Connect. Raises LinkLost when the endpoint cannot be reached in time."""


class JournalEntry(NamedTuple):
    """An audit record; append-only. Wall time UTC ns, monotonic ns, boot id."""

    kind: str
    subject: str
    origin: str
    detail: dict[str, object]
    wall: int
    monotonic: int
    boot: str


@dataclass(frozen=True, slots=True)
class StoredDesired:
    """A desired value as it survives a restart. Times UTC ns."""

    device: str
    property: str
    value: Value
    version: int
    origin: str
    state: str
    message: str = ""
    accepted: int = 0
    valid_until: int | None = None
    spec: str = ""
    """Digest of the Device's own desired entry that this came from; '' for others."""


@dataclass(frozen=True, slots=True)
class StoredLatch:
    """A latched trip or alarm. `detail` is the alarm as it is shown, JSON-ready."""

    id: str
    rule: str
    device: str
    tripped: bool
    since: int
    detail: dict[str, object] = field(default_factory=dict)
