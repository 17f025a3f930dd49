"""How writes reach the link of their device: trips, desired values and automations alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from twinbridge.app.clock import Clock
from twinbridge.app.command import Command
from twinbridge.app.device import Device
from twinbridge.app.interlock import Interlock
from twinbridge.app.journal import Journal
from twinbridge.app.stop_write import StopWrite
from twinbridge.app.worker import Worker
from twinbridge.core.messages import Desire, DesiredState, Outcome
from twinbridge.core.model import PropertyRef, Value
from twinbridge.core.rule import RuleInstance, Write
from twinbridge.core.twin import check_desired
from twinbridge.errors import Interlocked, TwinBridgeError, UnknownName, Unreachable
from twinbridge.ports import Bus

Served = tuple[Device, Worker]


class Writes:
    """`served` finds the device of a name and the worker of its link, as they are now; `stands`
    says whether a rule is there, as it was, and armed.

    A command that comes again has no second effect: what became of it is told again.
    """

    def __init__(
        self,
        served: Callable[[str], Served | None],
        stands: Callable[[RuleInstance], bool],
        interlock: Interlock,
        journal: Journal,
        bus: Bus,
        clock: Clock,
    ) -> None:
        self._served = served
        self._stands = stands
        self._interlock = interlock
        self._journal = journal
        self._bus = bus
        self._clock = clock
        self._taken: dict[PropertyRef, _Taken] = {}
        self._held_acts: dict[PropertyRef, tuple[RuleInstance, Write]] = {}

    def remember(self, outcomes: Iterable[Outcome]) -> None:
        """What became of the last command for each property, from before a restart."""
        for outcome in outcomes:
            ref = PropertyRef(outcome.device, outcome.property)
            self._taken[ref] = _Taken(outcome.epoch, outcome.version, outcome.at, outcome)

    def withhold(self, why: str) -> None:
        """No ordinary write is begun from now on; '' ends it.

        Then what rules asked for meanwhile is written, if they still stand.
        """
        self._interlock.withheld = why
        if not why:
            held, self._held_acts = self._held_acts, {}
            for instance, write in held.values():
                if self._stands(instance):
                    self.act(instance, write)

    def press(self, stop: StopWrite) -> None:
        """A trip's write: first in line at its link."""
        served = self._served(stop.device.name)
        if served is None:
            stop.miss("no link serves the device", self._clock.mono())
        else:
            served[1].press(stop)

    def desire(self, desire: Desire) -> None:
        """Raises UnknownName, InvalidDesired, Interlocked, Unreachable while writes are withheld.

        What becomes of it else comes as an Outcome.
        """
        ref = PropertyRef(desire.device, desire.property)
        if desire.version and (known := self._taken.get(ref)) and known.covers(desire):
            if known.outcome is not None and known.version == desire.version:
                # Of this moment, so that nobody takes it for one that is handed over already.
                self._bus.publish(known.outcome._replace(at=self._clock.wall()))
            return
        if self._interlock.withheld:
            raise Unreachable(self._interlock.withheld)
        before = self._taken.get(ref)
        if desire.version:
            self._taken[ref] = _Taken(desire.epoch, desire.version, desire.accepted)
        try:
            self._submit(self._checked(desire))
        except TwinBridgeError as error:
            if desire.version:  # it was not taken, and may come again
                self._taken.pop(ref)
                if before is not None:
                    self._taken[ref] = before
            self._record_refusal(desire, error)
            raise

    def act(self, instance: RuleInstance, write: Write) -> None:
        """An automation writes like anybody else: interlock and read-back apply."""
        if self._interlock.withheld:
            self._held_acts[write.target] = instance, write
            return
        desire = Desire(
            write.target.device,
            write.target.property,
            write.value,
            version=0,
            origin=f"rule:{instance.rule}",
            accepted=self._clock.wall(),
            accepted_mono=self._clock.mono(),
        )
        try:
            self._submit(desire)
        except TwinBridgeError as error:
            self._record_refusal(desire, error)

    def forward(self, stops: Iterable[StopWrite], commands: Iterable[Command]) -> None:
        """A reload has taken their link away: hand them to the one that serves them now."""
        for stop in stops:
            self.press(stop)
        for command in commands:
            try:
                self._submit(command.desire)
            except TwinBridgeError as error:
                command.finish(DesiredState.REJECTED, str(error), self._clock)

    def _checked(self, desire: Desire) -> Desire:
        """Its value as the property has it, whoever has looked at it before."""
        served = self._served(desire.device)
        point = served[0].points.get(desire.property) if served else None
        if point is None:
            return desire
        return desire._replace(value=check_desired(point.spec, desire.value))

    def _submit(self, desire: Desire) -> None:
        served = self._served(desire.device)
        point = served[0].points.get(desire.property) if served else None
        if served is None or point is None:
            raise UnknownName(f"no {desire.device}/{desire.property} is served here")
        if trip := self._interlock.blocks(point.ref, desire.value):
            raise Interlocked(f"trip {trip} holds {point.ref}")
        device, worker = served
        worker.submit(Command(device, point, desire, self._answer))

    def _record_refusal(self, desire: Desire, error: TwinBridgeError) -> None:
        self._journal.record(
            "write.refused",
            f"{desire.device}/{desire.property}",
            desire.origin,
            value=desire.value,
            why=str(error),
        )

    def _answer(self, command: Command, outcome: Outcome, before: Value | None) -> None:
        desire = command.desire
        self._journal.record(
            "write",
            str(command.point.ref),
            desire.origin,
            old=before,
            new=desire.value,
            outcome=str(outcome.state),
            message=outcome.message,
            version=desire.version,
            epoch=desire.epoch,
            at=outcome.at,
        )
        if desire.version:
            known = self._taken.get(command.point.ref)
            if known is not None and known.covers(desire) and known.version == desire.version:
                known.outcome = outcome
            self._bus.publish(outcome)


@dataclass(slots=True)
class _Taken:
    """The newest command for a property. `accepted` UTC ns; of one before a restart, its end."""

    epoch: str
    version: int
    accepted: int
    outcome: Outcome | None = None

    def covers(self, desire: Desire) -> bool:
        """Whether that command is this one, or an older one in its place.

        A version that is not newer, but was accepted later, is of a device that went away and
        came back: its versions begin anew.
        """
        return (
            desire.epoch == self.epoch
            and desire.version <= self.version
            and desire.accepted <= self.accepted
        )
