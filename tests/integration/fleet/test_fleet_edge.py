"""The fleet's API with a hub, an edge and a machine as processes of their own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from edge_process import until
from hub_rig import Site, site

from twinbridge.api.base import parse_time

PUMP = "/twins/v1/devices/pump-1"


def view(here: Site) -> dict[str, Any]:
    code, found = here.hub.ask("GET", PUMP)
    assert code == 200, found
    return dict(found)


def desired(here: Site, name: str) -> dict[str, Any]:
    return view(here)["properties"][name]["desired"] or {}


def test_what_is_desired_of_the_fleet_reaches_the_machine_and_its_twin_comes_back(
    tmp_path: Path,
) -> None:
    with site(tmp_path) as here:
        code, said = here.hub.ask("PATCH", f"{PUMP}/desired", {"speed": 900, "run": True})
        assert code == 202, said
        until(lambda: here.speed() == 900 and here.runs(), "the machine at 900")
        until(lambda: desired(here, "speed").get("state") == "applied", "speed applied")
        until(
            lambda: view(here)["properties"]["speed"]["reported"]["value"] == 900,
            "the speed that is reported",
        )
        assert view(here)["connected"]

        here.set_speed(1200)
        until(lambda: not here.runs(), "the trip")
        until(lambda: view(here)["tripped"], "the trip at the hub")
        assert len(view(here)["trips"]) == 1
        code, said = here.hub.ask("PATCH", f"{PUMP}/desired", {"run": True})
        assert (code, "trip" in said["detail"]) == (409, True)
        assert not here.runs()


def test_a_value_for_some_seconds_that_was_asked_in_the_dark_is_not_applied_after_it(
    tmp_path: Path,
) -> None:
    with site(tmp_path) as here:
        here.link.cut()
        asked = {"speed": {"value": 700, "validFor": "100ms"}}
        code, said = here.hub.ask("PATCH", f"{PUMP}/desired", asked)
        assert code == 202, said
        waiting = desired(here, "speed")
        assert waiting["state"] == "pending"
        over = parse_time(waiting["validUntil"])
        until(lambda: time.time_ns() > over, "the end of its time")
        here.link.mend()

        until(lambda: desired(here, "speed").get("state") == "expired", "the value expired")
        assert here.speed() == 0
