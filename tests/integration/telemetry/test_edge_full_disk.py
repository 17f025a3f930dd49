"""A disk that takes no more while an outage waits on it: the machine is stopped all the same."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import yaml
from edge_process import edge, free_port, machines, until
from hub_rig import RUN, SPEED, device, edge_node, model, rule
from test_edge_telemetry import told
from test_engines import engine

from twinbridge_simulators.registers import RegisterBank, Table


def test_a_full_disk_stops_no_trip_and_loses_nothing_that_memory_can_hold(tmp_path: Path) -> None:
    port = free_port()
    bank = RegisterBank()
    bank.define(Table.HOLDING, SPEED)
    bank.define(Table.COIL, RUN)
    bank.put(Table.COIL, RUN, 1)
    telemetry = {"prometheus": {"url": f"http://127.0.0.1:{port}/api/v1/write"}}
    with machines({1: bank}) as server:
        plant = tmp_path / "plant.yaml"
        resources = (
            edge_node(site="hall", telemetry=telemetry),
            model(),
            device("pump-1", 1, server.port),
            rule(),
        )
        plant.write_text(yaml.safe_dump_all(resources))
        with edge(plant, tmp_path / "state", "--node", "edge-1") as running:
            running.ready()
            speeds = list(range(11, 31))
            for speed in speeds:
                bank.put(Table.HOLDING, SPEED, speed)
                time.sleep(0.2)
            unlimited = resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (1, unlimited[1]))
            for speed in (41, 42, 43):
                bank.put(Table.HOLDING, SPEED, speed)
                time.sleep(1)
            bank.put(Table.HOLDING, SPEED, 1200)
            until(lambda: bank.get(Table.COIL, RUN)[0] == 0, "the machine stopped")
            time.sleep(1.5)
            resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, unlimited)
            with engine("victoria-metrics", tmp_path, port):
                wanted = {*speeds, 41, 42, 43, 1200}
                until(lambda: told(port) >= wanted, "every value, at the engine", 40)
