"""Simulated OPC UA machines, as another vendor's client sees them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.ua.uaerrors import (
    BadInvalidState,
    BadNodeIdUnknown,
    BadOutOfRange,
    BadTypeMismatch,
    BadUserAccessDenied,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from twinbridge.errors import InvalidInput
from twinbridge_simulators.faults import FaultKind, fault
from twinbridge_simulators.machines.boiler import Boiler
from twinbridge_simulators.simulation import Simulation

URI = "http://twinbridge.io/simulators/boiler"
OWN = "http://acme.example/press"

PRESS = f"""\
apiVersion: devices.twinbridge.io/v1alpha1
kind: DeviceModel
metadata: {{name: press}}
spec:
  properties:
  - {{name: force, type: float, minimum: 0, maximum: 50, opcua: {{node: "nsu={OWN};i=17"}}}}
  - name: stroke
    type: float
    access: ReadWrite
    opcua: {{path: Press/Drive/Stroke, namespace: "{OWN}", scale: 0.1}}
  - {{name: strokes, type: int, opcua: {{node: "nsu={OWN};s=Counts", index: 1}}}}
  - {{name: rejects, type: int, access: ReadWrite, opcua: {{node: "nsu={OWN};s=Counts", index: 2}}}}
  - name: mode
    type: string
    access: ReadWrite
    opcua: {{node: "nsu={OWN};s=Mode", labels: {{0: idle, 1: running}}}}
  - name: recipe
    type: int
    access: ReadWrite
    opcua:
      node: "nsu={OWN};s=Recipe"
      method: {{object: "nsu={OWN};s=Press", method: "nsu={OWN};s=Load", arguments: [7, "$value"]}}
---
apiVersion: devices.twinbridge.io/v1alpha1
kind: Device
metadata: {{name: press-1}}
spec:
  modelRef: {{name: press}}
  nodeName: edge-1
  connection:
    opcua: {{url: "opc.tcp://127.0.0.1:PORT/press", allowInsecure: true}}
"""

BOILER = f"""\
apiVersion: devices.twinbridge.io/v1alpha1
kind: DeviceModel
metadata: {{name: boiler}}
spec:
  properties:
  - {{name: temperature, type: float, opcua: {{node: "nsu={URI};s=Boiler.Temperature"}}}}
  - {{name: pressure, type: float, opcua: {{path: Boiler/Pressure, namespace: "{URI}"}}}}
---
apiVersion: devices.twinbridge.io/v1alpha1
kind: Device
metadata:
  name: boiler-1
  annotations:
    simulator.twinbridge.io/machine: boiler
    simulator.twinbridge.io/options: "OPTIONS"
spec:
  modelRef: {{name: boiler}}
  nodeName: edge-1
  connection:
    opcua: {{url: "opc.tcp://127.0.0.1:PORT/boiler/", allowInsecure: true}}
