"""Whether a process is well: its event loops still turn, its links are tried, its disk takes.

Loops are watched by their own lag: each beats by a timer, and who asks, from any thread, sees
how long ago the last beat is. A loop that hangs in a computation or a blocking call cannot say
so itself; others say it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from time import monotonic, time_ns

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from twinbridge.api.wire import timestamp
from twinbridge.app.machines import Machines
from twinbridge.cli.loops import loop_thread
from twinbridge.core.model import SECOND
from twinbridge.ports import TwinStore
from twinbridge.rest.probes import Health, Verdict, serve_probes

BEAT = 0.25
"""Seconds between the beats of a loop."""
WINDOW = 15.0
"""Seconds over which the largest lag is shown: about the interval of a Prometheus scrape."""


class _Beats:
    """Of one loop. It writes, whoever asks reads: plain numbers, no lock."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.last = monotonic()
        self._window = self.last
        self._worst = self._worst_before = 0.0
        self._timer = loop.call_later(BEAT, self._beat)

    def _beat(self) -> None:
        now = monotonic()
        if now - self._window > WINDOW:
            self._window, self._worst_before, self._worst = now, self._worst, 0.0
        self._worst = max(self._worst, now - self.last - BEAT)
        self.last = now
        self._timer = self._loop.call_later(BEAT, self._beat)

    def overdue(self) -> float:
        """Seconds by which the next beat is late now."""
        return max(0.0, monotonic() - self.last - BEAT)

    def lag(self) -> float:
        """The longest wait for a turn within the last one or two windows, seconds."""
        return max(self._worst, self._worst_before, self.overdue())

    def stop(self) -> None:
        self._timer.cancel()


class LoopLag(Collector):
    """Of the loops that are watched; `stuck_after` seconds without a turn is too long."""

    def __init__(self, stuck_after: float = 10.0) -> None:
        self.stuck_after = stuck_after
        self._loops: dict[str, _Beats] = {}

    @contextmanager
    def watching(self, name: str) -> Iterator[None]:
        """Watch the running loop, under this name, while the context lasts."""
        self._loops[name] = beats = _Beats(asyncio.get_running_loop())
        try:
            yield
        finally:
            beats.stop()
            self._loops.pop(name, None)

    def stuck(self) -> dict[str, float]:
        """Loops that stand, and for how many seconds."""
        standing = {name: beats.overdue() for name, beats in list(self._loops.items())}
        return {name: late for name, late in standing.items() if late > self.stuck_after}

    def live(self) -> Verdict:
        stuck = self.stuck()
        if not stuck:
            return True, {"status": "ok"}
        now = time_ns()
        return False, {
            "status": "stuck",
            "loops": {
                name: {"since": timestamp(now - int(late * SECOND)), "seconds": round(late, 1)}
                for name, late in stuck.items()
            },
        }

    @override
    def collect(self) -> Iterator[Metric]:
        found = GaugeMetricFamily(
            "twinbridge_loop_lag_seconds",
            "The longest that work which was due waited for its turn, of the last seconds.",
            labels=["loop"],
        )
        for name, beats in list(self._loops.items()):
            found.add_metric([name], beats.lag())
        yield found


def links_verdict(machines: Machines | None) -> Verdict:
    """Whether each link was tried at least once; whether it answers is not the question."""
    if machines is None:
        return False, {"links": "not started"}
    untried = machines.untried
    return not untried, {"links": f"not tried yet: {', '.join(untried)}" if untried else "ok"}


def driver_verdict(
    node: str, machines: Machines, store: TwinStore, *, definitions: bool, bus: bool
) -> Verdict:
    """Readiness of a driver pod. It works without its bus, so that is said and not judged."""
    tried, links = links_verdict(machines)
    devices = list(machines.devices.values())
    ready = tried and definitions and not store.trouble
    return ready, {
        "ready": ready,
        "node": node,
        "store": store.trouble or "ok",
        "definitions": "ok" if definitions else "none yet",
        "bus": "ok" if bus else "not connected",
        **links,
        "devices": {"total": len(devices), "connected": sum(d.connected for d in devices)},
    }


@asynccontextmanager
async def probes_running(
    health: Health, metrics: CollectorRegistry, host: str, port: int
) -> AsyncIterator[str]:
    """Probes on a loop and thread of their own: they answer while the others hang.

    Gives the URL. Raises InvalidInput when it cannot listen there.
    """
    async with loop_thread("probes") as thread:
        serving = serve_probes(health, metrics, host, port)
        url = await thread.call(serving.__aenter__())
        try:
            yield url
        finally:
            await thread.call(serving.__aexit__(None, None, None))
