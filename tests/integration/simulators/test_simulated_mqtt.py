"""Simulated MQTT devices and the broker that comes with them, as paho and mosquitto see them."""

from __future__ import annotations

import asyncio
import json
import queue
import socket
import subprocess
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from twinbridge.errors import InvalidInput
from twinbridge_simulators.faults import FaultKind, fault
from twinbridge_simulators.machines.energy_meter import EnergyMeter
from twinbridge_simulators.machines.fan import Fan
from twinbridge_simulators.machines.leak_sensor import LeakSensor
from twinbridge_simulators.mqtt.broker import MqttBroker
from twinbridge_simulators.simulation import Simulation

EXAMPLE = Path(__file__).parents[3] / "examples" / "leak-and-fan"
PATIENCE = 10.0

GENERIC = """\
apiVersion: devices.twinbridge.io/v1alpha1
kind: DeviceModel
metadata: {name: mixer}
spec:
  properties:
  - {name: level, type: float, mqtt: {topic: "a/{device}/csv", format: csv, column: 2}}
  - {name: lid, type: bool, mqtt: {topic: "a/{device}/csv", format: csv, column: 0}}
  - {name: turns, type: int, mqtt: {topic: "a/{device}/hex", format: hex, encoding: uint32}}
  - name: speed
    type: float
    access: ReadWrite
    mqtt:
      topic: "a/{device}/speed"
      format: raw
      scale: 0.1
      command:
        topic: "a/{device}/speed/set"
        response: {topic: "a/{device}/speed/answer"}
---
apiVersion: devices.twinbridge.io/v1alpha1
kind: Device
metadata:
  name: mixer-1
  annotations: {simulator.twinbridge.io/options: "{interval: 0.2}"}
spec:
  modelRef: {name: mixer}
  nodeName: edge-1
  connection:
    mqtt: {url: "mqtt://127.0.0.1:18830", maxAge: 5s}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Listener:
    """A paho client that keeps what it hears."""

    def __init__(self, port: int, protocol: Any = paho.MQTTv311) -> None:
        self.heard: queue.Queue[paho.MQTTMessage] = queue.Queue()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, protocol=protocol)
        self.client.on_message = lambda _client, _data, message: self.heard.put(message)
        self.client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self.client.on_subscribe = lambda *_: self.ready.set()
        self.ready = threading.Event()
        self.client.connect_async("127.0.0.1", port)

    async def tell(self, topic: str, payload: str, **more: Any) -> None:
        """Publish with QoS 1; the broker has it then. The broker is in this very loop."""
        await asyncio.to_thread(self.ready.wait, PATIENCE)
        told = self.client.publish(topic, payload, 1, **more)
        await asyncio.to_thread(told.wait_for_publish, PATIENCE)

    async def until(self, topic: str, so: Callable[[bytes], bool] = bool) -> paho.MQTTMessage:
        """The first message on a topic with such a payload, whatever comes before it."""
        async with asyncio.timeout(PATIENCE):
            while True:
                message = await asyncio.to_thread(self.heard.get, timeout=PATIENCE)
                if message.topic == topic and so(message.payload):
                    return message


@contextmanager
def listening(port: int, protocol: Any = paho.MQTTv311) -> Iterator[Listener]:
    listener = Listener(port, protocol)
    listener.client.loop_start()
    try:
        yield listener
    finally:
        listener.client.disconnect()
        listener.client.loop_stop()


Story = Callable[[Simulation, Listener], Coroutine[Any, Any, None]]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., None]:
    """Run a story about the example's devices, or about those of a text."""

    def run(story: Story, text: str | None = None) -> None:
        whole_text = text or "---\n".join(
            (EXAMPLE / name).read_text() for name in ("models.yaml", "devices.yaml")
        )

        async def whole() -> None:
            port = free_port()
            (tmp_path / "plant.yaml").write_text(whole_text.replace("18830", str(port)))
            async with asyncio.timeout(40), Simulation.from_paths([tmp_path]) as simulation:
                with listening(port) as listener:
                    await story(simulation, listener)
            assert len(asyncio.all_tasks()) == 1

        asyncio.run(whole())

    return run


def says(**wanted: object) -> Callable[[bytes], bool]:
    def so(payload: bytes) -> bool:
        told = json.loads(payload)
        return all(told.get(key) == value for key, value in wanted.items())

    return so


