"""The Protocols that adapters and drivers fill.

A driver author reads this file, `twinbridge.errors` and one driver.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

from pydantic import BaseModel

from twinbridge.api.driver_models import DriverModels
from twinbridge.api.wire import Json
from twinbridge.core.alarm import Alarm
from twinbridge.core.messages import Audit, Contact, Event, Outcome, Request, Samples
from twinbridge.core.model import DeviceSpec, Point, Quality, Reason, Sample, Value
from twinbridge.errors import DeviceError


class Reading(NamedTuple):
    """What a driver says of one point.

    `source_time` is UTC ns as the device gave it, or None: the time of receipt. `message` says
    of a value that is not good what a person needs to know of it.
    """

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

    @property
    def pushed(self) -> bool:
        """Whether the device tells these values by itself: `PushLink.samples` answers it.

        Such a request is not polled; `read` is asked of it only to see what a write has done.
        """


@dataclass(frozen=True, slots=True)
class ReadResult:
    """`readings` holds only what differs from the last success of the same request.

    A point of the request that is not in `readings` is thereby confirmed: unchanged and good.
    `replan` asks for `plan()` to be called again, since the device refused part of the request.

    Readings with a source time are taken in its order: an older one than the last is a replay
    and dropped. `current` says that the device gives its values of this moment, so that only a
    slightly older one is (an answer that another has overtaken), and a clock that was set back
    does not silence the device.
    """

    readings: Sequence[Reading] = ()
    replan: bool = False
    current: bool = False


UNCHANGED = ReadResult()


class Link(Protocol):
    """One open connection to one endpoint. One task calls it, one call at a time.

    Raises only `twinbridge.errors.DeviceError`s. `LinkLost` ends the link: it is closed and
    opened anew. After any error the next success of a request delivers all its points again.
    """

    def plan(self, points: Sequence[Point]) -> Sequence[ReadRequest]:
        """Arrange points into as few requests as the device allows; pure, no I/O."""

    async def read(self, request: ReadRequest) -> ReadResult:
        """Do one request. A refused point becomes a bad Reading, never an exception.

        Of a pushed request: what the device says of it now, or, where it cannot be asked, what
        it last said.
        """

    async def write(self, point: Point, value: Value) -> None:
        """Write one point; returns once the device has acknowledged. Never retries a pulse."""


class Push(NamedTuple):
    """What came by itself for a pushed request: an answer as `read` gives it, or its failure.

    As with a read, a point of the request that is not in `readings` is thereby confirmed:
    unchanged and good. Several readings of one point come in the order in which it had them.
    A DeviceError says that the request's device is lost; the next answer says that it is back.
    """

    request: ReadRequest
    result: ReadResult | DeviceError


class PushLink(Link, Protocol):
    """A link whose device speaks by itself: subscriptions, messages.

    `plan` marks what is pushed. A part that the device will not push is answered with `replan`
    set, and the next `plan` has it polled.
    """

    def follow(self, requests: Sequence[ReadRequest]) -> None:
        """Push these planned requests from now on, in place of those followed before; no I/O.

        Each of them is answered soon, if only with what is bad: a device takes no writes before
        all its requests were answered once.
        """

    def samples(self) -> AsyncIterator[Sequence[Push]]:
        """What comes, in batches, in order; consumed by one task while another calls the rest.

        Values that stay the same are confirmed at least once a second (or once per interval of
        the points, if that is longer) for as long as they are known to be current. Raises
        LinkLost when the connection ends, or is silent for longer than it may be.
        """


@runtime_checkable
class Cautious(Protocol):
    """A link that knows of trouble to come, such as a certificate that soon expires."""

    def cautions(self) -> Mapping[str, str]:
        """By a short name (`certificate-expiry`): what will happen when, for a person to read."""


class PlannedRead(NamedTuple):
    """One request as `twinbridge plan` shows it. Bytes are of whole frames on the wire."""

    where: str
    points: Sequence[Point]
    request_bytes: int
    response_bytes: int


class Driver(DriverModels, Protocol):
    """One protocol. Importing a driver must not import its client library; `open` may."""

    def endpoint(self, connection: BaseModel) -> str:
        """Devices with equal endpoints share one Link, e.g. `modbus-tcp://10.0.0.5:502`."""

    def unit(self, connection: BaseModel) -> str:
        """Which station behind the endpoint; stations fail on their own. '' if there is one."""

    def outline(self, points: Sequence[Point]) -> Sequence[PlannedRead]:
        """The requests that a link would do for these points of one scan class; no I/O."""

    def request_timeout(self, connection: BaseModel) -> int:
        """How long one request may take at most, ns, with a reconnect that it may need first."""

    def capacity(self, connection: BaseModel) -> float | None:
        """Bytes per second that the medium carries; None where it is no limit."""

    def open(self, connection: BaseModel) -> AbstractAsyncContextManager[Link]:
        """Connect. Raises LinkLost when the endpoint cannot be reached in time."""


class MachinesBus(Protocol):
    """The bus as the machines' process sees it."""

    def publish(self, event: Event) -> None:
        """Never blocks and never raises."""

    def serve(self, handler: Callable[[Request], Awaitable[None]]) -> None: ...


