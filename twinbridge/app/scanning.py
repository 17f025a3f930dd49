"""When which request is due: scan classes by interval, spread over their interval."""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Iterable
from itertools import count

from twinbridge.app.device import Device, Scan, Station
from twinbridge.core.model import MILLISECOND, Point
from twinbridge.ports import Link

LATE_AT_LEAST = 20 * MILLISECOND


def late(scan: Scan, now: int) -> bool:
    """A poll is late when it begins more than 10 % of its interval, and ≥ 20 ms, after its due."""
    return now - scan.due > max(LATE_AT_LEAST, scan.interval // 10)


def arrange(device: Device, link: Link, now: int, *, served: bool = False) -> None:
    """Give the device its scans: one set of requests per scan class, all due at once.

    `served` is for planning a device anew that is being read: nothing of it counts as unread.
    """
    classes: dict[int, list[Point]] = {}
    for point in device.points.values():
        if point.spec.access.readable:
            classes.setdefault(point.interval, []).append(point)
    scans = [
        Scan(
            device,
            request,
            interval,
            due=max(now, device.station.silent_until),
            last_good=min(device.last_good(p.spec.name) for p in request.points),
            served=served,
        )
        for interval, points in sorted(classes.items())
        for request in link.plan(points)
    ]
    device.take_scans(scans)


class Schedule:
    """A heap of scans by due time (monotonic ns)."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Scan]] = []
        self._ticket = count()

    def fill(self, scans: Iterable[Scan]) -> None:
        self._heap = [(scan.due, next(self._ticket), scan) for scan in scans]
        heapq.heapify(self._heap)

    def first(self) -> int | None:
        return self._heap[0][0] if self._heap else None

    def due(self, now: int) -> Scan | None:
        """The scan that is due first, if it is due by now; it stays at the head."""
        return self._heap[0][2] if self._heap and self._heap[0][0] <= now else None

    def advance(self, scan: Scan, now: int) -> int:
        """Move the head to its next due time; returns how many turns had to be left out.

        A scan keeps its rhythm: due times are `interval` apart, whatever a poll took. After its
        first turn it moves to its own phase, so that devices started together do not poll
        together for ever.
        """
        skipped = 0
        if scan.phased:
            scan.due += scan.interval
            if scan.due + scan.interval <= now:
                skipped = (now - scan.due) // scan.interval
                scan.due += skipped * scan.interval
        else:
            scan.phased = True
            scan.due = now + phase(scan)
        heapq.heapreplace(self._heap, (scan.due, next(self._ticket), scan))
        return skipped

    def postpone(self, station: Station) -> None:
        """Leave a silent station alone until its time; its other requests wait as well."""
        for scan in self._scans_of(station):
            scan.due = max(scan.due, station.silent_until)
        self.fill([scan for _, _, scan in self._heap])

    def recall(self, answered: Scan, now: int) -> None:
        """The station answers again: everything else that it has is due now."""
        for scan in self._scans_of(answered.device.station):
            if scan is not answered:
                scan.due = min(scan.due, now)
        self.fill([scan for _, _, scan in self._heap])

    def _scans_of(self, station: Station) -> list[Scan]:
        return [scan for _, _, scan in self._heap if scan.device.station is station]


def phase(scan: Scan) -> int:
    """From half to one and a half intervals, the same for a device at every start."""
    name = f"{scan.device.name}/{scan.request.points[0].spec.name}".encode()
    return scan.interval // 2 + zlib.crc32(name) % max(1, scan.interval)
