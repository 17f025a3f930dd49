"""What the hub shows of rules and of the node itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_process import free_port, until
from hub_rig import Site, edge_node, site

QUICK = {"syncInterval": "1s"}


def status(here: Site, kind: str, name: str) -> dict[str, Any]:
    found = here.hub.get(kind, name).get("status", {})
    return dict(found)


def test_a_rule_says_to_how_many_devices_it_is_applied_and_that_it_tripped(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        until(lambda: status(here, "Rule", "too-fast").get("instances"), "the rule's status")
        quiet = status(here, "Rule", "too-fast")
        assert quiet["instances"] == {"count": 1, "alarms": 0}
        assert here.hub.condition("Rule", "too-fast", "Tripped") == "False"
        here.set_speed(1200)
        until(lambda: here.hub.condition("Rule", "too-fast", "Tripped") == "True", "the trip")
        assert here.hub.said("Rule", "too-fast", "Tripped") == "pump-1"
        assert status(here, "Rule", "too-fast")["instances"] == {"count": 1, "alarms": 1}


def test_the_node_says_what_is_not_in_force_and_what_waits(tmp_path: Path) -> None:
    away = {"prometheus": {"url": f"http://127.0.0.1:{free_port()}/api/v1/write"}}
    with site(tmp_path) as here:
        until(lambda: here.hub.condition("EdgeNode", "edge-1", "Syncing") == "True", "syncing")
        assert "message" not in status(here, "EdgeNode", "edge-1")
        here.hub.put(here.device("pump-2", 2, modelRef={"name": "nobody"}))
        until(lambda: here.hub.condition("Device", "pump-2", "Accepted") == "False", "refused")
        here.hub.put(edge_node(telemetry=away, site="hall"))
        here.set_speed(7)
        until(lambda: here.hub.condition("EdgeNode", "edge-1", "Syncing") == "False", "waiting", 40)
        assert "prometheus" in here.hub.said("EdgeNode", "edge-1", "Syncing")
        message = status(here, "EdgeNode", "edge-1")["message"]
        assert "prometheus: " in message
        assert "not accepted: Device/pump-2" in message


def test_a_cycle_that_the_cap_stretches_is_said(tmp_path: Path) -> None:
    slow = {"online": {**QUICK, "writesPerSecond": 0.8}}
    with site(tmp_path) as here:
        here.hub.put(edge_node(connectivity=slow))
        here.hub.put(*(here.device(f"pump-{n}", 1) for n in range(2, 8)))

        def moves() -> bool:
            here.set_speed(here.speed() % 900 + 1)
            return here.hub.condition("EdgeNode", "edge-1", "Syncing") == "False"

        until(moves, "what is late", 60)
        assert "0.8 writes and 45 kB a second" in here.hub.said("EdgeNode", "edge-1", "Syncing")


def test_the_node_says_what_was_let_go(tmp_path: Path) -> None:
    away = {"prometheus": {"url": f"http://127.0.0.1:{free_port()}/api/v1/write"}}
    short = {"online": QUICK, "offline": {"bufferMaxAge": "1s"}}
    with site(tmp_path) as here:
        here.hub.put(edge_node(telemetry=away, connectivity=short))

        def moves() -> bool:
            here.set_speed(here.speed() % 900 + 1)
            return "samples were let go" in here.hub.said("EdgeNode", "edge-1", "Syncing")

        until(moves, "what was lost", 40)
        assert here.hub.condition("EdgeNode", "edge-1", "Syncing") == "False"
