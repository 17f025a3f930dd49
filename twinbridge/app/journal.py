"""Puts alarms, latches and audit on disk, in order, and only then tells of them.

The trip path never waits here: it hands over and goes on. While the disk refuses, what happened
is told all the same after `PATIENCE` (people must hear of a trip), kept in memory, and tried again.
"""

from __future__ import annotations

from collections import OrderedDict, deque

import structlog

from twinbridge.app.clock import Clock, Doorbell
from twinbridge.app.metrics import DROPS, JOURNAL_WAITING
from twinbridge.core.alarm import Alarm
from twinbridge.core.messages import AlarmChanged, Audit
from twinbridge.errors import StoreUnavailable
from twinbridge.ports import Bus, TwinStore

log = structlog.get_logger()

PATIENCE = 1.0
"""Seconds between tries while the disk refuses."""
AUDIT_LIMIT = 100_000


class Journal:
    def __init__(self, store: TwinStore, bus: Bus, clock: Clock) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._alarms: OrderedDict[str, Alarm] = OrderedDict()
        self._audit: deque[Audit] = deque(maxlen=AUDIT_LIMIT)
        self._bell = Doorbell()

    def record(self, kind: str, subject: str, origin: str, **detail: object) -> None:
        """Append to the audit; never waits."""
        if len(self._audit) == AUDIT_LIMIT:
            DROPS.labels("audit").inc()
        self._audit.append(self.entry(kind, subject, origin, **detail))
        self._bell.ring()

    def entry(self, kind: str, subject: str, origin: str, **detail: object) -> Audit:
        return Audit(kind, subject, origin, detail, self._clock.wall(), self._clock.mono())

    def save(self, alarm: Alarm) -> None:
        """Keep and tell the alarm as it now is; an older state of it that waits is replaced."""
        self._alarms[alarm.id] = alarm
        self._bell.ring()

    def tell(self, alarm: Alarm) -> None:
        """Tell of an alarm again; one whose news waits for the disk is told after it."""
        if alarm.id not in self._alarms:
            self._bus.publish(AlarmChanged(alarm))

    async def save_now(self, alarm: Alarm, *audit: Audit) -> None:
        """Keep the alarm before returning, then tell. Raises StoreUnavailable."""
        # An older state that waits must not reach the disk after this one.
        older = self._alarms.pop(alarm.id, None)
        try:
            await self._store.save_alarm(alarm, *audit)
        except StoreUnavailable:
            if older is not None:
                self._alarms.setdefault(alarm.id, older)
                self._bell.ring()
            raise
        self._bus.publish(AlarmChanged(alarm))

    async def save_mode(self, rule: str, mode: str, audit: Audit) -> None:
        """Keep a rule's mode before returning. Raises StoreUnavailable."""
        await self._store.save_mode(rule, mode, audit)

    async def run(self) -> None:
        told: dict[str, Alarm] = {}
        while True:
            try:
                await self._flush(told)
            except StoreUnavailable as error:
                log.error("the disk does not take the journal", why=str(error))  # noqa: TRY400
                self._tell_anyway(told)
                JOURNAL_WAITING.set(len(self._alarms) + len(self._audit))
                await self._bell.wait(PATIENCE)
            else:
                JOURNAL_WAITING.set(0)
                await self._bell.wait(None)

    async def drain(self) -> None:
        """On a graceful stop: one last try to keep what waits."""
        await self._flush({})

    async def _flush(self, told: dict[str, Alarm]) -> None:
        while self._alarms or self._audit:
            audit = tuple(self._audit)
            alarm = next(iter(self._alarms.values()), None)
            if alarm is None:
                await self._store.append_audit(*audit)
            else:
                await self._store.save_alarm(alarm, *audit)
                told_already = told.pop(alarm.id, None) is alarm
                # Meanwhile it may have changed: then the newer state is told, and only that.
                if self._alarms.get(alarm.id) is alarm:
                    del self._alarms[alarm.id]
                    if not told_already:
                        self._bus.publish(AlarmChanged(alarm))
            for _ in audit:
                self._audit.popleft()

    def _tell_anyway(self, told: dict[str, Alarm]) -> None:
        for alarm in self._alarms.values():
            if told.get(alarm.id) is not alarm:
                told[alarm.id] = alarm
                self._bus.publish(AlarmChanged(alarm))
