"""A line to the hub that is long, thin and loses packets: slower, and otherwise as ever."""

from __future__ import annotations

from pathlib import Path

from edge_process import until
from hub_rig import Site, site

LONG = 40.0
"""Seconds: a question and its answer take four, one that is lost as many again."""


def make_bad(here: Site) -> None:
    """Two seconds each way, 64 kbit/s for all together, one packet of a hundred is lost."""
    faults = here.link.proxy.faults
    faults.latency, faults.bandwidth, faults.loss = 2.0, 8000, 0.01


def test_over_a_bad_line_desired_values_status_and_a_trip_arrive_and_the_trip_waits_for_nothing(
    tmp_path: Path,
) -> None:
    with site(tmp_path) as here:
        here.hub.put(here.device("pump-2", 2))
        here.hub.desire("pump-1", run=True)
        until(here.runs, "the pump runs")
        until(lambda: here.hub.condition("Device", "pump-2", "Connected") == "True", "pump-2")
        make_bad(here)
        here.hub.desire("pump-2", speed=700)
        here.set_speed(1200)
        until(lambda: not here.runs(), "the trip")
        assert here.hub.condition("Device", "pump-1", "Tripped") != "True"
        until(lambda: here.speed(2) == 700, "what is desired at the machine", LONG)
        until(lambda: here.hub.condition("Device", "pump-1", "Tripped") == "True", "told", LONG)
        until(lambda: here.hub.state("pump-2", "speed") == "applied", "applied at the hub", LONG)
        assert len(here.hub.events("Tripped")) == 1