def test_a_leak_is_told_at_once_and_a_late_comer_hears_what_is_kept(
    run: Callable[..., None],
) -> None:
    async def story(simulation: Simulation, listener: Listener) -> None:
        sensor = simulation.machine("leak-1")
        assert isinstance(sensor, LeakSensor)
        await listener.until("plant/leak-1/available", lambda p: p == b"online")
        await listener.until("plant/leak-1/state", says(wet=False, battery=93.0))
        simulation.fault("leak-1", FaultKind.LEAK)
        await listener.until("plant/leak-1/state", says(wet=True))
        assert sensor.wet
        port = str(simulation.place("leak-1").port)
        late = await asyncio.to_thread(
            subprocess.run,
            ["mosquitto_sub", "-p", port, "-t", "plant/leak-1/#", "-C", "2", "-v", "-W", "5"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert '"wet":true' in late.stdout
        assert "plant/leak-1/available online" in late.stdout

    run(story)


def test_a_meter_tells_its_readings_with_its_own_time_in_ms(run: Callable[..., None]) -> None:
    async def story(simulation: Simulation, listener: Listener) -> None:
        meter = simulation.machine("energy-1")
        assert isinstance(meter, EnergyMeter)
        first, second = [
            json.loads((await listener.until("plant/energy-1/reading")).payload) for _ in range(2)
        ]
        assert 4000 <= first["power"] <= 8000
        assert len(first["voltage"]) == 3
        assert second["energy"] > first["energy"]
        assert 500 <= second["ts"] - first["ts"] <= 5000

    run(story)


def test_a_fan_obeys_a_fresh_command_reports_it_and_drops_an_old_or_garbled_one(
    run: Callable[..., None],
) -> None:
    async def story(simulation: Simulation, listener: Listener) -> None:
        fan = simulation.machine("fan-1")
        assert isinstance(fan, Fan)
        assert fan.running
        topic = "plant/fan-1/command/run"
        for wrong in ('{"id": "1", "run": "OFF", "expires": 1000}', "off", "[]", '{"run": "OFF"}'):
            await listener.tell(topic, wrong)
        assert fan.wheel.run
        kept = '{"id": "2", "run": "OFF", "expires": 99999999999999}'
        command = ["mosquitto_pub", "-p", str(simulation.place("fan-1").port), "-t", topic]
        await asyncio.to_thread(subprocess.run, [*command, "-q", "1", "-m", kept], check=True)
        await listener.until("plant/fan-1/state", says(command="OFF", running=True))
        await listener.until("plant/fan-1/state", says(running=False))
        assert not fan.running
        order = '{"id": 3, "value": 30, "expires": 99999999999999}'
        await listener.tell("plant/fan-1/command/setpoint", order)
        await listener.until("plant/fan-1/state", says(setpoint=30.0))

    run(story)


def test_a_device_that_goes_is_told_by_its_will_and_comes_back(run: Callable[..., None]) -> None:
    async def story(simulation: Simulation, listener: Listener) -> None:
        await listener.until("plant/fan-1/available", lambda p: p == b"online")
        simulation.fault("fan-1", FaultKind.OFFLINE)
        await listener.until("plant/fan-1/available", lambda p: p == b"offline")
        simulation.clear("fan-1")
        await listener.until("plant/fan-1/available", lambda p: p == b"online")
        await listener.until("plant/fan-1/state")

    run(story)


def test_payload_faults_strike_what_is_told_and_end(run: Callable[..., None]) -> None:
    async def story(simulation: Simulation, listener: Listener) -> None:
        topic = "plant/fan-1/state"
        simulation.fault("fan-1", FaultKind.GARBAGE)
        garbage = await listener.until(topic, lambda p: p[:1] != b"{")
        with pytest.raises(UnicodeDecodeError):
            garbage.payload.decode()
        simulation.clear("fan-1")
        simulation.fault("fan-1", FaultKind.HUGE)
        await listener.until(topic, lambda p: len(p) > 1_000_000)
        simulation.clear("fan-1")
        simulation.fault("fan-1", fault("stuck", property="running"))
        simulation.machine("fan-1").write("run", False)  # type: ignore[attr-defined]
        await listener.until(topic, lambda p: p[:1] == b"{" and says(speed=0.0, running=True)(p))
        simulation.clear("fan-1")
        await listener.until(topic, says(running=False))
        simulation.fault("fan-1", fault("storm", rate=2000))
        for _ in range(500):
            await listener.until(topic)

    run(story)


def test_a_restarted_broker_has_forgotten_all_and_devices_find_it_again(
    run: Callable[..., None],
) -> None:
    async def story(simulation: Simulation, listener: Listener) -> None:
        await listener.until("plant/leak-1/state")
        await listener.tell("kept", "x", retain=True)
        await listener.until("kept")
        simulation.fault("leak-1", fault("restart", delay=0.05))
        assert simulation.faults("leak-1") == []
        await listener.until("plant/leak-1/available", lambda p: p == b"online")
        with listening(simulation.place("leak-1").port) as other:
            await other.until("plant/leak-1/state")
            await other.until("plant/energy-1/reading")
            assert "kept" not in {m.topic for m in other.heard.queue}

    run(story)


def test_faults_that_a_device_cannot_have_are_refused(run: Callable[..., None]) -> None:
    async def story(simulation: Simulation, _listener: Listener) -> None:
        with pytest.raises(InvalidInput, match=r"energy-1 cannot leak; allowed are .*offline"):
            simulation.fault("energy-1", FaultKind.LEAK)
        with pytest.raises(InvalidInput, match=r"no property 'dry'; allowed are wet, battery"):
            simulation.fault("leak-1", fault("stuck", property="dry"))

    run(story)


def test_any_device_is_simulated_with_its_own_formats_and_answers_commands(
    run: Callable[..., None],
) -> None:
    async def story(simulation: Simulation, listener: Listener) -> None:
        machine: Any = simulation.machine("mixer-1")
        cells = (await listener.until("a/mixer-1/csv")).payload.decode().split(",")
        assert cells[0] in {"true", "false"}
        assert 0 <= float(cells[2]) <= 100
        turns = (await listener.until("a/mixer-1/hex")).payload.decode()
        assert 0 <= int(turns, 16) <= 100
        assert len(turns) == 8
        order = {"id": "c-7", "value": 125, "expires": 99999999999999}
        await listener.tell("a/mixer-1/speed/set", json.dumps(order))
        await listener.until("a/mixer-1/speed/answer", says(id="c-7", status="ok"))
        await listener.until("a/mixer-1/speed", lambda p: float(p) == 125)
        assert machine.values["speed"] == 12.5
        order["expires"] = 1
        await listener.tell("a/mixer-1/speed/set", json.dumps(order))
        await listener.until("a/mixer-1/speed/answer", says(status="error"))

    run(story, GENERIC)


def test_a_broker_that_is_there_already_is_used(tmp_path: Path) -> None:
    async def story() -> None:
        async with asyncio.timeout(30), MqttBroker("127.0.0.1", 0) as broker:
            text = GENERIC.replace("18830", str(broker.port))
            (tmp_path / "plant.yaml").write_text(text)
            async with Simulation.from_paths([tmp_path]) as simulation:
                (line,) = simulation.lines()
                assert "a broker that was there before" in line
                with listening(broker.port) as listener:
                    await listener.until("a/mixer-1/speed")
                with pytest.raises(InvalidInput, match="is not ours"):
                    simulation.fault("mixer-1", FaultKind.RESTART)

    asyncio.run(story())


def test_the_broker_keeps_a_session_for_its_client_and_passes_on_what_version_5_adds() -> None:
    async def story() -> None:
        async with asyncio.timeout(30), MqttBroker("127.0.0.1", 0) as broker:
            port = str(broker.port)
            lasting = ["mosquitto_sub", "-p", port, "-i", "one", "-c", "-q", "1", "-t", "t/+"]
            await asyncio.to_thread(subprocess.run, [*lasting, "-E"], check=True)
            publish = ["mosquitto_pub", "-p", port, "-t", "t/x", "-q", "2", "-m", "while away"]
            await asyncio.to_thread(subprocess.run, publish, check=True)
            heard = await asyncio.to_thread(
                subprocess.run, [*lasting, "-C", "1", "-W", "5"], capture_output=True, check=True
            )
            assert heard.stdout == b"while away\n"
            with listening(broker.port, paho.MQTTv5) as listener:
                told = Properties(PacketTypes.PUBLISH)
                told.ResponseTopic = "back"
                told.CorrelationData = b"7"
                await listener.tell("q", "?", properties=told)
                got = await listener.until("q")
                assert got.properties is not None
                assert (got.properties.ResponseTopic, got.properties.CorrelationData) == (
                    "back",
                    b"7",
                )

    asyncio.run(story())
