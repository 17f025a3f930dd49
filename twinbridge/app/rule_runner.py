"""Feeds one rule instance with samples and time, and hands on what it decides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from twinbridge.app.clock import Clock
from twinbridge.core import rules
from twinbridge.core.model import NOT_READ, SECOND, PropertyRef, Sample
from twinbridge.core.rule import Mode, RuleInstance, comparisons, inputs
from twinbridge.core.rules import Effect, Input, Inputs


class Seen(Protocol):
    """A device as a rule sees it: served by this process, or told by another."""

    @property
    def samples(self) -> Mapping[str, Sample]: ...

    def last_good(self, name: str) -> int: ...


class RuleRunner:
    """Watches the inputs of `instance`; calls `on_effects` synchronously, in order."""

    def __init__(
        self,
        instance: RuleInstance,
        devices: Mapping[str, Seen],
        clock: Clock,
        on_effects: Callable[[RuleRunner, tuple[Effect, ...], int], None],
    ) -> None:
        self.instance = instance
        self.refs = inputs(instance)
        self._devices = devices
        self._clock = clock
        self._on_effects = on_effects
        self._samples: dict[PropertyRef, Sample] = {}
        self._limits = {
            c.input: c.stale_after for c in comparisons(instance.condition) if c.stale_after
        }
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0
        self.state = rules.initial(instance)

    def start(self, *, latched: bool) -> None:
        """Take up the samples as they stand; a restored latch stays latched."""
        if latched:
            self.state = rules.restore(self.instance, latched=True)
        self.go_on()

    def go_on(self) -> None:
        """Look at the inputs as they stand; after a reload they may be those of other devices."""
        for ref in self.refs:
            self._samples[ref] = self._standing(ref)
        self.decide(self._clock.mono())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._timer_at = 0

    def saw(self, ref: PropertyRef, sample: Sample) -> None:
        self._samples[ref] = sample

    def decide(self, now: int) -> None:
        state, effects = rules.evaluate(self.instance, self.state, self.inputs(), now)
        self.state = state
        if effects:
            self._on_effects(self, effects, now)
        if state.wake_at != self._timer_at:
            self._wake_at(state.wake_at, now)

    def inputs(self) -> Inputs:
        """Every input as it stands; one that no device serves is as never read."""
        return {ref: Input(sample, self._last_good(ref)) for ref, sample in self._samples.items()}

    def stale(self) -> frozenset[PropertyRef]:
        """Inputs that were good, and were not confirmed for longer than the rule waits."""
        now, limits = self._clock.mono(), self._limits
        return frozenset(
            ref
            for ref, sample in self._samples.items()
            if ref in limits and sample.good and now - self._last_good(ref) >= limits[ref]
        )

    def set_mode(self, mode: Mode) -> None:
        """Change the mode; a rule armed while its condition holds trips at once."""
        self.instance = replace(self.instance, mode=mode)
        self.state = rules.rearm(self.instance, self.state)
        self.decide(self._clock.mono())

    def check_reset(self) -> None:
        """Raises ResetRefused unless every input says that the condition is clear."""
        rules.reset(self.instance, self.state, self.inputs(), self._clock.mono())

    def reset(self) -> None:
        """Release the latch. Raises ResetRefused as `check_reset` does."""
        self.state = rules.reset(self.instance, self.state, self.inputs(), self._clock.mono())
        self.decide(self._clock.mono())

    def _standing(self, ref: PropertyRef) -> Sample:
        device = self._devices.get(ref.device)
        return device.samples.get(ref.property, NOT_READ) if device else NOT_READ

    def _last_good(self, ref: PropertyRef) -> int:
        device = self._devices.get(ref.device)
        return device.last_good(ref.property) if device else 0

    def _wake_at(self, at: int, now: int) -> None:
        self.stop()
        if at:
            self._timer_at = at
            delay = max(0.001, (at - now) / SECOND)
            self._timer = asyncio.get_running_loop().call_later(delay, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._timer_at = 0
        self.decide(self._clock.mono())
