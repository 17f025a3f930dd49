"""An edge whose engine is away, is killed, and tells everything once the engine is there."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import yaml
from edge_process import edge, free_port, machines, until
from hub_rig import RUN, SPEED, device, edge_node, model, rule
from mosquitto import Mosquitto
from test_engines import engine
from test_mqtt_upstream import Historian

from twinbridge_simulators.registers import RegisterBank, Table


def told(port: int) -> set[float]:
    query = urllib.parse.urlencode({"query": 'twinbridge_reported{property="speed"}[1h]'})
    url = f"http://127.0.0.1:{port}/api/v1/query?{query}"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            found = json.load(answer)["data"]["result"]
    except urllib.error.URLError:
        return set()  # not there yet
    assert all(one["metric"]["edge_location"] == "hall" for one in found)
    return {float(value) for one in found for _, value in one["values"]}


def test_what_was_recorded_while_the_engine_was_away_is_told_after_a_kill(tmp_path: Path) -> None:
    port = free_port()
    bank = RegisterBank()
    bank.define(Table.HOLDING, SPEED)
    bank.define(Table.COIL, 0)
    telemetry = {"prometheus": {"url": f"http://127.0.0.1:{port}/api/v1/write"}}
    with machines({1: bank}) as server:
        plant = tmp_path / "plant.yaml"
        node = edge_node(site="hall", telemetry=telemetry)
        resources = (node, model(), device("pump-1", 1, server.port))
        plant.write_text(yaml.safe_dump_all(resources))
        with edge(plant, tmp_path / "state", "--node", "edge-1") as first:
            first.ready()
            for speed in (11, 12, 13):
                bank.put(Table.HOLDING, SPEED, speed)
                time.sleep(0.5)
            time.sleep(1.5)  # samples are on disk within 1 s
            first.kill()
        with (
            engine("victoria-metrics", tmp_path, port),
            edge(plant, tmp_path / "state", "--node", "edge-1") as second,
        ):
            second.ready()
            bank.put(Table.HOLDING, SPEED, 14)
            until(lambda: told(port) >= {11, 12, 13, 14}, "every value, at the engine", 30)


def test_a_broker_upstream_gets_samples_and_the_trip_though_the_engine_cannot_be_opened(
    tmp_path: Path,
) -> None:
    bank = RegisterBank()
    bank.define(Table.HOLDING, SPEED)
    bank.define(Table.COIL, RUN)
    bank.put(Table.COIL, RUN, 1)
    with Mosquitto(tmp_path / "broker") as broker, machines({1: bank}) as server:
        telemetry = {
            "prometheus": {"url": "https://127.0.0.1:1/write", "caFile": str(tmp_path / "none")},
            "mqtt": {"broker": f"mqtt://127.0.0.1:{broker.port}", "prefix": "up/{node}"},
        }
        plant = tmp_path / "plant.yaml"
        resources = (
            edge_node(site="hall", telemetry=telemetry),
            model(),
            device("pump-1", 1, server.port),
            rule(),
        )
        plant.write_text(yaml.safe_dump_all(resources))
        historian = Historian(broker.port)
        with edge(plant, tmp_path / "state", "--node", "edge-1") as running:
            running.ready()
            bank.put(Table.HOLDING, SPEED, 1200)
            until(lambda: 1200 in historian.values(), "the speed, upstream", 30)
            until(lambda: "trip" in kinds(historian, "alarms/pump-1"), "the trip, upstream", 30)
        historian.close()
    assert kinds(historian, "alarms/pump-1").count("trip") == 1


def kinds(historian: Historian, topic: str) -> list[str]:
    return [body["kind"] for at, body in list(historian.heard) if at == f"up/edge-1/{topic}"]
