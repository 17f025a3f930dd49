"""From readings to samples, watchers and the bus; synchronous, within the link's task."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from twinbridge.app.clock import Clock
from twinbridge.app.device import Device, Scan, Watcher
from twinbridge.app.metrics import CONNECTED, SAMPLES, SAMPLES_LATE
from twinbridge.app.storm import Named, StormGate
from twinbridge.core.messages import Contact, Samples
from twinbridge.core.model import NOT_READ, SECOND, PropertyRef, Quality, Reason
from twinbridge.core.twin import late, lose, report
from twinbridge.ports import UNCHANGED, Bus, Link, ReadResult

BEHIND = SECOND // 2
"""By which a value that is shown again lags its device's time, for messages take their time."""
OVERTAKEN = 10 * SECOND
"""An answer of this moment that is older than the last one by up to this was overtaken by it."""


class Pipeline:
    """Numbers every sample of this process; `seq` grows by one from 1."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._seq = 0

    async def read(self, scan: Scan, link: Link) -> None:
        """Do one request and take its answer; every read of a property goes through its scan.

        A driver tells changes against the last answer of the same request. A read-back by
        another request would leave the scan comparing with an older answer, and a machine that
        starts again right after it would look unchanged for ever.
        """
        self.take(scan, await link.read(scan.request))

    def take(self, scan: Scan, result: ReadResult) -> None:
        """Take the answer to a request, whether it was asked for or came by itself."""
        now = self._clock.mono()
        scan.served = True
        scan.last_good = now
        device = scan.device
        device.replan = device.replan or result.replan
        self._contact(device)
        wall = self._clock.wall()
        if result is not UNCHANGED:
            changed = self._changes(device, result, wall, now)
            if changed:
                self._tell(device, changed, now)
        if scan.every_sample:
            self._repeat_unchanged(scan, wall, now)

    def _changes(self, device: Device, result: ReadResult, wall: int, now: int) -> list[Named]:
        """Turn readings into samples and show the changed ones to their watchers.

        What was read together is judged together. A second reading of a property is of another
        moment: what came before it is judged first.
        """
        samples = device.samples
        watchers = device.watchers
        rated = device.rate_watchers
        horizon = OVERTAKEN if result.current else None
        seq = self._seq
        changed: list[Named] = []
        shown = 0
        pending: set[str] = set()
        for point, value, quality, reason, detail, source_time in result.readings:
            spec = point.spec
            name = spec.name
            previous = samples[name]
            if source_time is None:
                source_time = wall  # noqa: PLW2901 - the device gave none
            elif source_time < previous.source_time and late(previous, source_time, horizon):
                SAMPLES_LATE.inc()
                continue
            elif name in rated:
                device.skew[name] = wall - source_time
            sample = report(previous, spec, value, quality, reason, source_time, seq + 1, detail)
            if sample is None:
                if source_time > previous.source_time and previous.good:
                    samples[name] = previous._replace(source_time=source_time)
                continue
            if name in pending:
                self._show(device, changed[shown:], now)
                shown = len(changed)
                pending.clear()
            seq += 1
            samples[name] = sample
            changed.append((name, sample))
            if name in watchers:
                pending.add(name)
        self._seq = seq
        if watchers:
            self._show(device, changed[shown:], now)
        return changed

    def _tell(self, device: Device, changed: Sequence[Named], now: int) -> None:
        """Publish samples; those of a storm are gathered."""
        SAMPLES.inc(len(changed))
        gate = device.gate
        if gate is not None:
            held = bool(gate.held)
            changed = gate.admit(changed, now)
            if gate.held and not held:
                wait = gate.release_in(now) / SECOND
                asyncio.get_running_loop().call_later(wait, self._release, device, gate)
        if changed:
            self._bus.publish(Samples(device.spec.name, tuple(changed)))

    def _release(self, device: Device, gate: StormGate) -> None:
        if held := gate.release():
            self._bus.publish(Samples(device.spec.name, tuple(held)))

    def lose(
        self, device: Device, message: str, now: int, reason: Reason = Reason.COMM_LOST
    ) -> None:
        """The device gives no values: every property turns bad, at once."""
        if not device.connected and device.message == message:
            return
        if device.connected:
            CONNECTED.dec()
        device.connected = False
        device.message = message
        # Its other requests may find their answers unchanged; their values are bad all the same.
        device.replan = True
        for scan in device.scans:
            scan.served = False
        wall = self._clock.wall()
        self._bus.publish(Contact(device.name, connected=False, at=wall, message=message))
        self._degrade(device, reason, message, now)

    def tell_all(self, devices: Iterable[Device]) -> None:
        """Every value as it stands, for who may have missed it; no rule sees it again."""
        for device in devices:
            samples = tuple(item for item in device.samples.items() if item[1] is not NOT_READ)
            if samples:
                self._bus.publish(Samples(device.name, samples))
            at = device.last_contact if device.connected else self._clock.wall()
            self._bus.publish(Contact(device.name, device.connected, at, device.message))

    def tell_contacts(self, devices: Iterable[Device]) -> None:
        """Called about once a second: say of each device that answers when it last did."""
        for device in devices:
            if device.connected and device.last_contact > device.told_contact:
                device.told_contact = device.last_contact
                self._bus.publish(Contact(device.name, connected=True, at=device.last_contact))

    def _contact(self, device: Device) -> None:
        device.last_contact = wall = self._clock.wall()
        if not device.connected:
            device.connected = True
            device.message = ""
            device.told_contact = wall
            CONNECTED.inc()
            self._bus.publish(Contact(device.name, connected=True, at=wall))

    def _degrade(self, device: Device, reason: Reason, message: str, now: int) -> None:
        if device.gate is not None:
            self._release(device, device.gate)
        changed: list[Named] = []
        for name, sample in device.samples.items():
            if sample.quality is Quality.BAD and sample.reason is reason:
                continue
            self._seq += 1
            changed.append((name, lose(sample, reason, self._seq, message)))
        device.samples.update(changed)
        if changed:
            if device.watchers:
                self._show(device, changed, now)
            self._bus.publish(Samples(device.name, tuple(changed)))

    @staticmethod
    def _show(device: Device, changed: Iterable[Named], now: int) -> None:
        watchers = device.watchers
        shown: dict[Watcher, None] = {}
        for name, sample in changed:
            for watcher in watchers.get(name, ()):
                watcher.saw(PropertyRef(device.spec.name, name), sample)
                shown[watcher] = None
        for watcher in shown:
            watcher.decide(now)

    @staticmethod
    def _repeat_unchanged(scan: Scan, wall: int, now: int) -> None:
        """Show good values that stayed the same, as read now: a rate needs to know of them.

        One that its device dates is shown at the device's time, a little behind, and keeps its
        own: the next that the device tells is to be newer than both.
        """
        device = scan.device
        for watcher in scan.every_sample:
            for point in scan.request.points:
                name = point.spec.name
                sample, skew = device.samples[name], device.skew.get(name)
                at = wall if skew is None else wall - skew - BEHIND
                if sample.good and sample.source_time < at:
                    again = sample._replace(source_time=at)
                    if skew is None:
                        device.samples[name] = again
                    watcher.saw(point.ref, again)
            watcher.decide(now)
