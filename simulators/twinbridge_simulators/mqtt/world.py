"""The MQTT devices of a simulation, and the brokers between them and their readers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

from twinbridge.core.model import DeviceSpec
from twinbridge.errors import InvalidInput
from twinbridge_mqtt.config import MqttConnection
from twinbridge_simulators.background import Background
from twinbridge_simulators.faults import Fault, FaultKind
from twinbridge_simulators.machines.catalog import MQTT, mqtt_machine, parse_options
from twinbridge_simulators.machines.energy_meter import EnergyMeterOptions
from twinbridge_simulators.machines.fan import FanOptions
from twinbridge_simulators.machines.leak_sensor import LeakSensorOptions
from twinbridge_simulators.machines.signals import GenericOptions
from twinbridge_simulators.machines.valued import GenericValues, ValueMachine
from twinbridge_simulators.mqtt.broker import MqttBroker
from twinbridge_simulators.mqtt.client import MqttClient
from twinbridge_simulators.mqtt.device import MqttDevice, Reports, told_topics
from twinbridge_simulators.world import Place

FAULTS = frozenset(
    {
        FaultKind.OFFLINE,
        FaultKind.SILENT,
        FaultKind.GARBAGE,
        FaultKind.HUGE,
        FaultKind.STUCK,
        FaultKind.STORM,
        FaultKind.REFUSE,
        FaultKind.RESTART,
    }
)
KNOCK = 0.5
"""Seconds to see whether a broker is there already."""


class _Exchange:
    """A broker: one of ours, or one that was there before us (`broker` is then None)."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.broker: MqttBroker | None = None
        self.devices: dict[str, MqttDevice] = {}
        self.topics: set[str] = set()

    def now_at(self) -> int:
        return self.broker.port if self.broker is not None else self.port


class MqttWorld:
    """Fills `twinbridge_simulators.world.World`."""

    wire_faults = FAULTS

    def __init__(self) -> None:
        self._exchanges: list[_Exchange] = []
        self._exchange_of: dict[str, _Exchange] = {}
        self._devices: dict[str, MqttDevice] = {}
        self._open = AsyncExitStack()

    def add(self, spec: DeviceSpec, notes: Mapping[str, str], random: Random) -> ValueMachine:
        connection = spec.connection
        if not isinstance(connection, MqttConnection):
            raise TypeError(f"Device/{spec.name} is no MQTT device")
        if connection.secure:
            raise InvalidInput("mqtts:// cannot be simulated; allowed is mqtt://")
        exchange = self._exchange(connection)
        topics = {
            topic: points
            for topic, points in told_topics(spec.points).items()
            if topic not in exchange.topics
        }
        exchange.topics.update(topics)
        machine, others, reports = _made(spec, notes, random)
        device = MqttDevice(spec, [machine, *others], reports, topics)
        client = MqttClient(
            exchange.host,
            exchange.now_at,
            f"twinbridge-simulator-{spec.name}",
            user=_user(connection),
            will=device.will,
        )
        device.attach(client)
        exchange.devices[spec.name] = self._devices[spec.name] = device
        self._exchange_of[spec.name] = exchange
        return machine

    def _exchange(self, connection: MqttConnection) -> _Exchange:
        for exchange in self._exchanges:
            if (exchange.host, exchange.port) == (connection.host, connection.port):
                return exchange
        exchange = _Exchange(connection.host, connection.port)
        self._exchanges.append(exchange)
        return exchange

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            for exchange in self._exchanges:
                if not await _somebody_at(exchange.host, exchange.port):
                    broker = MqttBroker(exchange.host, exchange.port)
                    exchange.broker = await opening.enter_async_context(broker)
            background = await opening.enter_async_context(Background())
            for name, device in self._devices.items():
                background.start(device.client.run(), f"mqtt device {name}")
            self._open = opening.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._open.__aexit__(kind, error, trace)

    def place(self, name: str) -> Place:
        exchange = self._exchange_of[name]
        return Place(exchange.host, exchange.now_at())

    def strike(self, name: str, fault: Fault) -> Fault | None:
        device, exchange = self._devices[name], self._exchange_of[name]
        if fault.of is not None and device.spec.point(fault.of) is None:
            known = ", ".join(point.spec.name for point in device.spec.points)
            raise InvalidInput(f"{name} has no property {fault.of!r}; allowed are {known}")
        if fault.kind not in {FaultKind.REFUSE, FaultKind.RESTART}:
            device.strike(fault)
            return fault
        if exchange.broker is None:
            where = f"{exchange.host}:{exchange.port}"
            raise InvalidInput(f"the broker at {where} is not ours: it cannot {fault.kind}")
        if fault.kind is FaultKind.RESTART:
            exchange.broker.restart(fault.seconds)
            return None
        exchange.broker.close()
        return fault

    def end(self, name: str, fault: Fault) -> None:
        broker = self._exchange_of[name].broker
        if fault.kind is not FaultKind.REFUSE:
            self._devices[name].end(fault)
        elif broker is not None:
            broker.open_again()

    async def show(self) -> None:
        for device in self._devices.values():
            device.tell()

    def lines(self) -> Iterator[str]:
        for exchange in self._exchanges:
            ours = "" if exchange.broker is not None else " (a broker that was there before)"
            yield f"mqtt {exchange.host}:{exchange.now_at()}{ours}: {', '.join(exchange.devices)}"


def _made(
    spec: DeviceSpec, notes: Mapping[str, str], random: Random
) -> tuple[ValueMachine, list[ValueMachine], Reports]:
    """The machine, what shows the properties that it does not know, and how it reports."""
    options = parse_options(MQTT, notes)
    if isinstance(options, GenericOptions):
        machine: ValueMachine = GenericValues(spec.points, options, random)
        return machine, [], Reports(options.interval, at_change=False, retain=False)
    machine = mqtt_machine(options)
    rest = [point for point in spec.points if point.spec.name not in machine.values]
    if len(rest) == len(spec.points):
        known = ", ".join(machine.values)
        raise InvalidInput(f"none of its properties is one of this machine: {known}")
    others = [GenericValues(rest, GenericOptions(properties={}), random)] if rest else []
    return machine, list(others), _reports(options)


def _reports(options: object) -> Reports:
    if isinstance(options, EnergyMeterOptions):
        return Reports(options.every, at_change=False, retain=False)
    if isinstance(options, LeakSensorOptions | FanOptions):
        return Reports(options.every, at_change=True, retain=True)
    raise TypeError(f"{type(options).__name__} are the options of no MQTT machine")


def _user(connection: MqttConnection) -> tuple[str, str] | None:
    """As the Device says, since a broker that was there before may ask for it."""
    if connection.username is None:
        return None
    password = ""
    if connection.password_file is not None:
        try:
            password = Path(connection.password_file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise InvalidInput(f"passwordFile {connection.password_file}: {error}") from error
    return connection.username, password


async def _somebody_at(host: str, port: int) -> bool:
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(KNOCK):
            _reader, writer = await asyncio.open_connection(host, port)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        return True
    return False
