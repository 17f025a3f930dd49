"""How the node stands to its hub, as its EdgeNode says."""

from __future__ import annotations

from pathlib import Path

from edge_process import until
from hub_rig import Site, edge_node, site

QUICK = {"syncInterval": "1s"}


def observed(here: Site) -> object:
    """The generation of the EdgeNode that is in force."""
    return here.hub.get("EdgeNode", "edge-1").get("status", {}).get("observedGeneration")


def test_a_node_that_fetches_nothing_keeps_what_is_in_force_until_it_may_again(
    tmp_path: Path,
) -> None:
    with site(tmp_path) as here:
        here.hub.put(edge_node(connectivity={"online": {**QUICK, "fetchUpdates": False}}))
        here.set_speed(10)
        until(lambda: here.hub.reported("pump-1", "speed") == 10, "status still goes up")
        until(lambda: observed(here) == 2, "its word taken")
        here.hub.desire("pump-1", speed=500)
        here.set_speed(20)
        until(lambda: here.hub.reported("pump-1", "speed") == 20, "the next status")
        assert here.speed() == 20
        here.hub.put(edge_node(connectivity={"online": QUICK}))
        until(lambda: here.speed() == 500, "what was desired meanwhile")


def test_a_node_that_is_to_be_online_is_not_ready_alone(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        here.hub.put(edge_node(connectivity={"mode": "online", "online": QUICK}))
        until(lambda: observed(here) == 2, "its word taken")
        assert here.edge.ask("GET", "/readyz")[1]["hub"] == "ok"
        here.link.cut()
        until(lambda: here.edge.ask("GET", "/readyz")[0] == 503, "not ready")
        assert here.edge.connected("pump-1")
        here.link.mend()
        until(lambda: here.edge.ask("GET", "/readyz")[0] == 200, "ready again")
