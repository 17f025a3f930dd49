"""Machines that speak MQTT by a real broker, for `DriverContract`.

What such a machine has is what it last published; it publishes retained. Each cell has a topic of
its own, in one of the formats; commands come as JSON with an id, and are answered.
"""

from __future__ import annotations

import asyncio
import json
import math
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mosquitto import Mosquitto
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from twinbridge.core.model import Value
from twinbridge.ports import Driver
from twinbridge.testing.driver_contract import Cell, Mistake, Traits
from twinbridge_mqtt import driver

FLOAT32_MAX, FLOAT32_LEAST = 3.4028234663852886e38, 1.401298464324817e-45
FLOAT64_MAX, FLOAT64_LEAST = 1.7976931348623157e308, 5e-324
PATIENCE = 10.0
"""Seconds that the broker may take to take a message."""
STATUS = "status/{device}"
"""One message with several cells in it."""
COMMAND = {
    "topic": "order/{device}/{property}",
    "payload": '{"id": {id}, "value": {value}}',
    "response": {"topic": "answer/{device}/{property}"},
}


@dataclass(frozen=True, slots=True)
class Place:
    """A cell and how a value of it is published."""

    cell: Cell
    say: Callable[[Value], bytes]


def place(
    name: str,
    kind: str,
    say: Callable[[Value], bytes],
    *values: Value,
    writable: bool = True,
    **block: object,
) -> Place:
    command = {"command": COMMAND} if writable else {}
    whole = {"topic": "state/{device}/{property}", **block, **command}
    return Place(Cell(name, kind, whole, values, writable), say)


def in_json(value: Value) -> bytes:
    return json.dumps({"deep": [0, {"v": value}]}).encode()


def as_text(value: Value) -> bytes:
    return repr(value).encode()


def as_csv(value: Value) -> bytes:
    return f"first;{value!r};last\n".encode()


def packed(form: str) -> Callable[[Value], bytes]:
    return struct.Struct(form).pack


def as_hex(form: str) -> Callable[[Value], bytes]:
    return lambda value: struct.pack(form, value).hex().encode()


POINTER: dict[str, Any] = {"pointer": "/deep/1/v"}
PLACES = (
    place("temperature", "float", as_text, 20.0, 91.5, FLOAT32_MAX, format="raw"),
    place("speed", "int", in_json, 10, 0, 2**53, **POINTER),
    place("run", "bool", in_json, False, True, **POINTER),
    place("door", "bool", in_json, False, True, writable=False, **POINTER),
    place("number", "float", in_json, 0.1, -FLOAT64_MAX, FLOAT64_MAX, FLOAT64_LEAST, **POINTER),
    place("long", "int", in_json, 1, -(2**63), 2**63 - 1, 2**64 - 1, path="$.deep[1].v"),
    place("label", "string", in_json, "motor 1", "", 'ä°µ€ " \\ \n' * 200, **POINTER),
    place("column", "int", as_csv, 1, -5, 2**31, format="csv", column=1, separator=";"),
    place("short", "int", packed(">h"), 1, -(2**15), 2**15 - 1, format="binary", encoding="int16"),
    place(
        "single",
        "float",
        packed("<f"),
        0.5,
        -FLOAT32_MAX,
        FLOAT32_LEAST,
        format="binary",
        encoding="float32",
        order="DCBA",
    ),
    place("state", "string", in_json, "idle", "busy", topic=STATUS, pointer="/state"),
    place("level", "float", in_json, 0.5, 1e-300, topic=STATUS, pointer="/level"),
    place("serial", "int", as_hex(">Q"), 1, 0, 2**64 - 1, format="hex", encoding="uint64"),
)


