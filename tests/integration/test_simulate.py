"""`twinbridge simulate` and the Simulation, over real sockets and from real files."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

import twinbridge_modbus
import twinbridge_mqtt
import twinbridge_opcua
from twinbridge.core.model import SECOND, DeviceSpec, Quality, Value
from twinbridge.errors import InvalidDefinition, InvalidInput, NoResponse, UnknownName, Unreachable
from twinbridge_modbus.config import ModbusConnection
from twinbridge_simulators.faults import FaultKind, fault
from twinbridge_simulators.machines.tesys import TesysTera
from twinbridge_simulators.plant import load_devices
from twinbridge_simulators.simulation import Simulation

EXAMPLES = Path(__file__).parents[2] / "examples"
DRIVERS = {
    "modbus": twinbridge_modbus.driver,
    "opcua": twinbridge_opcua.driver,
    "mqtt": twinbridge_mqtt.driver,
}
COMMAND = [sys.executable, "-c", "from twinbridge.cli.main import main; main()", "simulate"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    """The examples in one folder, each endpoint on a free port."""
    ports: dict[str, str] = {}
    for file in EXAMPLES.rglob("*.yaml"):
        if file.name.endswith(".test.yaml"):
            continue
        text = re.sub(
            r"(port: |127\.0\.0\.1:)(\d+)",
            lambda m: m[1] + ports.setdefault(m[2], str(free_port())),
            file.read_text(),
        )
        (tmp_path / f"{file.parent.name}-{file.name}").write_text(text)
    return tmp_path


def patient(spec: DeviceSpec) -> ModbusConnection:
    """The simulation is in this process, and may be busy for longer than a machine would."""
    assert isinstance(spec.connection, ModbusConnection)
    return spec.connection.model_copy(update={"timeout": 10 * SECOND})


async def values(spec: DeviceSpec) -> dict[str, Value | None]:
    """What the driver reads of a device; every reading is good."""
    async with twinbridge_modbus.driver.open(patient(spec)) as link:
        readable = [p for p in spec.points if p.spec.access.readable]
        found: dict[str, Value | None] = {}
        for request in link.plan(readable):
            for reading in (await link.read(request)).readings:
                assert reading.quality is Quality.GOOD, reading
                found[reading.point.spec.name] = reading.value
        assert len(found) == len(readable)
        return found


async def told(spec: DeviceSpec) -> dict[str, Value | None]:
    """What a device tells by itself, once each of its properties was told and is good."""
    readable = {p.spec.name for p in spec.points if p.spec.access.readable}
    found: dict[str, Value | None] = {}
    async with DRIVERS[spec.protocol].open(spec.connection) as link:
        link.follow(link.plan([p for p in spec.points if p.spec.access.readable]))
        async for batch in link.samples():
            for _request, result in batch:
                if not isinstance(result, Exception):
                    good = (r for r in result.readings if r.quality is Quality.GOOD)
                    found.update({r.point.spec.name: r.value for r in good})
            if found.keys() == readable:
                return found
    return found


async def seen_when(
    spec: DeviceSpec, wanted: Callable[[dict[str, Value | None]], bool]
) -> dict[str, Value | None]:
    """Poll until it is so."""
    while not wanted(seen := await values(spec)):  # noqa: ASYNC110 - a machine sets no Event
        await asyncio.sleep(0.02)
    return seen


async def write(spec: DeviceSpec, **wanted: Value) -> None:
    async with twinbridge_modbus.driver.open(patient(spec)) as link:
        for name, value in wanted.items():
            point = spec.point(name)
            assert point
            await link.write(point, value)


def test_every_property_of_every_example_can_be_read_and_is_good(plant: Path) -> None:
    async def story() -> None:
        devices, _annotations = load_devices([plant])
        async with asyncio.timeout(30), Simulation.from_paths([plant]) as simulation:
            assert sorted(simulation.names) == sorted(d.name for d in devices)
            for spec in devices:
                await (values(spec) if spec.protocol == "modbus" else told(spec))

    asyncio.run(story())


def test_a_motor_stops_on_a_written_command_and_its_feedback_shows_it(plant: Path) -> None:
    async def story() -> None:
        devices, _annotations = load_devices([plant])
        (spec,) = (d for d in devices if d.name == "motor-1")
        async with asyncio.timeout(30), Simulation.from_paths([plant]) as simulation:
            assert (await values(spec))["running"] is True
            await write(spec, stop=True, run=False)
            seen = await seen_when(spec, lambda now: now["running"] is False)
            assert seen["run"] is False
            assert seen["current-l1"] == 0
            motor = simulation.machine("motor-1")
            assert isinstance(motor, TesysTera)
            assert not motor.running

    asyncio.run(story())


def test_a_generic_machine_holds_what_is_written_and_moves_what_is_not(plant: Path) -> None:
    async def story() -> None:
        devices, _annotations = load_devices([plant])
        (spec,) = (d for d in devices if d.name == "pump-1")
        async with asyncio.timeout(30), Simulation.from_paths([plant]) as simulation:
            await write(spec, speed=12.5, run=False)
            before = await values(spec)
            simulation.fault("pump-1", FaultKind.OVERHEAT)
            seen = await seen_when(spec, lambda now: float(now["temperature"] or 0) >= 190)
            assert float(before["temperature"] or 0) < 70
            assert (seen["speed"], seen["run"]) == (12.5, False)

    asyncio.run(story())


def test_a_fault_of_one_unit_leaves_its_neighbours_behind_the_port_alone(plant: Path) -> None:
    async def story() -> None:
        devices, _annotations = load_devices([plant])
        pumps = {d.name: d for d in devices}
        async with asyncio.timeout(30), Simulation.from_paths([plant]) as simulation:
            simulation.fault("pump-2", fault("silent"))
            with pytest.raises(NoResponse):
                await values(pumps["pump-2"])
            await values(pumps["pump-1"])
            simulation.clear("pump-2")
            await values(pumps["pump-2"])

    asyncio.run(story())


def test_a_stuck_value_stays_while_the_machine_moves_on(plant: Path) -> None:
    async def story() -> None:
        devices, _annotations = load_devices([plant])
        (spec,) = (d for d in devices if d.name == "motor-1")
        async with asyncio.timeout(30), Simulation.from_paths([plant]) as simulation:
            simulation.fault("motor-1", fault("stuck", table="discrete"))
            await write(spec, run=False)
            seen = await seen_when(spec, lambda now: now["current-l1"] == 0)
            assert seen["running"] is True

    asyncio.run(story())


def test_what_a_machine_cannot_have_is_refused_with_what_it_can(plant: Path) -> None:
    simulation = Simulation.from_paths([plant])
    with pytest.raises(InvalidInput, match=r"meter-1 cannot jam; allowed are .*slow"):
        simulation.fault("meter-1", FaultKind.JAM)
    with pytest.raises(UnknownName, match=r"pump-9.*pump-1"):
        simulation.fault("pump-9", FaultKind.SLOW)


def test_a_second_device_on_the_unit_of_a_machine_is_another_view_of_it(plant: Path) -> None:
    devices, notes = load_devices([plant])
    (motor,) = (d for d in devices if d.name == "motor-1")
    view = replace(motor, name="motor-view")
    simulation = Simulation([motor, view], notes)
    assert simulation.machine("motor-view") is simulation.machine("motor-1")
    with pytest.raises(InvalidInput, match="already simulated"):
        Simulation([motor, view], {**notes, "motor-view": notes["motor-1"]})


def test_an_unknown_machine_or_option_is_named(plant: Path) -> None:
    devices, _annotations = load_devices([plant])
    motor = [d for d in devices if d.name == "motor-1"]
    for notes, named in (
        ({"simulator.twinbridge.io/machine": "teslys"}, "teslys.*allowed are tesys-tera"),
        (
            {
                "simulator.twinbridge.io/machine": "tesys-tera",
                "simulator.twinbridge.io/options": "{ratedCurent: 4}",
            },
            "ratedCurent.*ratedCurrent",
        ),
        ({"simulator.twinbridge.io/options": "{properties: {temp: {}}}"}, "temp.*temperature"),
    ):
        with pytest.raises(InvalidInput, match=f"Device/motor-1.*{named}"):
            Simulation(motor, {"motor-1": notes})


def test_wrong_definitions_are_refused_with_their_place(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("kind: Devise\n")
    with pytest.raises(InvalidDefinition, match=r"bad\.yaml:1"):
        Simulation.from_paths([tmp_path])


def test_an_error_in_the_body_passes_as_it_is(plant: Path) -> None:
    async def story() -> None:
        async with Simulation.from_paths([plant]):
            raise Unreachable("as it is")

    with pytest.raises(Unreachable, match="as it is"):
        asyncio.run(story())


@contextmanager
def simulating(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """The command, once it said that it is ready, and what it said until then."""
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            said = []
            for line in process.stdout:
                said.append(line.strip())
                if line.strip() == "ready":
                    break
            yield process, said
        finally:
            if process.poll() is None:
                process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_says_where_each_machine_is_and_stops_on_a_signal(
    plant: Path, number: signal.Signals
) -> None:
    with simulating("-f", str(plant)) as (process, said):
        for line in (
            r"modbus 127\.0\.0\.1:\d+: pump-1, pump-2, pump-3",
            r"opcua 127\.0\.0\.1:\d+: boiler-1",
            r"mqtt 127\.0\.0\.1:\d+: leak-1, fan-1, energy-1",
        ):
            assert any(re.fullmatch(line, s) for s in said), said
        process.send_signal(number)
        assert process.wait(10) == 0
        assert process.stderr
        assert process.stderr.read() == ""


def test_faults_are_given_and_taken_over_rest(plant: Path) -> None:
    arguments = ("-f", str(plant), "--fault", "pump-1=overheat", "--control", "127.0.0.1:0")
    with simulating(*arguments) as (_process, said):
        (base,) = (s.removeprefix("control ") for s in said if s.startswith("control "))
        with httpx.Client(base_url=base, timeout=10, trust_env=False) as http:
            machines = {m["name"]: m for m in http.get("/machines").json()}
            assert machines["pump-1"]["faults"][0]["fault"] == "overheat"
            assert machines["motor-1"]["possible"] == ["jam", "overheat"]
            url = "/machines/motor-1/faults"
            jammed = http.post(url, json={"fault": "jam"})
            assert jammed.status_code == 201
            assert [f["fault"] for f in jammed.json()["faults"]] == ["jam"]
            assert http.delete(url).json()["faults"] == []
            assert http.post(url, json={"fault": "melt"}).status_code == 422
            assert http.post("/machines/meter-1/faults", json={"fault": "jam"}).status_code == 422
            assert http.post("/machines/nobody/faults", json={"fault": "slow"}).status_code == 404


def test_a_port_in_use_ends_the_command_with_its_address_and_exit_code_3(plant: Path) -> None:
    with simulating("-f", str(plant)) as (_process, said):
        assert said[-1] == "ready"
        second = subprocess.run(
            [*COMMAND, "-f", str(plant)], capture_output=True, text=True, timeout=30, check=False
        )
    assert second.returncode == 3
    assert re.search(r"cannot listen on 127\.0\.0\.1:\d+: .*in use", second.stderr)
    assert "Traceback" not in second.stderr


def test_a_fault_of_an_unknown_machine_ends_the_command_with_exit_code_1(plant: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "-f", str(plant), "--fault", "pump-9=slow"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no simulated machine 'pump-9'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("example", sorted(p.name for p in EXAMPLES.iterdir() if p.is_dir()))
def test_every_example_is_sound_on_loopback_with_ports_of_its_own(example: str) -> None:
    devices, _annotations = load_devices([EXAMPLES / example])
    others, _annotations = load_devices([p for p in EXAMPLES.iterdir() if p.name != example])
    endpoints = {DRIVERS[d.protocol].endpoint(d.connection) for d in devices}
    assert all("://127.0.0.1:" in e for e in endpoints)
    assert endpoints.isdisjoint(DRIVERS[d.protocol].endpoint(d.connection) for d in others)
    assert {d.node for d in devices} <= {"edge-1"}


def test_the_examples_rule_tests_pass() -> None:
    done = subprocess.run(
        [*COMMAND[:-1], "rules", "test", str(EXAMPLES)],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok  ") >= 7
