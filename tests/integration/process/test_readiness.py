"""Alive is not ready: what a process waits for is said, and starts nobody anew."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from asking import get, status_of
from dockerfile import DOCKERFILE
from edge_process import cli, edge, free_port, machines, until
from line import MODEL, bank, device
from mosquitto import Mosquitto
from pod_process import MQTT, Pod, agent, driver, port_of, silence


def readiness(url: str) -> dict[str, object]:
    view = json.loads(get(f"{url}/readyz")[1])
    assert isinstance(view, dict)
    return view


def health_check(target: str, url: str) -> int:
    """The exit code of what an image asks of itself."""
    command = json.loads(DOCKERFILE.last(target, "HEALTHCHECK").said.partition("CMD ")[2])
    asking = subprocess.run(
        [sys.executable, *command[1:]],
        env=os.environ | {"TWINBRIDGE_HEALTH": url},
        capture_output=True,
        timeout=30,
        check=False,
    )
    return asking.returncode


def connected(pod: Pod) -> int:
    if not answers(pod):
        return 0
    view = json.loads(get(f"{pod.url}/readyz")[1])
    return int(view.get("devices", {}).get("connected", 0))


def answers(pod: Pod) -> bool:
    assert pod.process.poll() is None, pod.log
    return status_of(f"{pod.url}/healthz") == 200


def test_an_edge_is_ready_once_every_link_was_tried(tmp_path: Path) -> None:
    with silence() as listener, machines({1: bank(1)}) as plc:
        broker = f"mqtt://127.0.0.1:{port_of(listener)}"
        slow = MQTT.format(port=port_of(listener)).replace(f'"{broker}"', f"{broker}, timeout: 4s")
        (tmp_path / "plant.yaml").write_text(MODEL + device("a", plc.port) + slow)
        with edge(tmp_path / "plant.yaml", tmp_path / "state") as running:
            running.ready(connected=1)
            status, view = running.ask("GET", "/readyz")
            assert (status, view["ready"]) == (503, False)
            assert str(port_of(listener)) in view["links"], "the broker has not answered yet"
            assert str(plc.port) not in view["links"]
            assert running.ask("GET", "/healthz")[0] == 200
            until(lambda: running.ask("GET", "/readyz")[0] == 200, "tried in vain is tried")


def test_a_driver_is_ready_once_it_has_definitions_and_stays_so_without_its_bus(
    tmp_path: Path,
) -> None:
    plant = tmp_path / "plant.yaml"
    with machines({1: bank(1)}) as plc, Mosquitto(tmp_path / "mosquitto") as broker:
        plant.write_text(MODEL + device("a", plc.port))
        with driver(tmp_path, broker.url) as links:
            until(lambda: answers(links), "alive")
            until(lambda: readiness(links.url)["bus"] == "ok", "on the bus")
            assert status_of(f"{links.url}/readyz") == 503
            assert health_check("driver-modbus", f"{links.url}/healthz") == 0
            assert health_check("driver-modbus", f"{links.url}/readyz") != 0, "503 is a no"
            assert readiness(links.url)["definitions"] != "ok"
            with agent(tmp_path, plant, broker.url):
                until(lambda: connected(links) == 1, "defined, and served")
                until(lambda: status_of(f"{links.url}/readyz") == 200, "ready")
            broker.kill()
            until(lambda: readiness(links.url)["bus"] != "ok", "the bus is gone, and it is said")
            assert status_of(f"{links.url}/readyz") == 200
            links.process.kill()
            links.process.wait(10)
        with driver(tmp_path, broker.url) as links:
            until(lambda: connected(links) == 1, "from its own disk")
            until(lambda: status_of(f"{links.url}/readyz") == 200, "ready")
            until(lambda: "going on from the own disk" in links.log, "no broker")
            assert "refused" not in links.log.replace("Connection refused", "")


@pytest.mark.parametrize("text", ["10", "1ms", "soon", "-5s"])
def test_a_limit_for_stuck_loops_that_makes_no_sense_is_refused(text: str, tmp_path: Path) -> None:
    done = cli(
        *("run", "-f", str(tmp_path), "--state-dir", str(tmp_path / "state")),
        *("--api", f"127.0.0.1:{free_port()}", f"--stuck-after={text}"),
    )
    assert done.returncode == 1
    assert done.stderr.startswith("twinbridge: --stuck-after")
