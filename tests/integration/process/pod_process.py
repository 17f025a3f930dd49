"""Pods as processes of their own, and the silence that some of their peers keep."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_process import COMMAND, free_port
from line import device

PATIENCE = 15.0
"""Seconds that a silent listener waits for who comes."""

OPCUA = """\
---
apiVersion: devices.twinbridge.io/v1alpha1
kind: DeviceModel
metadata: {{name: boiler}}
spec:
  properties:
  - {{name: pressure, type: float, opcua: {{node: "nsu=urn:boiler;s=pressure"}}}}
---
apiVersion: devices.twinbridge.io/v1alpha1
kind: Device
metadata: {{name: silent-opcua}}
spec:
  modelRef: {{name: boiler}}
  nodeName: edge-1
  connection:
    opcua: {{url: "opc.tcp://127.0.0.1:{port}", allowInsecure: true}}
"""
MQTT = """\
---
apiVersion: devices.twinbridge.io/v1alpha1
kind: DeviceModel
metadata: {{name: sensor}}
spec:
  properties:
  - {{name: level, type: float, mqtt: {{topic: "level", maxAge: 5m}}}}
---
apiVersion: devices.twinbridge.io/v1alpha1
kind: Device
metadata: {{name: silent-mqtt}}
spec:
  modelRef: {{name: sensor}}
  nodeName: edge-1
  connection:
    mqtt: {{url: "mqtt://127.0.0.1:{port}"}}
"""


@contextmanager
def silence() -> Iterator[socket.socket]:
    """A port that takes connections and bytes, and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        listener.settimeout(PATIENCE)
        yield listener


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def patient(name: str, port: int) -> str:
    """A device whose requests may take longer than a stop may."""
    return device(name, port).replace("timeout: 150ms", "timeout: 30s")


class Pod:
    """A role in a process of its own; `url` is that of its probes, `log` all that it has said."""

    def __init__(self, folder: Path, role: str, at: str, *arguments: str) -> None:
        self.url = f"http://{at}"
        self._said = folder / f"{role}.log"
        state = str(folder / role)
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [*COMMAND, role, *arguments, "--state-dir", state, "--node", "edge-1"],
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    @property
    def log(self) -> str:
        return self._said.read_text()


@contextmanager
def driver(folder: Path, bus: str) -> Iterator[Pod]:
    """Of Modbus. Killed at the end if it still runs."""
    at = f"127.0.0.1:{free_port()}"
    yield from _running(Pod(folder, "driver", at, "modbus", "--bus", bus, "--probes", at))


@contextmanager
def agent(folder: Path, plant: Path, bus: str) -> Iterator[Pod]:
    at = f"127.0.0.1:{free_port()}"
    yield from _running(Pod(folder, "agent", at, "-f", str(plant), "--bus", bus, "--api", at))


def _running(pod: Pod) -> Iterator[Pod]:
    try:
        yield pod
    finally:
        pod.process.kill()
        pod.process.wait(10)
