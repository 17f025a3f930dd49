"""From readings to samples, watchers and the bus; synchronous, within the link's task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from twinbridge.app.clock import Clock
from twinbridge.app.device import Device, Scan, Watcher
from twinbridge.app.metrics import CONNECTED, SAMPLES
from twinbridge.core.messages import Contact, Samples
from twinbridge.core.model import PropertyRef, Quality, Reason, Sample
from twinbridge.core.twin import lose, report
from twinbridge.ports import UNCHANGED, Bus, Link, Reading


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
        result = await link.read(scan.request)
        now = self._clock.mono()
        scan.served = True
        scan.last_good = now
        scan.device.replan = scan.device.replan or result.replan
        self._contact(scan.device)
        wall = self._clock.wall() if scan.every_sample else 0
        if result is not UNCHANGED:
            self._take(scan.device, result.readings, now)
        if scan.every_sample:
            self._repeat_unchanged(scan, wall, now)

    def _take(self, device: Device, readings: Sequence[Reading], now: int) -> None:
        """Turn readings into samples; show the changed ones to their watchers, then the bus."""
        samples = device.samples
        wall = self._clock.wall()
        seq = self._seq
        changed: list[tuple[str, Sample]] = []
        for point, value, quality, reason, _, source_time in readings:
            spec = point.spec
            name = spec.name
            sample = report(
                samples[name], spec, value, quality, reason, source_time or wall, seq + 1
            )
            if sample is not None:
                seq += 1
                samples[name] = sample
                changed.append((name, sample))
        self._seq = seq
        if changed:
            self._show(device, changed, now)
            SAMPLES.inc(len(changed))
            self._bus.publish(Samples(device.spec.name, tuple(changed)))

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
        self._degrade(device, reason, now)

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

    def _degrade(self, device: Device, reason: Reason, now: int) -> None:
        changed: list[tuple[str, Sample]] = []
        for name, sample in device.samples.items():
            if sample.quality is Quality.BAD and sample.reason is reason:
                continue
            self._seq += 1
            changed.append((name, lose(sample, reason, self._seq)))
        device.samples.update(changed)
        if changed:
            self._show(device, changed, now)
            self._bus.publish(Samples(device.name, tuple(changed)))

    @staticmethod
    def _show(device: Device, changed: Iterable[tuple[str, Sample]], now: int) -> None:
        watchers = device.watchers
        if not watchers:
            return
        shown: dict[Watcher, None] = {}
        for name, sample in changed:
            for watcher in watchers.get(name, ()):
                watcher.saw(PropertyRef(device.spec.name, name), sample)
                shown[watcher] = None
        for watcher in shown:
            watcher.decide(now)

    @staticmethod
    def _repeat_unchanged(scan: Scan, wall: int, now: int) -> None:
        """Show good values that stayed the same, as read now: a rate needs to know of them."""
        samples = scan.device.samples
        for watcher in scan.every_sample:
            for point in scan.request.points:
                sample = samples[point.spec.name]
                if sample.good and sample.source_time < wall:
                    samples[point.spec.name] = again = sample._replace(source_time=wall)
                    watcher.saw(point.ref, again)
            watcher.decide(now)
