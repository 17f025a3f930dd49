"""Leases over the broker: which endpoints this driver may serve. The rules are in `core.lease`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable
from time import monotonic_ns
from typing import Annotated, Final, NamedTuple, NoReturn

import structlog
from prometheus_client import Counter
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from twinbridge.adapters.bus_mqtt.topics import Topics
from twinbridge.core.lease import MOST_KEYS, TTL, Lease, Statement
from twinbridge.core.model import SECOND
from twinbridge.errors import InvalidInput, Unreachable
from twinbridge.mqtt.connection import Connection, Message

log = structlog.get_logger()

LARGEST: Final = 1024 * 1024
"""Bytes of a statement; a larger one is refused."""
LONGEST_NAME: Final = 1024
"""Characters of an owner id or an endpoint."""

REFUSED = Counter(
    "twinbridge_lease_refused",
    "Lease messages that were not taken: malformed, too large, or in our name but not ours.",
)
TAKEN = Counter("twinbridge_lease_taken", "Endpoints that this driver became the writer of.")
LOST = Counter(
    "twinbridge_lease_lost", "Endpoints given up because another driver had taken them meanwhile."
)
CONTESTED = Counter(
    "twinbridge_lease_contested",
    "Endpoints given up because two drivers said for long that they hold them.",
)

Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]


class _Said(BaseModel):
    """A statement as it crosses the bus; what later versions add is passed over."""

    model_config = ConfigDict(strict=True, extra="ignore")

    boot: Annotated[str, Field(min_length=1, max_length=64)]
    n: Annotated[int, Field(ge=1, le=2**53)]
    claims: Annotated[list[Name], Field(max_length=MOST_KEYS)]
    holds: Annotated[list[Name], Field(max_length=MOST_KEYS)]


class _Seen(NamedTuple):
    """What `on_change` is about."""

    held: frozenset[str]
    rivals: frozenset[str]
    doubt: bool


class Leases:
    """The endpoints that this driver wants, and which of them are its own now.

    All calls are made on one event loop; `on_change` is called there, whenever `held`, `rivals`
    or `doubt` have changed. `owner` is one for each state directory, which one process can lock.
    """

    def __init__(
        self, topics: Topics, protocol: str, owner: str, on_change: Callable[[], None]
    ) -> None:
        self._topic = topics.lease(protocol, owner)
        self._prefix = topics.lease(protocol, "")
        self._lease = Lease(owner, uuid.uuid4().hex[:16])
        self._on_change = on_change
        self._seen = _Seen(frozenset(), frozenset(), doubt=False)
        self._connection: Connection | None = None
        self._bell = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def held(self) -> frozenset[str]:
        """What this driver is to serve: also in doubt, see `doubt`."""
        return frozenset(self._lease.held)

    @property
    def waiting(self) -> frozenset[str]:
        return self._lease.waiting

    @property
    def rivals(self) -> frozenset[str]:
        """Those held that another driver waits for, as far as is known."""
        return self._lease.rivals(monotonic_ns())

    @property
    def doubt(self) -> bool:
        """Something is held, and another driver may by now have reason to take it."""
        lost = self._connection is not None and not self._connection.alive
        return self._lease.doubt(monotonic_ns()) or (lost and bool(self._lease.held))

    def want(self, keys: Iterable[str]) -> None:
        """What this driver's share says. Raises InvalidInput when there are too many.

        A held key that is missing leaves `held` at once. Others get it when `stopped` says that
        its link is closed, or after TTL.
        """
        wanted = frozenset(keys)
        if len(wanted) > MOST_KEYS or sum(map(len, wanted)) > LARGEST // 2:
            raise InvalidInput(
                f"{len(wanted)} endpoints are too many for one driver: give it a share of at "
                f"most {MOST_KEYS}, whose addresses are {LARGEST // 2} characters together"
            )
        self._lease.want(wanted, monotonic_ns())
        self._after()

    def stopped(self) -> None:
        """The links of all that is not held are closed: others may have it."""
        self._lease.stopped()
        self._after()

    def trust(self, keys: Iterable[str]) -> None:
        """Take those wanted that were held last, unasked and in doubt: a start in the dark."""
        self._lease.trust(keys, monotonic_ns())
        self._after()

    def heard(self, message: Message) -> bool:
        """Whether it was about leases. What is no statement is counted and changes nothing."""
        if not message.topic.startswith(self._prefix):
            return False
        owner = message.topic.removeprefix(self._prefix)
        said = _statement(message.payload) if len(owner) <= LONGEST_NAME else None
        now = monotonic_ns()
        if said is not None:
            self._lease.heard(owner, said, now, kept=message.retained)
        elif message.topic == self._topic:
            if self._connection is not None:  # else it is our own farewell
                self._lease.overwritten(now)
        elif message.payload:
            REFUSED.inc()
            log.debug("a lease cannot be read", owner=owner[:64], bytes=len(message.payload))
        self._after()
        return True

    async def serve(self, connection: Connection) -> NoReturn:
        """Claim and renew until cancelled. Raises Unreachable.

        Runs beside `connection.until_lost`, which ends it as soon as the broker is gone.
        """
        self._connection = connection
        try:
            await connection.subscribe((f"{self._prefix}+", 1))
            self._lease.listen(monotonic_ns())
            while True:
                await self._say(connection)
                self._bell.clear()
                self._after()
                await self._bell.wait()
        finally:
            self._connection = None
            self._lease.lost()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._after()

    async def release(self, connection: Connection) -> None:
        """Let all go, once every link is closed. Raises Unreachable."""
        now = monotonic_ns()
        self._lease.want((), now)
        self._lease.stopped()
        await connection.publish(self._topic, _payload(self._lease.say(now)), retain=True)
        await connection.publish(self._topic, b"", retain=True)
        self._after()

    async def _say(self, connection: Connection) -> None:
        now = monotonic_ns()
        if self._lease.mute(now):
            raise Unreachable(
                f"{self._topic}: what we say does not come back for {TTL // SECOND} s; "
                "we must be allowed to write and to read it"
            )
        for owner in self._lease.abandoned(now):
            connection.publish_soon(self._prefix + owner, b"", retain=True)
        if self._lease.say_at <= now:
            await connection.publish(self._topic, _payload(self._lease.say(now)), retain=True)

    def _after(self) -> None:
        """After whatever may have changed something."""
        now = monotonic_ns()
        self._tell_losses()
        seen = _Seen(self.held, self._lease.rivals(now), self.doubt)
        before, self._seen = self._seen, seen
        if self._connection is not None:
            if self._lease.say_at <= now:
                self._bell.set()
            self._wake_at(self._lease.wake_at(now) - now)
        if seen != before:
            TAKEN.inc(len(seen.held - before.held))
            self._on_change()

    def _tell_losses(self) -> None:
        REFUSED.inc(self._lease.strange)
        losses, self._lease.losses, self._lease.strange = self._lease.losses, [], 0
        for loss in losses:
            (CONTESTED if loss.contested else LOST).inc()
            why = "two drivers hold it" if loss.contested else "another driver has taken it"
            log.error("endpoint released", endpoint=loss.key, to=loss.to, why=why)

    def _wake_at(self, delay: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(delay, 0) / SECOND, self._tick)

    def _tick(self) -> None:
        now = monotonic_ns()
        self._lease.tick(now)
        self._bell.set()
        self._after()


def _statement(payload: bytes) -> Statement | None:
    if not payload or len(payload) > LARGEST:
        return None
    try:
        said = _Said.model_validate_json(payload)
    except ValidationError:
        return None
    return Statement(said.boot, said.n, tuple(said.claims), tuple(said.holds))


def _payload(said: Statement) -> bytes:
    return (
        _Said(boot=said.boot, n=said.n, claims=list(said.claims), holds=list(said.holds))
        .model_dump_json()
        .encode()
    )
