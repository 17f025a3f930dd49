"""Rights that are taken away while the edge runs, and tokens that end."""

from __future__ import annotations

from pathlib import Path

from edge_process import until
from hub_rig import Rights, Site, site

TOKEN, NEXT = "first-token-of-the-edge", "second-token-of-the-edge"


def stands(here: Site) -> object:
    """How it stands to its hub, as the edge itself says."""
    return here.edge.ask("GET", "/readyz")[1]["hub"]


def test_an_edge_that_may_only_look_does_what_is_desired_and_tells_all_once_it_may_again(
    tmp_path: Path,
) -> None:
    rights = Rights(tmp_path)
    with site(tmp_path, rights=rights) as here:
        here.hub.desire("pump-1", run=True)
        until(here.runs, "the pump runs")
        rights.of_edge("viewer", TOKEN)
        here.hub.desire("pump-1", run=True, speed=700)
        until(lambda: here.speed() == 700, "what is desired")
        here.set_speed(1200)
        until(lambda: not here.runs(), "the trip")
        until(lambda: "events wait for the hub" in here.edge.log, "what it may not, said")
        assert "cannot create resource" in here.edge.log
        assert here.hub.condition("Device", "pump-1", "Tripped") != "True"
        rights.of_edge("edge", TOKEN)
        until(lambda: len(here.hub.events("Tripped")) == 1, "the Event", 30)
        until(lambda: here.hub.condition("Device", "pump-1", "Tripped") == "True", "told", 30)


def test_an_edge_whose_token_ends_runs_on_says_so_and_is_back_with_the_next_one(
    tmp_path: Path,
) -> None:
    rights = Rights(tmp_path)
    with site(tmp_path, rights=rights) as here:
        here.hub.desire("pump-1", run=True)
        until(here.runs, "the pump runs")
        assert stands(here) == "ok"
        rights.of_edge("", TOKEN)
        here.link.plug()  # watches that were allowed end now, and not with their time
        until(lambda: stands(here) == "not connected", "said by its own probe")
        until(lambda: "401" in here.edge.log, "and in its log")
        assert "first-token" not in here.edge.log
        assert "twinbridge_hub_client_connected 0.0" in here.edge.ask("GET", "/metrics")[1]
        here.hub.desire("pump-1", run=True, speed=500)
        here.set_speed(1200)
        until(lambda: not here.runs(), "a trip, without the hub")
        rights.give(NEXT)
        rights.of_edge("edge", NEXT)
        until(lambda: here.speed() == 500, "what was desired meanwhile")
        until(lambda: len(here.hub.events("Tripped")) == 1, "the Event")
        until(lambda: stands(here) == "ok", "said")
