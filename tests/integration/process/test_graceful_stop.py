"""SIGTERM ends an edge or a pod soon, whatever hangs on it, and what was decided is on disk."""

from __future__ import annotations

import json
import socket
import sqlite3
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from asking import get, status_of
from edge_process import Edge, edge, machines, until
from line import MODEL, RUN, TEMPERATURE, bank, device, hot_rule
from mosquitto import Mosquitto
from pod_process import MQTT, OPCUA, Pod, agent, driver, patient, port_of, silence

from twinbridge_simulators.registers import Table

STOP = 15.0
"""Seconds; 5 are promised, a machine with other work to do may take longer."""


def stop(running: Edge | Pod) -> None:
    """The end comes, and is a good one."""
    begun = time.monotonic()
    running.process.terminate()
    assert running.process.wait(STOP) == 0, running.log
    assert "Traceback" not in running.log, running.log
    assert "not everything could be kept" not in running.log, running.log
    print(f"stopped in {time.monotonic() - begun:.2f} s")


def test_silent_machines_of_every_protocol_hold_no_stop(tmp_path: Path) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(silence()) for _ in range(12)]
        ports = [port_of(listener) for listener in silent]
        text = MODEL + OPCUA.format(port=ports[0]) + MQTT.format(port=ports[1])
        text += "".join(patient(f"m{n}", port) for n, port in enumerate(ports[2:]))
        (tmp_path / "plant.yaml").write_text(text)
        running = stack.enter_context(edge(tmp_path / "plant.yaml", tmp_path / "state"))
        for listener in silent:
            asking, _ = listener.accept()
            stack.enter_context(asking).settimeout(STOP)
            assert asking.recv(1), "it has asked, and waits"
        running.ready(connected=0)
        stop(running)


def hanging_clients(running: Edge, stack: ExitStack) -> None:
    """A stream that is never read, a head that never ends, a body that never comes."""
    where = "Host: 127.0.0.1\r\n"
    form = "Content-Type: application/json\r\nContent-Length: 1000\r\n"
    said = (
        f"GET /api/v1/events HTTP/1.1\r\n{where}\r\n",
        f"GET /api/v1/devices HTTP/1.1\r\n{where}",
        f"PATCH /api/v1/devices/a/desired HTTP/1.1\r\n{where}{form}\r\n{{",
        "",
    )
    for text in said:
        client = socket.socket()
        stack.enter_context(client).setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.settimeout(STOP)
        client.connect(("127.0.0.1", running.port))
        client.sendall(text.encode())
        if "events" in text:
            assert client.recv(12) == b"HTTP/1.1 200"


def trip_on_disk(state: Path) -> bool:
    """Whether the latch and the audit record of the trip are there, as another process sees it."""
    with closing(sqlite3.connect(f"file:{state / 'state.db'}?mode=ro", uri=True)) as db:
        alarms = [json.loads(body) for (body,) in db.execute("SELECT body FROM alarm")]
        trips = db.execute("SELECT count(*) FROM audit WHERE kind = 'trip'").fetchone()[0]
    return any(alarm["latched"] for alarm in alarms) and bool(trips)


def test_under_load_with_clients_that_hang_it_stops_and_keeps_the_latch(tmp_path: Path) -> None:
    units = {unit: bank(unit) for unit in range(1, 41)}
    with ExitStack() as stack:
        plc = stack.enter_context(machines(units))
        text = MODEL + device("a", plc.port) + hot_rule("a")
        text += "".join(device(f"d{unit}", plc.port, unit, "20ms") for unit in range(2, 41))
        (tmp_path / "plant.yaml").write_text(text)
        running = stack.enter_context(edge(tmp_path / "plant.yaml", tmp_path / "state"))
        running.ready(connected=40)
        hanging_clients(running, stack)
        units[1].put(Table.HOLDING, TEMPERATURE, 90)
        until(lambda: units[1].get(Table.COIL, RUN) == (0,), "stopped")
        stop(running)  # at once: what the trip has to keep may still be on its way
    assert trip_on_disk(tmp_path / "state")


def test_a_stop_before_it_serves_is_a_good_end_too(tmp_path: Path) -> None:
    with silence() as listener:
        (tmp_path / "plant.yaml").write_text(MODEL + patient("a", port_of(listener)))
        with edge(tmp_path / "plant.yaml", tmp_path / "state") as running:
            until(lambda: "starting" in running.log, "the start")
            stop(running)


@pytest.mark.parametrize("broker", ["killed", "hanging"])
def test_pods_stop_soon_whatever_becomes_of_broker_and_machines(
    tmp_path: Path, broker: str
) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(silence()) for _ in range(5)]
        plc = stack.enter_context(machines({1: bank(1)}))
        mosquitto = stack.enter_context(Mosquitto(tmp_path / "mosquitto"))
        text = MODEL + device("a", plc.port) + hot_rule("a")
        text += "".join(patient(f"m{n}", port_of(there)) for n, there in enumerate(silent))
        (tmp_path / "plant.yaml").write_text(text)
        twins = stack.enter_context(agent(tmp_path, tmp_path / "plant.yaml", mosquitto.url))
        links = stack.enter_context(driver(tmp_path, mosquitto.url))
        until(lambda: status_of(f"{links.url}/readyz") == 200, "the driver is ready")
        shown = f"{twins.url}/api/v1/devices/a"
        until(lambda: '"connected":true' in get(shown)[1], "the twin lives")
        if broker == "killed":
            mosquitto.kill()
        else:
            mosquitto.pause()
            stack.callback(mosquitto.resume)
        stop(links)
        stop(twins)
