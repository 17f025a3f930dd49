"""`kill -9` of either side at each step of the sync: at the k-th thing that is asked of the hub.

A handful of steps, or all of them where `TWINBRIDGE_SCHEDULES` is given.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from edge_process import until
from hub_rig import EVENTS, Site, rule, site

from twinbridge.adapters.state_rows import audit_from
from twinbridge.app.sync.journal import event_of
from twinbridge.testing.proxy import Direction

ALL = "TWINBRIDGE_SCHEDULES" in os.environ
pytestmark = pytest.mark.timeout(1800 if ALL else 120)
AT_REST = 12
"""Requests after which a start is over: four lists, four watches, the Lease, first statuses."""
LAST, LAST_AT_REST = 26, 12
"""There are no more in one of these stories, with a start and without."""
VERBS = (b"GET ", b"POST ", b"PUT ", b"PATCH ")
EXPIRED = {"validUntil": "2020-01-01T00:00:00Z"}
HOT = 1200


class Moment(Enum):
    """Of the k-th request: what the hub had of it, and the edge of the answer."""

    NOT_ASKED = "the hub never got it"
    NOT_ANSWERED = "the hub did it, its answer never came"
    ANSWERED = "the answer came, and was being worked on"


@dataclass
class Trap:
    """Kills `victim` once; then nothing passes until it is taken away."""

    here: Site
    victim: Callable[[], int]
    step: int
    moment: Moment
    asked: int = 0
    answered: int = 0
    sprung: threading.Event = field(default_factory=threading.Event)

    def __call__(self, direction: Direction, chunk: bytes) -> None:
        self.asked += direction is Direction.UP and chunk.startswith(VERBS)
        self.answered += direction is Direction.DOWN and chunk.startswith(b"HTTP/1.1 ")
        reached = self.asked if self.moment is Moment.NOT_ASKED else self.answered
        if reached < self.step or self.sprung.is_set():
            return
        if self.moment is Moment.ANSWERED:
            threading.Timer(0.002 * (self.step % 8), self._spring).start()
        else:
            self._spring()
            self.here.link.proxy.faults.half_open = True
        self.step = 1 << 30

    def _spring(self) -> None:
        os.kill(self.victim(), signal.SIGKILL)
        self.sprung.set()


class Story:
    """Desired values, one that is over, and alarms, around each of the kills."""

    def __init__(self, here: Site) -> None:
        self.here = here
        self.number = 0
        self.hot = 0

    def edit(self) -> None:
        """Something of each kind happens."""
        self.number += 1
        self.here.hub.desire("pump-1", speed=self.number)
        self.here.hub.desire("pump-2", speed={"value": 500 + self.number, **EXPIRED})
        self.hot = HOT - self.hot
        self.here.set_speed(self.hot, 2)

    def trap(self, victim: Callable[[], int], step: int, moment: Moment) -> Trap:
        trap = Trap(self.here, victim, step, moment)
        self.here.link.proxy.faults.tap = trap
        return trap

    def free(self) -> None:
        self.here.link.proxy.faults.tap = None
        self.here.link.plug()

    def kill_edge(self, step: int, moment: Moment) -> bool:
        """While it starts, or at what comes after. Whether it got so far."""
        here = self.here
        self.edit()
        trap = self.trap(lambda: pid(here.edge), step, moment)
        here.edge.start()
        until(lambda: trap.sprung.is_set() or trap.asked >= AT_REST, "a start", 30)
        if not trap.sprung.is_set():
            self.edit()
            trap.sprung.wait(4)
        self.free()
        here.edge.kill()
        return trap.sprung.is_set()

    def kill_hub(self, step: int, moment: Moment) -> bool:
        here = self.here
        trap = self.trap(lambda: pid(here.hub), step, moment)
        with suppress(OSError):  # it may die of that: what is not acknowledged, may be lost
            self.edit()
        sprung = trap.sprung.wait(4)
        self.free()
        if sprung:
            here.hub.kill()
            here.hub.start()
            self.edit()
        return sprung

    def settle(self) -> None:
        """All that was acknowledged is there, once; and what is last, holds."""
        here = self.here
        until(lambda: here.speed(1) == self.number, "the last desired value at the machine", 30)
        until(lambda: self.told("pump-1") == ("applied", self.number, self.number), "told", 30)
        until(lambda: self.told("pump-2")[0] == "expired", "what was over is told so", 30)
        assert here.speed(2) == self.hot
        until(lambda: self.told("pump-2")[2] == self.hot, "a status of now", 30)
        until(lambda: told_events(here) == journaled(here), "the journal's Events", 30)
        alarms = [told for told in journaled(here).values() if "hot:" in told]
        assert len(alarms) == len(set(alarms))

    def told(self, name: str) -> tuple[Any, Any, Any]:
        twin = self.here.hub.twin(name, "speed")
        desired = twin.get("desired", {})
        reported = twin.get("reported", {})
        return desired.get("state"), desired.get("value"), reported.get("value")


def pid(of: Any) -> int:
    return int(of.process.pid)


def told_events(here: Site) -> dict[str, str]:
    code, found = here.hub.ask("GET", EVENTS)
    assert code == 200, found
    names = [one["metadata"]["name"] for one in found["items"]]
    assert all(one["count"] == 1 for one in found["items"])
    assert len(names) == len(set(names))
    return {one["metadata"]["name"]: f"{one['reason']}:{one['message']}" for one in found["items"]}


def journaled(here: Site) -> dict[str, str]:
    """What the edge's journal must have made of it."""
    with closing(sqlite3.connect(f"file:{here.edge.state}/state.db?mode=ro", uri=True)) as db:
        origin = db.execute("SELECT content FROM note WHERE name = 'identity'").fetchone()[0]
        rows = db.execute("SELECT id, kind, subject, origin, detail, wall, monotonic FROM audit")
        found = [event_of(number, audit_from(row), origin) for number, *row in rows]
    return {one.name: f"{one.reason}:{one.message}" for one in found if one is not None}


def hot() -> dict[str, Any]:
    when = {"property": "speed", "above": 1000, "onBad": "Ignore"}
    found = rule("hot", devices={"name": "pump-2"}, when=when, severity="low")
    found["spec"]["latch"] = False
    del found["spec"]["trip"]
    return found


def test_an_edge_killed_at_any_step_of_the_sync_goes_on_where_it_was(tmp_path: Path) -> None:
    steps = [(k, m) for k in range(1, LAST) for m in Moment] if ALL else [
        (4, Moment.ANSWERED),
        (9, Moment.NOT_ANSWERED),
        (13, Moment.ANSWERED),
        (16, Moment.NOT_ASKED),
    ]  # fmt: skip
    with site(tmp_path, started=False) as here:
        here.hub.put(here.device("pump-2", 2), hot())
        story = Story(here)
        for step, moment in steps:
            story.kill_edge(step, moment)
            if ALL:
                here.edge.start()
                story.settle()
                here.edge.kill()
        here.edge.start()
        story.settle()


def test_a_hub_killed_at_any_step_of_the_sync_has_all_of_it_afterwards(tmp_path: Path) -> None:
    steps = [(k, m) for k in range(1, LAST_AT_REST) for m in Moment] if ALL else [
        (2, Moment.NOT_ANSWERED),
        (4, Moment.ANSWERED),
    ]  # fmt: skip
    with site(tmp_path) as here:
        here.hub.put(here.device("pump-2", 2), hot())
        story = Story(here)
        story.edit()
        story.settle()
        for step, moment in steps:
            story.kill_hub(step, moment)
            if ALL:
                story.settle()
        story.settle()
