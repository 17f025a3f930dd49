"""A hub, an edge and a machine as processes of their own, with a link between them to break."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from edge_process import COMMAND, ask, free_port, machines, until

from twinbridge.testing.proxy import FaultProxy
from twinbridge_simulators.registers import RegisterBank, Table

T = TypeVar("T")
API = "devices.twinbridge.io/v1alpha1"
BASE = f"/apis/{API}/namespaces/default"
EVENTS = "/api/v1/namespaces/default/events"
PLURALS = {
    "Device": "devices",
    "DeviceModel": "devicemodels",
    "Rule": "rules",
    "EdgeNode": "edgenodes",
}
STEPPED = [sys.executable, str(Path(__file__).parent / "stepped_clock.py")]
ADMIN = "token-of-an-administrator"
SPEED, RUN = 0, 0
"""Addresses of the machine's speed (holding register) and run (coil)."""


def model(name: str = "drive", **more: object) -> dict[str, Any]:
    properties = [
        {
            "name": "speed",
            "type": "int",
            "access": "ReadWrite",
            "minimum": 0,
            "maximum": 1500,
            "modbus": {"table": "holding", "address": SPEED, "encoding": "uint16"},
        },
        {
            "name": "run",
            "type": "bool",
            "access": "ReadWrite",
            "modbus": {"table": "coil", "address": RUN},
        },
    ]
    return _resource("DeviceModel", name, {"properties": properties, **more})


def device(name: str, unit: int, port: int, **spec: object) -> dict[str, Any]:
    connection = {"modbus": {"host": "127.0.0.1", "port": port, "unit": unit, "timeout": "500ms"}}
    content = {
        "modelRef": {"name": "drive"},
        "nodeName": "edge-1",
        "connection": connection,
        "poll": {"interval": "100ms"},
    }
    return _resource("Device", name, content | spec)


def rule(name: str = "too-fast", **spec: object) -> dict[str, Any]:
    content = {
        "nodeName": "edge-1",
        "devices": {"name": "pump-1"},
        "when": {"property": "speed", "above": 1000, "onBad": "Ignore"},
        "severity": "critical",
        "trip": {
            "write": [{"property": "run", "value": False}],
            "verify": {"within": "500ms", "retries": 3},
        },
        "mode": "Armed",
    }
    return _resource("Rule", name, content | spec)


def edge_node(name: str = "edge-1", **spec: object) -> dict[str, Any]:
    quick = {"online": {"syncInterval": "1s"}}
    return _resource("EdgeNode", name, {"connectivity": quick} | spec)


def _resource(kind: str, name: str, spec: object) -> dict[str, Any]:
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name}, "spec": spec}


