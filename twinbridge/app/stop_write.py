"""One write of a trip, from its first try until the machine is seen stopped.

A small state machine that the link's task steps, one request on the wire per step, so that
several trips on one link take turns: write -> (acknowledged) -> read back -> verified.
DOMAIN §1.4: read back within 500 ms; 3 retries at 100 ms; then every 1 s until verified or
released, and meanwhile the trip counts as failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from twinbridge.app.clock import Clock
from twinbridge.app.device import Device
from twinbridge.app.pipeline import Pipeline
from twinbridge.core.model import MILLISECOND, SECOND, Point, Value, shown
from twinbridge.core.twin import satisfied
from twinbridge.errors import DeviceError
from twinbridge.ports import Link

READ_BACK_PAUSE = 20 * MILLISECOND
RETRY_PAUSE = 100 * MILLISECOND
STUBBORN_PAUSE = 1 * SECOND


class Phase(Enum):
    WRITE = "write"
    READ_BACK = "read back"
    DONE = "done"
    RELEASED = "released"


class Progress(Protocol):
    """Is told how a stop goes. Monotonic ns."""

    def sending(self, stop: StopWrite, now: int) -> None: ...

    def acknowledged(self, stop: StopWrite, now: int) -> None: ...

    def verified(self, now: int) -> None: ...

    def missed(self, stop: StopWrite, why: str) -> None: ...


@dataclass(slots=True, eq=False)
class StopWrite:
    device: Device
    point: Point
    value: Value
    within: int
    retries: int
    progress: Progress
    phase: Phase = Phase.WRITE
    due: int = 0
    tries: int = 0
    deadline: int = 0

    @property
    def waiting(self) -> bool:
        return self.phase in (Phase.WRITE, Phase.READ_BACK)

    def proofs(self) -> list[tuple[Point, Value]]:
        """What must be read, and as what, before the machine counts as stopped."""
        spec = self.point.spec
        proofs = []
        if spec.access.readable and not spec.pulse:
            proofs.append((self.point, self.value))
        if spec.feedback is not None:
            proofs.append((self.device.points[spec.feedback.property], spec.feedback.equals))
        return proofs

    def press(self) -> None:
        """Write (again), at once."""
        self.phase = Phase.WRITE
        self.tries = 0
        self.due = 0

    def release(self) -> None:
        self.phase = Phase.RELEASED

    async def step(self, link: Link, pipeline: Pipeline, clock: Clock) -> None:
        """Do the one request that is due. Raises what the link raises, after taking note."""
        try:
            if self.phase is Phase.WRITE:
                self.progress.sending(self, clock.mono())
                await link.write(self.point, self.value)
                self._written(clock.mono())
            else:
                for scan in self.device.scans_for(p.spec.name for p, _ in self.proofs()):
                    await pipeline.read(scan, link)
                self._judge(clock.mono())
        except DeviceError as error:
            self.miss(str(error), clock.mono())
            raise

    def _written(self, now: int) -> None:
        if self.phase is not Phase.WRITE:
            return
        proofs = self.proofs()
        feedback = self.point.spec.feedback
        self.phase = Phase.READ_BACK if proofs else Phase.DONE
        self.due = now
        self.deadline = now + max(self.within, feedback.within if feedback else 0)
        self.progress.acknowledged(self, now)

    def _judge(self, now: int) -> None:
        if self.phase is not Phase.READ_BACK:
            return
        if self._proven():
            self.phase = Phase.DONE
            self.progress.verified(now)
        elif now < self.deadline:
            self.due = now + READ_BACK_PAUSE
        else:
            self.miss(f"still not {shown(self.value)}: {self._seen()}", now)

    def miss(self, why: str, now: int) -> None:
        """This try failed; the next one is due soon, and after `retries` more slowly."""
        if self.phase is Phase.RELEASED:
            return
        self.tries += 1
        self.phase = Phase.WRITE
        self.due = now + (RETRY_PAUSE if self.tries <= self.retries else STUBBORN_PAUSE)
        self.progress.missed(self, why)

    def _proven(self) -> bool:
        samples = self.device.samples
        return all(satisfied(p.spec, value, samples[p.spec.name]) for p, value in self.proofs())

    def _seen(self) -> str:
        return ", ".join(
            f"{p.spec.name} reads {shown(self.device.samples[p.spec.name].value)}"
            f" ({self.device.samples[p.spec.name].quality})"
            for p, _ in self.proofs()
        )
