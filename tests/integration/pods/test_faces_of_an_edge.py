"""The SCADA faces of `run` and `agent`: by EdgeNode, by --mqtt, changed while they run."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from edge_process import Edge, cli, edge, machines, until
from line import MODEL, bank, device
from mosquitto import Mosquitto
from pod_rig import agent, driver

SPARKPLUG = "spBv1.0/plant/NBIRTH/edge-1"
GONE = "spBv1.0/plant/NDEATH/edge-1"
STATUS = "twinbridge/v1/edge-1/status"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as mosquitto:
        yield mosquitto


def edge_node(broker: Mosquitto, *faces: str) -> str:
    blocks = {
        "mqtt": f"mqtt: {{broker: '{broker.url}'}}",
        "sparkplug": f"sparkplug: {{broker: '{broker.url}', group: plant}}",
        "kubeedge": f"kubeedge: {{broker: '{broker.url}'}}",
    }
    scada = ", ".join(blocks[face] for face in faces)
    return f"""\
---
apiVersion: devices.twinbridge.io/v1alpha1
kind: EdgeNode
metadata: {{name: edge-1}}
spec:
  scada: {{{scada}}}
"""


class Ear:
    """All that is said on some topics, as `mosquitto_sub` prints it."""

    def __init__(self, process: subprocess.Popen[bytes], said: Path) -> None:
        self.process = process
        self._said = said

    def heard(self, topic: str) -> list[str]:
        lines = self._said.read_text(errors="replace").splitlines()
        return [line.removeprefix(f"{topic} ") for line in lines if line.startswith(f"{topic} ")]


@contextmanager
def ear(folder: Path, broker: Mosquitto, *topics: str) -> Iterator[Ear]:
    said = folder / "said"
    words = [word for topic in topics for word in ("-t", topic)]
    with said.open("wb") as out:
        process = subprocess.Popen(
            ["mosquitto_sub", "-p", str(broker.port), "-v", *words], stdout=out
        )
    try:
        yield Ear(process, said)
    finally:
        process.terminate()
        process.wait(10)


def write(folder: Path, *parts: str) -> Path:
    (folder / ".new").write_text(MODEL + "".join(parts))
    return (folder / ".new").rename(folder / "plant.yaml")


def test_faces_come_change_and_go_with_their_edge_node(broker: Mosquitto, tmp_path: Path) -> None:
    with machines({1: bank(1)}) as plc, ear(tmp_path, broker, STATUS, "spBv1.0/#", "$hw/#") as said:
        pump = device("a", plc.port)
        plant = write(tmp_path, pump, edge_node(broker, "mqtt", "sparkplug", "kubeedge"))
        with edge(plant, tmp_path / "state") as running:
            running.ready()
            until(lambda: said.heard(STATUS)[-1:] == ["online"], "the plain face")
            until(lambda: said.heard(SPARKPLUG), "a birth")
            subprocess.run(
                ["mosquitto_pub", "-p", str(broker.port), "-t",
                 "$hw/events/device/default/a/twin/get", "-m", '{"event_id": "1"}'], check=True,
            )  # fmt: skip
            until(lambda: said.heard("$hw/events/device/default/a/twin/get/result"), "KubeEdge's")
            write(tmp_path, pump, edge_node(broker, "mqtt", "kubeedge"))
            until(lambda: said.heard(GONE), "Sparkplug's face has ended")
            assert said.heard(STATUS)[-1] == "online"
            assert running.stop() == 0
        until(lambda: said.heard(STATUS)[-1] == "offline", "a good-bye")


def test_an_option_shows_the_twins_where_no_edge_node_says_how(
    broker: Mosquitto, tmp_path: Path
) -> None:
    twin = "twinbridge/v1/edge-1/a/twin"
    with machines({1: bank(1)}) as plc, ear(tmp_path, broker, twin, STATUS) as said:
        plant = write(tmp_path, device("a", plc.port))
        with edge(plant, tmp_path / "state", "--mqtt", broker.url) as running:
            running.ready()
            until(lambda: any('"good"' in line for line in said.heard(twin)), "the twin")


def test_an_agent_of_pods_has_faces_too(broker: Mosquitto, tmp_path: Path) -> None:
    topic = "twinbridge/v1/edge-1/a/desired/set"
    with machines({1: bank(1)}) as plc, ear(tmp_path, broker, STATUS) as said:
        plant = write(tmp_path, device("a", plc.port), edge_node(broker, "mqtt"))
        with agent(tmp_path, broker.url, plant) as running, driver(tmp_path, broker.url) as modbus:
            modbus.until_serves()
            until(lambda: said.heard(STATUS)[-1:] == ["online"], "the plain face")
            subprocess.run(
                ["mosquitto_pub", "-p", str(broker.port), "-t", topic, "-m", '{"speed": 66}'],
                check=True,
            )
            until(lambda: speed(running) == "applied", "set by MQTT, over the bus, at the machine")


def speed(running: Edge) -> str:
    desired = running.get("/api/v1/devices/a")["properties"]["speed"]["desired"]
    return str(desired["state"]) if desired else ""


def test_a_broker_that_is_none_is_refused_with_what_is_allowed(tmp_path: Path) -> None:
    plant = write(tmp_path, device("a", 5020))
    done = cli("run", "-f", str(plant), "--mqtt", "tcp://somewhere")
    assert done.returncode == 1
    assert "mqtt://" in done.stderr