"""


class Served:
    """A simulation of one server, and its address."""

    def __init__(self, simulation: Simulation, port: int) -> None:
        self.simulation = simulation
        self.url = f"opc.tcp://127.0.0.1:{port}/boiler/"

    @property
    def boiler(self) -> Boiler:
        machine = self.simulation.machine("boiler-1")
        assert isinstance(machine, Boiler)
        return machine

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        async with Client(self.url, timeout=2, watchdog_intervall=60) as client:
            yield client


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., None]:
    """Run a story about a simulation of this definition."""

    def run(text: str, story: Callable[[Served], Coroutine[Any, Any, None]]) -> None:
        async def whole() -> None:
            port = free_port()
            (tmp_path / "plant.yaml").write_text(text.replace("PORT", str(port)))
            async with asyncio.timeout(40), Simulation.from_paths([tmp_path]) as simulation:
                await story(Served(simulation, port))
            async with asyncio.timeout(5):
                await until(nothing_else_runs)

        asyncio.run(whole())

    return run


def boiler(options: str = "{}") -> str:
    return BOILER.replace("OPTIONS", options)


async def node(client: Client, name: str, uri: str = URI) -> Any:
    return client.get_node(f"ns={await client.get_namespace_index(uri)};s={name}")


async def nothing_else_runs() -> bool:
    """A server that has stopped leaves no task behind."""
    return len(asyncio.all_tasks()) == 1


async def until(so: Callable[[], Awaitable[bool]]) -> None:
    while not await so():  # noqa: ASYNC110 - a machine sets no Event
        await asyncio.sleep(0.02)


def test_the_boiler_shows_analog_items_with_units_ranges_and_source_times(
    run: Callable[..., None],
) -> None:
    async def story(served: Served) -> None:
        async with served.client() as client:
            temperature = await node(client, "Boiler.Temperature")
            value = await temperature.read_data_value()
            assert value.Value.VariantType is ua.VariantType.Double
            assert value.Value.Value == pytest.approx(served.boiler.temperature, abs=5)
            assert value.SourceTimestamp is not None
            assert (await temperature.read_type_definition()).Identifier == 2368  # AnalogItemType
            eu_range = await (await temperature.get_child("0:EURange")).read_value()
            assert (eu_range.Low, eu_range.High) == (0, 250)
            units = await (await temperature.get_child("0:EngineeringUnits")).read_value()
            assert (units.UnitId, units.DisplayName.Text) == (4408652, "°C")
            limit = client.get_node(11705)  # MaxNodesPerRead
            assert await limit.read_value() == 200

    run(boiler(), story)


def test_what_is_written_acts_on_the_boiler_and_what_is_wrong_is_refused(
    run: Callable[..., None],
) -> None:
    async def story(served: Served) -> None:
        async with served.client() as client:
            valve = await node(client, "Boiler.ValveSetpoint")
            await valve.write_value(100.0)
            await until(lambda: position_is(client, 99))
            with pytest.raises(BadOutOfRange):
                await valve.write_value(101.0)
            with pytest.raises(BadTypeMismatch):
                await valve.write_value("open")
            with pytest.raises(BadUserAccessDenied):
                await (await node(client, "Boiler.Temperature")).write_value(20.0)
            assert await valve.read_value() == 100.0

    async def position_is(client: Client, least: float) -> bool:
        return bool(await (await node(client, "Boiler.Valve")).read_value() > least)

    run(boiler("{valve: 10, valveTime: 0.1}"), story)


def test_methods_switch_the_burner_and_a_shutdown_holds_it_off(run: Callable[..., None]) -> None:
    async def story(served: Served) -> None:
        async with served.client() as client:
            index = await client.get_namespace_index(URI)
            there = await node(client, "Boiler")
            await until(lambda: burns(served))
            await there.call_method(f"{index}:SetBurner", False)
            assert not served.boiler.burner
            await there.call_method(f"{index}:SetBurner", True)
            assert served.boiler.burner
            await there.call_method(f"{index}:EmergencyShutdown")
            assert not served.boiler.burner
            with pytest.raises(BadInvalidState):
                await there.call_method(f"{index}:SetBurner", True)
            await there.call_method(f"{index}:Reset")
            await there.call_method(f"{index}:SetBurner", True)
            assert served.boiler.burner

    async def burns(served: Served) -> bool:
        return served.boiler.burner

    run(boiler("{temperature: 60}"), story)


class Heard:
    """Keeps what a subscription tells."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Any] = asyncio.Queue()
        self.changes: asyncio.Queue[Any] = asyncio.Queue()

    def event_notification(self, event: Any) -> None:
        self.events.put_nowait(event)

    def datachange_notification(self, _node: Any, value: Any, _data: Any) -> None:
        self.changes.put_nowait(value)


def test_high_pressure_is_an_event_at_the_server(run: Callable[..., None]) -> None:
    async def story(served: Served) -> None:
        async with served.client() as client:
            heard = Heard()
            subscription = await client.create_subscription(50, heard)
            kind = await node(client, "HighPressureEventType")
            await subscription.subscribe_events(evtypes=kind)
            served.simulation.fault("boiler-1", FaultKind.OVERHEAT)
            event = await heard.events.get()
            assert event.Pressure >= event.Limit == 6
            assert event.SourceName == "Boiler"
            await subscription.delete()

    run(boiler("{temperature: 145, highPressure: 6}"), story)


def test_a_secured_endpoint_takes_any_certificate_and_only_known_users(
    run: Callable[..., None], tmp_path: Path
) -> None:
    async def story(served: Served) -> None:
        key, certificate = tmp_path / "key.pem", tmp_path / "cert.der"
        await setup_self_signed_certificate(
            key, certificate, "urn:test:client", "localhost", [ExtendedKeyUsageOID.CLIENT_AUTH], {}
        )
        for password, welcome in (("steam", True), ("wrong", False)):
            client = Client(served.url, timeout=2)
            client.application_uri = "urn:test:client"
            client.set_user("operator")
            client.set_password(password)
            await client.set_security(
                SecurityPolicyBasic256Sha256, certificate, key, mode=ua.MessageSecurityMode.Sign
            )
            if welcome:
                async with client:
                    assert await (await node(client, "Boiler.Pressure")).read_value() > 0
            else:
                with pytest.raises(BadUserAccessDenied):
                    await client.connect()

    run(boiler("{users: {operator: steam}}"), story)


