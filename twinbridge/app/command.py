"""One desired value on its way to the machine: checked, written, read back, answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twinbridge.app.clock import Clock
from twinbridge.app.device import Device
from twinbridge.app.interlock import Interlock
from twinbridge.app.pipeline import Pipeline
from twinbridge.core.messages import Desire, DesiredState, Outcome
from twinbridge.core.model import MILLISECOND, Point, Value, shown
from twinbridge.core.twin import expired, satisfied
from twinbridge.errors import DeviceBusy, DeviceError, DeviceFault, NoResponse, WriteRejected
from twinbridge.ports import Link

READ_BACK_PAUSE = 50 * MILLISECOND
RETRY_PAUSE = 500 * MILLISECOND


@dataclass(slots=True, eq=False)
class Command:
    """`due` and `deadline` are monotonic ns; `deadline` 0 means not written yet."""

    device: Device
    point: Point
    desire: Desire
    answer: Callable[[Command, Outcome, Value | None], None]
    due: int = 0
    deadline: int = 0
    done: bool = False
    before: Value | None = None

    async def step(
        self, link: Link, pipeline: Pipeline, interlock: Interlock, clock: Clock
    ) -> None:
        """Do the one request that is due. Raises what the link raises when that ends the link."""
        now = clock.mono()
        if refusal := self.refusal(interlock, clock):
            self.finish(*refusal, clock)
            return
        try:
            if self.deadline:
                await self._read_back(link, pipeline, clock)
            else:
                await self._write(link, clock)
        except WriteRejected as error:
            self.finish(DesiredState.REJECTED, str(error), clock)
        except (DeviceBusy, DeviceFault, NoResponse) as error:
            self._again_or_give_up(error, now, clock)
        except DeviceError as error:
            if self.point.spec.pulse:
                self._unknown(error, clock)
            raise

    def refusal(self, interlock: Interlock, clock: Clock) -> tuple[DesiredState, str] | None:
        """Why it must not be written now, or None. Asked right before each request."""
        desire = self.desire
        if expired(
            desire.accepted, desire.valid_until, desire.accepted_mono, clock.wall(), clock.mono()
        ):
            return DesiredState.EXPIRED, "its time was over before it could be written"
        if trip := interlock.blocks(self.point.ref, desire.value):
            return DesiredState.BLOCKED, f"trip {trip} holds {self.point.ref}"
        return None

    async def _write(self, link: Link, clock: Clock) -> None:
        spec = self.point.spec
        self.before = self.device.samples[spec.name].value
        await link.write(self.point, self.desire.value)
        if not spec.access.readable or spec.pulse:
            self.finish(DesiredState.APPLIED, "acknowledged; not read back", clock)
            return
        self.due = clock.mono()
        self.deadline = self.due + spec.read_back_within

    async def _read_back(self, link: Link, pipeline: Pipeline, clock: Clock) -> None:
        spec = self.point.spec
        for scan in self.device.scans_for([spec.name]):
            await pipeline.read(scan, link)
        sample = self.device.samples[spec.name]
        now = clock.mono()
        if satisfied(spec, self.desire.value, sample):
            self.finish(DesiredState.APPLIED, "", clock)
        elif now < self.deadline:
            self.due = now + READ_BACK_PAUSE
        else:
            self.finish(
                DesiredState.REJECTED,
                f"the device took it, but reports {shown(sample.value)}",
                clock,
            )

    def _again_or_give_up(self, error: DeviceError, now: int, clock: Clock) -> None:
        """A level may be written again; a pulse never is, since it may have taken effect."""
        if self.point.spec.pulse:
            self._unknown(error, clock)
        else:
            self.deadline = 0
            self.due = now + RETRY_PAUSE

    def _unknown(self, error: DeviceError, clock: Clock) -> None:
        said = f"whether the pulse took effect is not known, it is not repeated: {error}"
        self.finish(DesiredState.REJECTED, said, clock)

    def finish(self, state: DesiredState, message: str, clock: Clock) -> None:
        if self.done:
            return
        self.done = True
        desire = self.desire
        outcome = Outcome(
            desire.device,
            desire.property,
            desire.version,
            state,
            message,
            clock.wall(),
            desire.epoch,
        )
        self.answer(self, outcome, self.before)