class AgentBus(Protocol):
    """The bus as the agent sees it."""

    def subscribe(self) -> AsyncIterator[Sequence[Event]]:
        """Everything published from now on, in batches."""

    async def request(self, request: Request) -> None:
        """Raises what the handler raised (an UnknownName or a Conflict), or Unreachable.

        What is begun is done, also when the asker is cancelled.
        """


class Bus(MachinesBus, AgentBus, Protocol):
    """Between the machines' process and the agent.

    A slow reader loses Samples of which a newer one of the same property exists (counted), and
    nothing else. Samples and Contacts come in order, and so do all others; between the two kinds
    no order is promised.
    """


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
    changed: int = 0
    valid_until: int | None = None
    spec: str = ""
    """What the Device's own desired entry said when it was last taken up, '' for never.

    A value of another origin keeps it, so that an unchanged entry is not taken up twice."""
    held: Value | None = None
    """What a trip wrote, until the Device desires something after its reset: only that may give the
    property another value."""
    released: int = 0
    """When the trip was reset, 0 while it stands."""


class HistoryRow(NamedTuple):
    """A recorded sample (minimum = average = maximum = value), or one step of an aggregate."""

    timestamp: int
    value: Value | None
    quality: str
    minimum: float | None = None
    average: float | None = None
    maximum: float | None = None
    samples: int = 1


@dataclass(frozen=True, slots=True)
class StoredState:
    """What a start finds on disk. `readable` False: the old file was damaged and is set aside."""

    desired: Sequence[StoredDesired] = ()
    alarms: Sequence[Alarm] = ()
    modes: Mapping[str, str] = field(default_factory=dict)
    reported: Mapping[str, Mapping[str, Sample]] = field(default_factory=dict)
    readable: bool = True
    boot: str = ""
    outcomes: Sequence[Outcome] = ()
    """Of a driver pod: what became of the last command for each property."""


class TwinStore(Protocol):
    """What must outlive the process.

    The `async` writers return once it is on disk; they raise StoreUnavailable when the disk does
    not take it. `record_*` never block, and may be up to 1 s behind.
    """

    async def load(self) -> StoredState: ...

    async def save_desired(self, *entries: StoredDesired, audit: Iterable[Audit] = ()) -> None:
        """With their audit records, in one commit."""

    async def forget_desired(self, device: str) -> None: ...

    async def save_alarm(self, alarm: Alarm, *audit: Audit) -> None:
        """Keep an alarm or latch, together with its audit records; one that is over is dropped."""

    async def save_mode(self, rule: str, mode: str, *audit: Audit) -> None: ...

    async def append_audit(self, *audit: Audit) -> None: ...

    async def audit(self, *, limit: int = 100, subject: str = "") -> Sequence[Audit]:
        """The newest records first."""

    def record_reported(self, device: str, samples: Sequence[tuple[str, Sample]]) -> None: ...

    def record_history(self, device: str, samples: Sequence[tuple[str, Sample]]) -> None: ...

    async def history(
        self, device: str, name: str, start: int, end: int, step: int = 0, limit: int = 10_000
    ) -> Sequence[HistoryRow]: ...

    @property
    def trouble(self) -> str:
        """Why writes fail now ('disk full: …'), or ''."""


class Actor(NamedTuple):
    """Who asks, over which way (`rest`, `mqtt`, `device` for the resource itself), from where."""

    name: str
    origin: str
    address: str = ""


class DesiredChanged(NamedTuple):
    """The desired side of a twin's property; `view` is None when it was withdrawn."""

    device: str
    property: str
    view: Json | None


class DefinitionsChanged(NamedTuple):
    """Devices by name: those that came or are defined anew, and those that went away."""

    changed: tuple[str, ...]
    removed: tuple[str, ...]


Change: TypeAlias = Samples | DesiredChanged | Contact | Alarm | DefinitionsChanged