class HubProcess:
    """`twinbridge hub`, and what an administrator asks of it, past every broken link."""

    def __init__(self, state: Path, token_file: Path | None = None) -> None:
        self.port = free_port()
        self._state = state
        self._more = [] if token_file is None else ["--token-file", str(token_file)]
        self._credentials = {} if token_file is None else {"Authorization": f"Bearer {ADMIN}"}
        self._said = state.parent / "hub.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        address = f"127.0.0.1:{self.port}"
        with self._said.open("ab") as said:
            self.process = subprocess.Popen(
                [*COMMAND, "hub", "--listen", address, "--state-dir", self._state, *self._more],
                stdout=said,
                stderr=subprocess.STDOUT,
            )
        until(self._answers, "a hub that answers")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log
        try:
            return self.ask("GET", "/readyz")[0] == 200
        except OSError:
            return False

    @property
    def log(self) -> str:
        return self._said.read_text()

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)

    def ask(
        self, method: str, path: str, body: object = None, content: str = "application/json"
    ) -> tuple[int, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": content, **self._credentials},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                code, text = answer.status, answer.read()
        except urllib.error.HTTPError as refusal:
            with refusal:
                code, text = refusal.code, refusal.read()
        try:
            return code, json.loads(text or b"null")
        except ValueError:
            return code, text.decode()

    def put(self, *resources: Mapping[str, Any]) -> None:
        """Create, or replace the spec of what is there."""
        for resource in resources:
            path = f"{BASE}/{PLURALS[resource['kind']]}"
            code, said = self.ask("POST", path, resource)
            if code == 409:
                name = resource["metadata"]["name"]
                there = self.get(resource["kind"], name)
                code, said = self.ask("PUT", f"{path}/{name}", there | {"spec": resource["spec"]})
            assert code in (200, 201), said

    def get(self, kind: str, name: str) -> dict[str, Any]:
        code, found = self.ask("GET", f"{BASE}/{PLURALS[kind]}/{name}")
        assert code == 200, found
        return dict(found)

    def delete(self, kind: str, name: str) -> None:
        code, said = self.ask("DELETE", f"{BASE}/{PLURALS[kind]}/{name}")
        assert code == 200, said

    def desire(self, name: str, **values: object) -> None:
        """In place of all that the Device desires."""
        wishes = [
            {"name": prop, **(value if isinstance(value, dict) else {"value": value})}
            for prop, value in values.items()
        ]
        path = f"{BASE}/devices/{name}"
        patch = {"spec": {"desired": wishes}}
        code, said = self.ask("PATCH", path, patch, "application/merge-patch+json")
        assert code == 200, said

    def condition(self, kind: str, name: str, which: str) -> str:
        """Its status, or '' while there is none."""
        found = self.get(kind, name).get("status", {}).get("conditions", [])
        return next((one["status"] for one in found if one["type"] == which), "")

    def said(self, kind: str, name: str, which: str) -> str:
        found = self.get(kind, name).get("status", {}).get("conditions", [])
        return next((one["message"] for one in found if one["type"] == which), "")

    def twin(self, name: str, prop: str) -> dict[str, Any]:
        twins = self.get("Device", name).get("status", {}).get("twins", [])
        return next((one for one in twins if one["name"] == prop), {})

    def reported(self, name: str, prop: str) -> object:
        return self.twin(name, prop).get("reported", {}).get("value")

    def state(self, name: str, prop: str) -> str:
        """Of what is desired."""
        return str(self.twin(name, prop).get("desired", {}).get("state", ""))

    def events(self, reason: str) -> list[dict[str, Any]]:
        code, found = self.ask("GET", EVENTS)
        assert code == 200, found
        return [one for one in found["items"] if one["reason"] == reason]


class Rights:
    """Who may do what at the hub, and by which token the edge says who it is."""

    def __init__(self, folder: Path) -> None:
        self.hub = folder / "tokens"
        self.edge = folder / "edge-token"
        self.of_edge("edge", "first-token-of-the-edge")
        self.give("first-token-of-the-edge")

    def of_edge(self, role: str, token: str) -> None:
        """At the hub: `edge`, `viewer`, or '' for nobody."""
        node = ",edge-1" if role == "edge" else ""
        line = f"{token},edge,{role}{node}\n" if role else ""
        new = self.hub.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(f"{ADMIN},admin,admin\n{line}")
        new.replace(self.hub)

    def give(self, token: str) -> None:
        """To the edge."""
        self.edge.write_text(token)


class Link:
    """The way from the edge to the hub."""

    def __init__(self, port: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="link")
        self.proxy = FaultProxy("127.0.0.1", port)

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self.proxy.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self.proxy.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _do(self, work: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def cut(self) -> None:
        """Refuse every connection, and break those that are open."""
        self._do(self._call(self.proxy.refuse))
        self._do(self._call(self.proxy.cut))

    def mend(self) -> None:
        self._do(self.proxy.listen())

    def pull(self) -> None:
        """Keep the sockets and swallow everything."""
        self.proxy.faults.half_open = True

    def plug(self) -> None:
        self.proxy.faults.half_open = False
        self._do(self._call(self.proxy.cut))

    @staticmethod
    async def _call(act: Callable[[], None]) -> None:
        act()


class HubEdge:
    """`twinbridge run --hub …`."""

    def __init__(
        self, hub: str, state: Path, node: str = "edge-1", token_file: Path | None = None
    ) -> None:
        self._arguments = ["--hub", hub, "--node", node, "--state-dir", str(state)]
        if token_file is not None:
            self._arguments += ["--hub-token-file", str(token_file)]
        self.clock: Path | None = None
        """A file that says by how many seconds its wall clock is wrong."""
        self.port = free_port()
        self.state = state
        self._said = state.parent / f"{state.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        address = f"127.0.0.1:{self.port}"
        command = COMMAND if self.clock is None else STEPPED
        clock = {} if self.clock is None else {"TWINBRIDGE_TEST_CLOCK": str(self.clock)}
        with self._said.open("ab") as said:
            self.process = subprocess.Popen(
                [*command, "run", *self._arguments, "--api", address],
                stdout=said,
                stderr=subprocess.STDOUT,
                env={**os.environ, **clock},
            )

    @property
    def log(self) -> str:
        return self._said.read_text()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        return ask(self.port, method, path, body)

    def twin(self, name: str) -> dict[str, Any] | None:
        """None where it is not served."""
        try:
            code, found = self.ask("GET", f"/api/v1/devices/{name}")
        except OSError:
            return None
        return found if code == 200 else None

    def connected(self, name: str) -> bool:
        found = self.twin(name)
        return bool(found and found["connected"])


@dataclass(frozen=True)
class Site:
    hub: HubProcess
    link: Link
    edge: HubEdge
    banks: Mapping[int, RegisterBank]
    machine_port: int

    def device(self, name: str = "pump-1", unit: int = 1, **spec: object) -> dict[str, Any]:
        return device(name, unit, self.machine_port, **spec)

    def set_speed(self, value: int, unit: int = 1) -> None:
        self.banks[unit].put(Table.HOLDING, SPEED, value)

    def speed(self, unit: int = 1) -> int:
        return self.banks[unit].get(Table.HOLDING, SPEED)[0]

    def runs(self, unit: int = 1) -> bool:
        return bool(self.banks[unit].get(Table.COIL, RUN)[0])


def _bank() -> RegisterBank:
    bank = RegisterBank()
    bank.define(Table.HOLDING, SPEED)
    bank.define(Table.COIL, RUN)
    return bank


@contextmanager
def site(folder: Path, *, started: bool = True, rights: Rights | None = None) -> Iterator[Site]:
    """A hub with one pump (`pump-1`) and its rule, an edge, two machines (units 1 and 2)."""
    banks = {unit: _bank() for unit in (1, 2)}
    hub = HubProcess(folder / "hub", rights and rights.hub)
    with machines(banks) as server:
        try:
            hub.start()
            with Link(hub.port) as link:
                url, token = f"http://127.0.0.1:{link.proxy.port}", rights and rights.edge
                edge = HubEdge(url, folder / "edge", token_file=token)
                here = Site(hub, link, edge, banks, server.port)
                hub.put(edge_node(), model(), here.device(), rule())
                try:
                    if started:
                        edge.start()
                        until(lambda: hub.condition("Device", "pump-1", "Connected") == "True",
                              "the device connected at the hub")  # fmt: skip
                    yield here
                finally:
                    edge.kill()
        finally:
            hub.kill()
