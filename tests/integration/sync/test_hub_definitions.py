"""What the hub defines, sound or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from edge_process import until
from hub_rig import HubEdge, model, site


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"modelRef": {"name": "unknown"}}, "unknown"),
        ({"desired": [{"name": "pressure", "value": 1}]}, "pressure"),
        ({"desired": [{"name": "speed", "value": "fast"}]}, "speed"),
        ({"desired": [{"name": "speed", "value": 9000}]}, "1500"),
    ],
)
def test_a_device_edited_into_nonsense_is_told_so_and_runs_on(
    tmp_path: Path, spec: dict[str, Any], said: str
) -> None:
    with site(tmp_path) as here:
        here.hub.put(here.device(**spec))
        until(lambda: here.hub.condition("Device", "pump-1", "Accepted") == "False", "refused")
        assert said in here.hub.said("Device", "pump-1", "Accepted")
        until(lambda: here.hub.events("NotAccepted"), "an Event")
        assert said in here.hub.events("NotAccepted")[0]["message"]
        here.set_speed(123)
        until(lambda: here.hub.reported("pump-1", "speed") == 123, "it runs on")
        here.hub.put(here.device(desired=[{"name": "speed", "value": 77}]))
        until(lambda: here.hub.condition("Device", "pump-1", "Accepted") == "True", "mended")
        until(lambda: here.speed() == 77, "and in force")


def test_a_new_device_without_a_model_disturbs_nobody(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        here.hub.put(here.device("pump-2", 2, modelRef={"name": "later"}))
        until(lambda: here.hub.condition("Device", "pump-2", "Accepted") == "False", "refused")
        here.hub.desire("pump-1", speed=55)
        until(lambda: here.speed() == 55, "the other device")
        here.hub.put(model("later"))
        until(lambda: here.hub.condition("Device", "pump-2", "Accepted") == "True", "accepted")
        until(lambda: here.hub.condition("Device", "pump-2", "Connected") == "True", "served")


def test_an_override_wins_while_it_lasts_and_is_told(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        here.hub.desire("pump-1", speed=100)
        until(lambda: here.speed() == 100, "the hub's value")
        code, _ = here.edge.ask("PATCH", "/api/v1/devices/pump-1/desired", {"speed": 200})
        assert code == 202
        until(lambda: here.hub.state("pump-1", "speed") == "overridden", "told")
        assert "200" in here.hub.twin("pump-1", "speed")["desired"]["message"]
        here.hub.desire("pump-1", speed=150)
        until(lambda: here.hub.twin("pump-1", "speed")["desired"]["value"] == 150, "seen")
        assert here.speed() == 200
        code, _ = here.edge.ask("PATCH", "/api/v1/devices/pump-1/desired", {"speed": None})
        assert code == 202
        until(lambda: here.speed() == 150, "handed back")
        until(lambda: here.hub.state("pump-1", "speed") == "applied", "told")


def test_a_device_made_anew_while_cut_is_another_one(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        here.hub.desire("pump-1", speed=100)
        until(lambda: here.speed() == 100, "the first device's value")
        here.link.cut()
        here.hub.delete("Device", "pump-1")
        here.set_speed(1)
        here.hub.put(here.device(desired=[{"name": "speed", "value": 100}]))
        here.link.mend()
        until(lambda: here.speed() == 100, "what the second one desires")
        until(lambda: here.hub.state("pump-1", "speed") == "applied", "told of the second one")


def test_a_second_edge_that_claims_the_node_takes_nothing_and_tells_nothing(
    tmp_path: Path,
) -> None:
    with site(tmp_path) as here:
        second = HubEdge(f"http://127.0.0.1:{here.hub.port}", tmp_path / "second")
        second.start()
        try:
            until(lambda: "another process holds this node" in second.log, "told apart")
            assert second.twin("pump-1") is None
            here.set_speed(42)
            until(lambda: here.hub.reported("pump-1", "speed") == 42, "the first one goes on")
        finally:
            second.kill()


def test_a_device_moved_to_another_node_is_let_go(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        here.hub.put(here.device(nodeName="edge-2"))
        until(lambda: here.edge.twin("pump-1") is None, "let go")