class FellBehind(Exception):
    """What a follower has not seen yet is no longer kept: it must look at everything anew."""


class TwinView(NamedTuple):
    """A twin as it stands. `samples` by property, of those that can be read. Times UTC ns."""

    spec: DeviceSpec
    samples: Mapping[str, Sample]
    connected: bool
    last_contact: int
    message: str


class Twins(Protocol):
    """What a SCADA face sees of one edge node and asks of it; on the agent's loop."""

    @property
    def node(self) -> str: ...

    def now(self) -> int:
        """UTC ns."""

    def devices(self) -> Mapping[str, DeviceSpec]: ...

    def twin(self, device: str) -> TwinView:
        """Raises UnknownName."""

    def desired(self, device: str, name: str) -> Json | None:
        """As REST shows it; None when nothing is desired."""

    def alarms(self) -> Sequence[Alarm]:
        """Those that stand."""

    def follow(self, heartbeat: float = 15.0) -> AsyncGenerator[Sequence[Change], None]:
        """What changes from now on, in order, in batches; an empty one after `heartbeat` seconds.

        Costs the pipeline nothing, however slow the follower: who is thousands of changes
        behind gets FellBehind, and reads `twin` anew.
        """

    async def desire(self, device: str, patch: Mapping[str, object], actor: Actor) -> int:
        """A merge patch as in REST; returns the version of the desired state.

        Raises UnknownName, InvalidDesired (with the field), Interlocked, StoreUnavailable.
        """

    async def acknowledge(self, alarm: str, actor: Actor, comment: str) -> None:
        """By the alarm's id. Raises UnknownName, Conflict, Unreachable, StoreUnavailable."""

    async def shelve(self, alarm: str, length: str, actor: Actor, reason: str) -> None:
        """For a duration such as `30m`, at most 8 h. Raises as `acknowledge`, InvalidDesired."""

    async def reset(self, alarm: str, actor: Actor, reason: str) -> None:
        """Release a trip. Raises as `acknowledge`, and ResetRefused."""

    async def recorded(
        self, device: str, name: str, start: int, end: int, limit: int = 10_000
    ) -> Sequence[HistoryRow]:
        """The samples that history kept, UTC ns, the oldest first."""

    async def audit(
        self, kind: str, subject: str, actor: Actor, detail: Mapping[str, object]
    ) -> None:
        """Note what was asked and not done; never raises."""


class Face(Protocol):
    """Shows twins to SCADA, and takes what it asks. One that fails or hangs is alone with it."""

    @property
    def name(self) -> str: ...

    @property
    def connected(self) -> bool:
        """Whether its broker is there."""

    async def run(self) -> None:
        """Serve until cancelled; then say good-bye within a second. Reconnects by itself."""


class Ref(NamedTuple):
    """Names a resource at the hub; of one namespace."""

    kind: str
    name: str


class HubDefinitions(NamedTuple):
    """What the hub defines for one edge node: its Devices, Rules, EdgeNode, and their models.

    `documents` are whole resources without `status` and `managedFields`; `changed` names what
    came, differs or went since the one before (after a list: since what was known before it).
    """

    documents: Mapping[Ref, Mapping[str, object]]
    changed: frozenset[Ref]
    unheard: int = 0
    """For how long the hub was not heard before these came, ns: a change in them may be as old.
    0 for what came at once, over a watch that lives."""
    missing: frozenset[str] = frozenset()
    """Kinds that the hub does not know at all: that says nothing of what was known of them."""


class HubEvent(NamedTuple):
    """What a person shall see beside a resource; `name` is the same for the same event, always.

    `kind` is `Normal` or `Warning`, `reason` one CamelCase word, `at` UTC ns.
    """

    name: str
    regarding: Ref
    kind: str
    reason: str
    message: str
    at: int


class Hub(Protocol):
    """The hub as one edge node sees it.

    Whatever it is asked raises HubUnavailable (ask again, `retry_after`) or HubRefused (do not),
    and returns once the hub has it.
    """

    @property
    def connected(self) -> bool: ...

    @property
    def last_contact(self) -> int:
        """UTC ns of the last answer; 0 for never."""

    @property
    def traffic(self) -> int:
        """Bytes so far, both ways."""

    @property
    def clock_ahead(self) -> int:
        """By how many ns the hub's clock is ahead of ours (negative: behind), as it last said; 0
        for what may as well be the way of an answer, or while nobody knows.
        """
        return 0

    def definitions(self) -> AsyncIterator[HubDefinitions]:
        """The first once all is listed, then each change; lists and watches anew by itself.

        Never ends and never raises: an outage shows in `connected`.
        """

    async def apply_status(self, ref: Ref, uid: str, status: Json) -> int:
        """Own exactly these fields of the status from now on; what was owned before and is not
        in it goes away. Returns the generation that the resource had then. Raises UnknownName when
        that resource (`uid`) is no longer there.
        """

    async def record(self, event: HubEvent) -> None:
        """Once, however often it is asked for."""

    async def renew(self, holder: str, seconds: int) -> str:
        """The heartbeat of this edge node, by a Lease that ends after so many seconds.

        `holder` is an identity that outlives restarts, and may go on with `.` and what names this
        life of it. Returns who holds it: another's name when two processes claim one node, also
        when one runs on a copy of the other's disk.
        """