class MqttStage:
    """`async with` starts the broker and the machines' client."""

    driver: Driver = driver
    traits = Traits(client_libraries=("paho",), stations=3, notices=6.0, nan="temperature")
    cells: Sequence[Cell] = tuple(place.cell for place in PLACES)
    mistakes = (
        Mistake("float", {"topic": "plant/+/temp"}, "wildcard"),
        Mistake("float", {"topic": "plant/temp", "format": "csv"}, "column"),
        Mistake("float", {"topic": "plant/temp"}, "command", writable=True),
    )

    def __init__(self, folder: Path) -> None:
        self._broker = Mosquitto(folder)
        self._machines = _Machines(self._broker.port, self.traits.stations)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    @property
    def port(self) -> int:
        return self._broker.port

    def connection(self, port: int, station: int) -> Mapping[str, object]:
        return {
            "url": f"mqtt://127.0.0.1:{port}",
            "device": f"m{station}",
            "keepalive": "1s",
            "timeout": "1s",
            "availability": {"topic": "alive/{device}"},
        }

    async def start(self) -> None:
        await asyncio.to_thread(self._broker.start)
        await asyncio.to_thread(self._machines.start)

    async def stop(self) -> None:
        await asyncio.to_thread(self._machines.stop)
        await asyncio.to_thread(self._broker.stop)

    async def set(self, name: str, value: Value, station: int = 0) -> None:
        await asyncio.to_thread(self._machines.set, name, value, station)

    async def value(self, name: str, station: int = 0) -> Value:
        return self._machines.has[name, station]

    def writes(self, station: int = 0) -> Sequence[tuple[str, Value]]:
        return self._machines.writes[station]

    async def refuse(self, name: str) -> None:
        self._machines.refused.add(name)

    async def ignore(self, name: str) -> None:
        self._machines.ignored.add(name)

    async def fail(self, name: str) -> None:
        await asyncio.to_thread(self._machines.publish, f"state/m0/{name}", b"---")

    async def doubt(self, name: str) -> None:
        raise NotImplementedError("MQTT knows no uncertain value")

    async def mute(self, station: int) -> None:
        await asyncio.to_thread(self._machines.publish, f"alive/m{station}", b"offline")

    async def slow(self, seconds: float) -> None:
        self._machines.pause.clear()

    async def heal(self) -> None:
        await asyncio.to_thread(self._machines.heal)


class _Machines:
    """All machines behind one client, which runs in a thread of its own."""

    def __init__(self, port: int, stations: int) -> None:
        self._port = port
        self._stations = stations
        self._places = {place.cell.name: place for place in PLACES}
        self._client: Client | None = None
        self._subscribed = threading.Event()
        self.has = {
            (place.cell.name, station): place.cell.values[0]
            for place in PLACES
            for station in range(stations)
        }
        self.writes: list[list[tuple[str, Value]]] = [[] for _ in range(stations)]
        self.refused: set[str] = set()
        self.ignored: set[str] = set()
        self.pause = threading.Event()
        self.pause.set()

    def start(self) -> None:
        """Connect, listen for orders, and tell all; returns once the broker has it."""
        client = self._client = Client(CallbackAPIVersion.VERSION2)
        client.on_message = self._order
        client.on_subscribe = lambda *_: self._subscribed.set()
        client.connect("127.0.0.1", self._port)
        client.loop_start()
        self._subscribed.clear()
        client.subscribe("order/#", qos=1)
        if not self._subscribed.wait(PATIENCE):
            raise TimeoutError("the broker does not answer")
        self.tell_all()

    def stop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            self.pause.set()
            client.disconnect()
            client.loop_stop()

    def tell_all(self) -> None:
        for name, station in self.has:
            self.tell(name, station)
        for station in range(self._stations):
            self.publish(f"alive/m{station}", b"online")

    def set(self, name: str, value: Value, station: int) -> None:
        self.has[name, station] = value
        self.tell(name, station)

    def tell(self, name: str, station: int, *, wait: bool = True) -> None:
        if self._places[name].cell.block["topic"] == STATUS:
            status = {n: self.has[n, station] for n in ("state", "level")}
            self.publish(f"status/m{station}", json.dumps(status).encode(), wait=wait)
            return
        value = self.has[name, station]
        said = b"nan" if value != value else self._places[name].say(value)  # noqa: PLR0124 - NaN
        self.publish(f"state/m{station}/{name}", said, wait=wait)

    def publish(self, topic: str, payload: bytes, *, wait: bool = True) -> None:
        """Retained. Does nothing while there is no broker: all is told when it is back."""
        if self._client is not None:
            sent = self._client.publish(topic, payload, qos=1, retain=True)
            if wait:
                sent.wait_for_publish(PATIENCE)

    def heal(self) -> None:
        self.pause.set()
        self.refused.clear()
        self.ignored.clear()
        self.tell_all()

    def _order(self, client: Client, userdata: object, message: MQTTMessage) -> None:
        """In the client's thread: it may publish, and must not wait."""
        _, machine, name = message.topic.split("/")
        station = int(machine.removeprefix("m"))
        order = json.loads(message.payload)
        self.pause.wait(PATIENCE)
        if name in self.refused:
            self._answer(machine, name, {"id": order["id"], "status": "no", "message": "not now"})
            return
        self.writes[station].append((name, order["value"]))
        if name not in self.ignored:
            value = order["value"]
            floating = self._places[name].cell.type == "float"
            self.has[name, station] = value = float(value) if floating else value
            assert not (floating and math.isnan(value))
            self.tell(name, station, wait=False)
        self._answer(machine, name, {"id": order["id"], "status": "ok"})

    def _answer(self, machine: str, name: str, answer: Mapping[str, object]) -> None:
        if self._client is not None:
            self._client.publish(f"answer/{machine}/{name}", json.dumps(answer), qos=1)
