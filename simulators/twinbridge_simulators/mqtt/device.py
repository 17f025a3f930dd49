"""One simulated device behind a broker: publishes its machine's values, obeys its commands."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from random import Random

from twinbridge.core.model import DeviceSpec, Point, Value
from twinbridge.errors import InvalidInput
from twinbridge_mqtt.address import bound, resolve
from twinbridge_mqtt.config import Availability, MqttConnection, parse_pointer
from twinbridge_simulators.faults import Fault, FaultKind
from twinbridge_simulators.machines.valued import ValueMachine
from twinbridge_simulators.mqtt.client import MqttClient
from twinbridge_simulators.mqtt.orders import answer, parse_order
from twinbridge_simulators.mqtt.packets import Message
from twinbridge_simulators.mqtt.payload import payload_of, placed

GARBAGE = Random(11).randbytes(64)  # noqa: S311 - noise, the same in every run; no UTF-8
HUGE = b'{"filler": "' + b"x" * 1_000_000 + b'"}'
MOST_AT_ONCE = 500
"""Messages of a storm in one step, after a pause."""
SLACK = 1e-9


class Reports:
    """How a device reports: every so many seconds, at each change too, kept by the broker."""

    __slots__ = ("at_change", "every", "retain")

    def __init__(self, every: float, *, at_change: bool, retain: bool) -> None:
        self.every = every
        self.at_change = at_change
        self.retain = retain


class MqttDevice:
    """`machines`: the first that has a property's value shows it."""

    def __init__(
        self,
        spec: DeviceSpec,
        machines: Sequence[ValueMachine],
        reports: Reports,
        topics: Mapping[str, Sequence[Point]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        connection = spec.connection
        if not isinstance(connection, MqttConnection):
            raise TypeError(f"Device/{spec.name} is no MQTT device")
        self.spec = spec
        self.faults: list[Fault] = []
        self._machines = machines
        self._reports = reports
        self._topics = topics
        self._clock = clock
        self._orders = _command_topics(spec.points)
        self._availability = connection.availability
        self._device = connection.device or spec.name
        self._last: dict[str, tuple[Value, ...]] = {}
        self._due: dict[str, float] = dict.fromkeys(topics, 0.0)
        self._frozen: dict[str, Value] = {}
        self._stormed = 0.0

    def attach(self, client: MqttClient) -> None:
        self.client = client
        client.subscriptions = tuple(self._orders)
        client.connected = self._connected
        client.received = self._received

    @property
    def will(self) -> Message | None:
        """What the broker tells when the device is gone."""
        return self._state(lambda its: its.offline)

    def _state(self, word: Callable[[Availability], str]) -> Message | None:
        its = self._availability
        if its is None:
            return None
        topic = its.topic.replace("{device}", self._device)
        text = word(its)
        if its.pointer:
            text = json.dumps(placed({}, parse_pointer(its.pointer), text))
        return Message(topic, text.encode(), qos=1, retain=True)

    def has(self, kind: FaultKind) -> bool:
        return any(fault.kind is kind for fault in self.faults)

    def strike(self, fault: Fault) -> None:
        self.faults.append(fault)
        if fault.kind is FaultKind.OFFLINE:
            self.client.go()
        elif fault.kind is FaultKind.STUCK:
            names = [fault.of] if fault.of else [p.spec.name for p in self.spec.points]
            self._frozen.update({name: self.value(name) for name in names})
        elif fault.kind is FaultKind.STORM:
            self._stormed = self._clock()

    def end(self, fault: Fault) -> None:
        self.faults.remove(fault)
        if fault.kind is FaultKind.OFFLINE:
            self.client.come_back()
        elif fault.kind is FaultKind.STUCK:
            self._frozen.clear()
        self._due = dict.fromkeys(self._topics, 0.0)

    def value(self, name: str) -> Value:
        """What it shows of a property, stuck or not."""
        if name in self._frozen:
            return self._frozen[name]
        return next(m.values[name] for m in self._machines if name in m.values)

    def tell(self) -> None:
        """Publish what has changed or is due."""
        now = self._clock()
        for topic, points in self._topics.items():
            shown = tuple(self.value(point.spec.name) for point in points)
            changed = self._reports.at_change and shown != self._last.get(topic)
            if changed or now >= self._due[topic] - SLACK:
                self._last[topic] = shown
                self._due[topic] = max(now, self._due[topic]) + self._reports.every
                self._publish(topic, points, qos=1)
        if self.has(FaultKind.STORM):
            self._storm(now)

    def _storm(self, now: float) -> None:
        rate = next(f.rate for f in self.faults if f.kind is FaultKind.STORM)
        count = min(int((now - self._stormed) * rate), MOST_AT_ONCE)
        if count:
            self._stormed = now
        topics = list(self._topics.items())
        for number in range(count):
            self._publish(*topics[number % len(topics)], qos=0)

    def _publish(self, topic: str, points: Sequence[Point], qos: int) -> None:
        if self.has(FaultKind.SILENT):
            return
        if self.has(FaultKind.GARBAGE):
            payload = GARBAGE
        elif self.has(FaultKind.HUGE):
            payload = HUGE
        else:
            values = {p.spec.name: self.value(p.spec.name) for p in points}
            payload = payload_of(points, values, time.time_ns())
        self.client.publish(Message(topic, payload, qos, self._reports.retain))

    def _connected(self) -> None:
        if (state := self._state(lambda its: its.online)) is not None:
            self.client.publish(state)
        self._due = dict.fromkeys(self._topics, 0.0)
        self._last.clear()
        self.tell()

    def _received(self, message: Message) -> None:
        """An order. One that is retained, old or not understood is not obeyed."""
        if self.has(FaultKind.SILENT) or message.retain:
            return
        for point in self._orders.get(message.topic, ()):
            self._obey(point, message.payload)
        self.tell()

    def _obey(self, point: Point, payload: bytes) -> None:
        command = bound(point).model.command
        try:
            order = parse_order(point, payload)
        except InvalidInput:
            return
        if order.expires is not None and order.expires < time.time_ns() // 1_000_000:
            wrong = "the command is too old"
        else:
            wrong = self._done(point.spec.name, order.value)
        if command is not None and command.response is not None:
            topic = resolve(command.response.topic, point)
            self.client.publish(Message(topic, answer(command.response, order, wrong), qos=1))

    def _done(self, name: str, value: Value) -> str:
        """What is wrong with the order, or ''."""
        machine = next(m for m in self._machines if name in m.values)
        try:
            machine.write(name, value)
        except InvalidInput as error:
            return str(error)
        return ""


def told_topics(points: Sequence[Point]) -> dict[str, list[Point]]:
    """The points by the topics on which they are told."""
    topics: dict[str, list[Point]] = {}
    for point in points:
        template = bound(point).model.topic
        if template is not None and point.spec.access.readable:
            topics.setdefault(resolve(template, point), []).append(point)
    return topics


def _command_topics(points: Sequence[Point]) -> dict[str, list[Point]]:
    topics: dict[str, list[Point]] = {}
    for point in points:
        command = bound(point).model.command
        if command is not None:
            topics.setdefault(resolve(command.topic, point), []).append(point)
    return topics