class KnownDefinition(NamedTuple):
    """A resource as the hub last had it (None: it is gone there), and as it was last sound."""

    ref: Ref
    document: Mapping[str, object] | None
    sound: Mapping[str, object] | None


class SyncStore(Protocol):
    """What an edge node must know of its hub when it starts without it. Raises StoreUnavailable."""

    async def load_definitions(self) -> Sequence[KnownDefinition]: ...

    async def save_definitions(
        self, known: Iterable[KnownDefinition], gone: Iterable[Ref] = ()
    ) -> None:
        """In one commit: all of them, or none."""

    async def journal(self, after: int, limit: int) -> Sequence[tuple[int, Audit]]:
        """Audit records with their numbers, which only grow; the oldest first."""

    async def journal_end(self) -> int:
        """The number of the newest, 0 for none."""

    async def note(self, name: str) -> str:
        """What `put_note` kept under that name, or ''."""

    async def put_note(self, name: str, content: str) -> None: ...


class OutboxRecord(NamedTuple):
    """What the hub side must get. `seq` only grows within one outbox, whatever the kind.

    `kind` is `samples`, `alarm`, `audit` or `gap`. Of samples: `samples` of one device. Of the
    others: `body`, a record of the journal (`number`, `kind`, `subject`, `origin`, `timestamp`,
    `detail`), an alarm's or another, or a gap (`from`, `to` in UTC ns, `records`: how many
    samples are lost, null when nobody knows). `at` UTC ns of the record, `monotonic` ns of
    this `boot`; `clock_synced`: whether the wall clock was kept right then.
    """

    seq: int
    kind: str
    device: str
    at: int
    monotonic: int
    samples: Sequence[tuple[str, Sample]] = ()
    body: Mapping[str, object] = {}
    boot: str = ""
    clock_synced: bool = True


class OutboxBatch(NamedTuple):
    """Records in order, all of one life of the outbox; (node, outbox, seq) names each for ever."""

    outbox: str
    records: Sequence[OutboxRecord]
    live: bool
    """Whether it is of now; else it is told later."""


class Outbox(Protocol):
    """The durable queue of what has not been acknowledged, and by which sink."""

    def put_samples(self, device: str, samples: Sequence[tuple[str, Sample]]) -> None:
        """Never blocks and never raises; on disk within 1 s. The oldest go when it is full, and a
        gap record says so.
        """

    async def journaled(self) -> int:
        """The number of the last record of the journal that it has. Raises StoreUnavailable."""

    async def put_journal(self, records: Sequence[tuple[int, Audit]]) -> None:
        """Alarms and audit, with their numbers in the journal: all on disk when it returns, each
        once, and never dropped. Raises StoreUnavailable.
        """

    @property
    def depth(self) -> int:
        """Samples and records that some sink has yet to get."""

    @property
    def oldest(self) -> int:
        """UTC ns of the oldest of these; 0 when there is none."""

    @property
    def size(self) -> int:
        """Bytes on disk."""


class Sink(Protocol):
    """An engine that takes what the outbox holds; it may get a record twice.

    Of one device, what is told late comes in order, and so does what is told live.
    """

    @property
    def name(self) -> str:
        """Names it in the outbox; the same after a restart."""

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of records that it takes."""

    @property
    def connection(self) -> int:
        """Grows with each new connection: what was acknowledged right before it is sent again.
        Always 0 where an answer says that the engine itself has it.
        """

    async def takes_late(self, since: int) -> bool:
        """Whether it takes samples of `since`, UTC ns, after newer ones; else all goes in order.
        Raises HubUnavailable.
        """

    async def send(self, batch: OutboxBatch) -> None:
        """Returns once the engine has all of it. Raises HubUnavailable (it is sent again later)
        or HubRefused (the records are tried alone; who is refused 5 times, or once for good, is
        set aside).
        """
