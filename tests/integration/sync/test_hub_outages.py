"""What a cut between edge and hub must not do (KubeEdge was measured to do each of these)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from edge_process import until
from hub_rig import RUN, Site, rule, site

from twinbridge_simulators.registers import Table


def trips(here: Site) -> list[str]:
    return [event["metadata"]["name"] for event in here.hub.events("Tripped")]


def test_what_is_reported_while_cut_is_right_at_the_hub_afterwards(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        here.set_speed(100)
        until(lambda: here.hub.reported("pump-1", "speed") == 100, "the value before")
        here.link.cut()
        until(lambda: (here.set_speed(200) or True) and here.edge.connected("pump-1"), "alone")
        time.sleep(1.0)  # the value no longer changes when the link returns
        assert here.hub.reported("pump-1", "speed") == 100
        here.link.mend()
        until(lambda: here.hub.reported("pump-1", "speed") == 200, "the value of the outage")


def test_what_is_desired_created_and_deleted_while_cut_takes_effect(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        here.hub.put(here.device("pump-2", 2))
        until(lambda: here.hub.condition("Device", "pump-2", "Connected") == "True", "pump-2")
        here.link.cut()
        here.hub.desire("pump-1", speed=700)
        here.hub.delete("Device", "pump-2")
        here.hub.put(here.device("pump-3", 2))
        here.link.mend()
        until(lambda: here.speed() == 700, "the desired value at the machine", 6)
        until(lambda: here.edge.connected("pump-3"), "the new device", 6)
        until(lambda: here.edge.twin("pump-2") is None, "the deleted device gone", 6)
        until(lambda: here.hub.state("pump-1", "speed") == "applied", "applied at the hub")


def test_an_edge_that_starts_in_the_dark_starts_all_it_knew_and_trips(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        here.hub.desire("pump-1", run=True)
        until(here.runs, "the pump runs")
        until(lambda: here.hub.state("pump-1", "run") == "applied", "applied at the hub")
        here.link.cut()
        here.edge.kill()
        here.edge.start()
        until(lambda: here.edge.connected("pump-1"), "the device, without the hub")
        assert here.runs()
        here.set_speed(1200)
        until(lambda: not here.runs(), "the trip, without the hub")
        here.edge.kill()
        here.edge.start()
        until(lambda: here.edge.connected("pump-1"), "the device again")
        assert trips(here) == []
        here.link.mend()
        until(lambda: here.hub.condition("Device", "pump-1", "Tripped") == "True", "the latch")
        until(lambda: len(trips(here)) == 1, "the trip, told once")
        assert not here.runs()
        assert here.hub.state("pump-1", "run") in ("overridden", "blocked")
        time.sleep(1.5)
        assert len(trips(here)) == 1


def reset(here: Site) -> None:
    """At the edge, once the cause is gone."""
    here.set_speed(300)

    def standing() -> list[str]:
        code, alarms = here.edge.ask("GET", "/api/v1/alarms")
        assert code == 200, alarms
        return [alarm["id"] for alarm in alarms["items"] if alarm["rule"] == "too-fast"]

    until(standing, "the alarm")
    path, why = f"/api/v1/alarms/{standing()[0]}/reset", {"reason": "looked at it"}
    until(lambda: here.edge.ask("POST", path, why)[0] == 204, "the reset")


def desire_of_fleet(here: Site, patch: object) -> None:
    path = "/twins/v1/devices/pump-1/desired"
    code, said = here.hub.ask("PATCH", path, patch, "application/merge-patch+json")
    assert code == 202, said


@pytest.mark.parametrize("restarts", [False, True])
def test_a_start_given_before_the_reset_of_a_trip_starts_nothing(
    tmp_path: Path, *, restarts: bool
) -> None:
    with site(tmp_path) as here:
        here.hub.desire("pump-1", run=True)
        until(here.runs, "the pump runs")
        here.link.cut()
        here.set_speed(1200)
        until(lambda: not here.runs(), "the trip, without the hub")
        desire_of_fleet(here, {"run": True})  # by somebody who knows nothing of it
        reset(here)
        if restarts:
            here.edge.kill()
            here.edge.start()
            until(lambda: here.edge.connected("pump-1"), "the device again")
        here.link.mend()
        until(lambda: here.hub.state("pump-1", "run") == "blocked", "told as blocked")
        assert not here.runs()
        desire_of_fleet(here, {"run": True})
        until(here.runs, "desired anew, it runs")


def test_what_is_desired_anew_at_the_hub_is_a_new_command(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        desire_of_fleet(here, {"run": True})
        until(here.runs, "the pump runs")
        here.set_speed(1200)
        until(lambda: not here.runs(), "the trip")
        reset(here)
        until(lambda: here.hub.condition("Device", "pump-1", "Tripped") == "False", "told")
        assert not here.runs()
        desire_of_fleet(here, {"run": None})
        desire_of_fleet(here, {"run": True})
        until(here.runs, "withdrawn and desired at once, it runs")
        here.banks[1].put(Table.COIL, RUN, 0)  # by hand
        desire_of_fleet(here, {"run": True})
        until(here.runs, "desired a second time, it runs")


def test_an_old_value_never_returns(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        here.hub.desire("pump-1", speed=300)
        until(lambda: here.speed() == 300, "the first value")
        here.hub.desire("pump-1", speed=400)
        until(lambda: here.speed() == 400, "the second value")
        here.link.cut()
        here.edge.kill()
        here.set_speed(450)  # by hand, at the machine
        here.edge.start()
        until(lambda: here.edge.connected("pump-1"), "the device, in the dark")
        here.link.mend()
        until(lambda: here.hub.reported("pump-1", "speed") == 450, "what the machine says")
        assert here.speed() == 450


def test_a_command_that_may_have_expired_while_cut_is_not_applied(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        here.link.cut()
        here.hub.desire("pump-1", speed={"value": 800, "validFor": "500ms"})
        time.sleep(1.0)
        here.link.mend()
        until(lambda: here.hub.state("pump-1", "speed") == "expired", "told as expired")
        assert here.speed() == 0


def test_a_pulled_cable_is_noticed_and_what_was_desired_meanwhile_is_applied(
    tmp_path: Path,
) -> None:
    with site(tmp_path) as here:
        here.link.pull()
        here.hub.desire("pump-1", speed=600)
        time.sleep(0.5)
        here.link.plug()
        until(lambda: here.speed() == 600, "the desired value at the machine", 10)


def test_many_changes_at_once_end_in_the_last(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        for value in range(1, 51):
            here.hub.desire("pump-1", speed=value)
        until(lambda: here.speed() == 50, "the last one", 70)
        until(lambda: here.hub.state("pump-1", "speed") == "applied", "told as applied")
        until(lambda: here.hub.reported("pump-1", "speed") == 50, "and read back")


def test_a_killed_hub_that_returns_is_found_again(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        here.hub.kill()
        here.set_speed(333)
        here.hub.start()
        until(lambda: here.hub.reported("pump-1", "speed") == 333, "the value at the hub")
        here.hub.put(rule(mode="Disabled"))
        until(lambda: here.hub.condition("Rule", "too-fast", "Accepted") == "True", "the rule")
