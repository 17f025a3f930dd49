"""An edge whose clock is wrong by a day, and is set right while it runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from edge_process import until
from hub_rig import Site, site

DAY = 86400


def at(hours: float) -> str:
    """So many hours from now, by the clock of the hub and of people."""
    return f"{datetime.now(UTC) + timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}"


def start(here: Site, clock: Path, wrong: int) -> None:
    clock.write_text(str(wrong))
    here.edge.clock = clock
    here.edge.start()
    until(lambda: here.hub.condition("Device", "pump-1", "Connected") == "True", "connected")


def lease(here: Site) -> datetime:
    path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/twinbridge-edge-1"
    code, found = here.hub.ask("GET", path)
    assert code == 200, found
    return datetime.fromisoformat(found["spec"]["renewTime"])


@pytest.mark.parametrize("wrong", [-DAY, DAY])
def test_a_clock_that_is_a_day_off_applies_nothing_that_is_over_and_steps_without_harm(
    tmp_path: Path, wrong: int
) -> None:
    clock = tmp_path / "clock"
    with site(tmp_path, started=False) as here:
        start(here, clock, wrong)
        assert abs(datetime.now(UTC) - lease(here)) < timedelta(minutes=2)
        here.hub.desire("pump-1", speed={"value": 111, "validUntil": at(-1)})
        until(lambda: here.hub.state("pump-1", "speed") == "expired", "told as expired")
        assert here.speed() == 0
        here.hub.desire("pump-1", speed={"value": 222, "validFor": "1h"})
        until(lambda: here.speed() == 222, "a command of now")
        clock.write_text("0")
        until(lambda: here.hub.events("ClockStepped"), "the step, told", 40)
        here.hub.desire("pump-1", speed={"value": 333, "validUntil": at(-1)})
        until(lambda: here.hub.state("pump-1", "speed") == "expired", "told as expired again")
        assert here.speed() == 222
        here.hub.desire("pump-1", speed={"value": 444, "validUntil": at(1)})
        until(lambda: here.hub.state("pump-1", "speed") == "applied", "applied")
        assert here.speed() == 444
        assert "another process" not in here.edge.log
        assert here.hub.condition("Device", "pump-1", "Connected") == "True"