def test_faults_of_nodes_strike_one_property_and_end(run: Callable[..., None]) -> None:
    async def story(served: Served) -> None:
        simulation = served.simulation
        async with served.client() as client:
            temperature = await node(client, "Boiler.Temperature")
            pressure = await node(client, "Boiler.Pressure")
            bad = fault("bad-status", property="temperature", status="BadSensorFailure")
            simulation.fault("boiler-1", bad)
            await until(lambda: has_status(temperature, "BadSensorFailure"))
            assert await has_status(pressure, "Good")
            simulation.clear("boiler-1")
            await until(lambda: has_status(temperature, "Good"))
            simulation.fault("boiler-1", fault("delete-node", property="pressure"))
            await until(lambda: has_status(pressure, "BadNodeIdUnknown"))
            simulation.clear("boiler-1")
            await until(lambda: has_status(pressure, "Good"))
            simulation.fault("boiler-1", fault("stuck", property="temperature"))
            before = await temperature.read_value()
            was = served.boiler.temperature
            await until(lambda: moved_on(served, was))
            assert await temperature.read_value() == before

        with pytest.raises(InvalidInput, match=r"nothing.*temperature, pressure"):
            simulation.fault("boiler-1", fault("stuck", property="nothing"))
        with pytest.raises(InvalidInput, match=r"BadLuck.*BadDeviceFailure"):
            simulation.fault("boiler-1", fault("bad-status", status="BadLuck"))
        with pytest.raises(InvalidInput, match=r"cannot jam; allowed are .*bad-status"):
            simulation.fault("boiler-1", FaultKind.JAM)

    async def has_status(of: Any, name: str) -> bool:
        try:
            value = await of.read_data_value(raise_on_bad_status=False)
        except BadNodeIdUnknown:
            return name == "BadNodeIdUnknown"
        return bool(value.StatusCode.name == name)

    run(boiler(), story)


def test_after_a_restart_the_namespaces_are_numbered_otherwise(run: Callable[..., None]) -> None:
    async def story(served: Served) -> None:
        async with served.client() as client:
            before = await client.get_namespace_index(URI)
            served.simulation.fault("boiler-1", fault("restart", delay=0.1))
            assert served.simulation.faults("boiler-1") == []
            with suppress(ua.UaError, OSError, TimeoutError):
                while True:
                    await (await node(client, "Boiler.Pressure")).read_value()
        async with asyncio.timeout(20):
            await until(lambda: answers(served))
        async with served.client() as client:
            assert await client.get_namespace_index(URI) != before
            assert await (await node(client, "Boiler.Pressure")).read_value() > 0

    run(boiler(), story)


async def moved_on(served: Served, was: float) -> bool:
    return served.boiler.temperature != was


async def answers(served: Served) -> bool:
    try:
        async with served.client():
            return True
    except (OSError, TimeoutError, ua.UaError):
        return False


def test_a_silent_server_says_nothing_and_then_goes_on_a_refusing_one_is_gone(
    run: Callable[..., None],
) -> None:
    async def story(served: Served) -> None:
        simulation = served.simulation
        async with served.client() as client:
            heard = Heard()
            subscription = await client.create_subscription(50, heard)
            await subscription.subscribe_data_change(await node(client, "Boiler.Temperature"))
            await heard.changes.get()
            simulation.fault("boiler-1", FaultKind.SILENT)
            asked = asyncio.create_task(client.nodes.server_state.read_value())
            assert not (await asyncio.wait({asked}, timeout=0.3))[0]
            simulation.clear("boiler-1")
            assert await asked == ua.ServerState.Running
            await subscription.delete()
        simulation.fault("boiler-1", FaultKind.REFUSE)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", simulation.place("boiler-1").port)
        simulation.clear("boiler-1")
        await until(lambda: answers(served))
        _reader, writer = await asyncio.open_connection(*simulation.place("boiler-1"))
        simulation.fault("boiler-1", FaultKind.CLOSE)
        with suppress(ConnectionResetError):
            assert await _reader.read() == b""
        writer.close()
        assert await answers(served)

    run(boiler(), story)


def test_a_generic_server_has_every_node_that_a_device_names_and_obeys_its_methods(
    run: Callable[..., None],
) -> None:
    async def story(served: Served) -> None:
        machine: Any = served.simulation.machine("press-1")
        async with served.client() as client:
            index = await client.get_namespace_index(OWN)
            force = client.get_node(f"ns={index};i=17")
            assert 0 <= await force.read_value() <= 50
            path = [f"{index}:Press", f"{index}:Drive", f"{index}:Stroke"]
            stroke = await client.nodes.objects.get_child(path)
            await stroke.write_value(125.0)
            assert machine.values["stroke"] == pytest.approx(12.5)
            counts = await node(client, "Counts", OWN)
            strokes = (await counts.read_value())[1]
            await counts.write_value([0, strokes, 5], ua.VariantType.Int64)
            assert machine.values["rejects"] == 5
            mode = await node(client, "Mode", OWN)
            await mode.write_value(1, ua.VariantType.Int64)
            assert machine.values["mode"] == "running"
            with pytest.raises(BadOutOfRange):
                await mode.write_value(9, ua.VariantType.Int64)
            press = await node(client, "Press", OWN)
            await press.call_method(f"{index}:Load", 7, 42)
            recipe = await node(client, "Recipe", OWN)
            await until(lambda: reads(recipe, 42))

    async def reads(of: Any, wanted: int) -> bool:
        return bool(await of.read_value() == wanted)

    run(PRESS, story)
