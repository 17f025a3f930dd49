"""Driver pods and an agent pod as real processes: killed, cut off, doubled, out of step."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from edge_process import Edge, machines, until
from line import MODEL, RUN, SPEED, TEMPERATURE, bank, device, hot_rule
from mosquitto import Mosquitto
from pod_rig import STEPPED, Driver, agent, driver

from twinbridge.adapters.bus_mqtt.topics import Topics
from twinbridge_simulators.registers import RegisterBank, Table

TOPICS = Topics("edge-1")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as mosquitto:
        yield mosquitto


def write(folder: Path, *parts: str) -> Path:
    file = folder / "plant.yaml"
    file.write_text(MODEL + "".join(parts))
    return file


def stopped(pump: RegisterBank) -> bool:
    return pump.get(Table.COIL, RUN) == (0,)


def trips(edge: Edge) -> list[str]:
    try:
        items = edge.get("/api/v1/alarms")["items"]
    except OSError:
        return []
    return [alarm["id"] for alarm in items if alarm["latched"]]


def speed(edge: Edge) -> dict[str, object]:
    found = edge.get("/api/v1/devices/a")["properties"]["speed"]["desired"]
    return found if isinstance(found, dict) else {}


def test_with_broker_and_agent_gone_a_driver_starts_trips_and_hands_over_later(
    broker: Mosquitto, tmp_path: Path
) -> None:
    pump = bank(1)
    with machines({1: pump}) as plc:
        plant = write(tmp_path, device("a", plc.port), hot_rule("a"))
        with driver(tmp_path, broker.url) as modbus:
            with agent(tmp_path, broker.url, plant) as edge:
                edge.ready()
                modbus.until_serves()
            broker.kill()
            modbus.kill()
            modbus.start()
            modbus.until_serves()
            pump.put(Table.HOLDING, TEMPERATURE, 90)
            until(partial(stopped, pump), "stopped in the dark")
            until(lambda: modbus.rows("alarm"), "the latch is on disk")
            modbus.kill()
            pump.put(Table.COIL, RUN, 1)
            modbus.start()
            until(partial(stopped, pump), "the latch stands in the dark")
            broker.start()
            with agent(tmp_path, broker.url, plant) as edge:
                until(lambda: len(trips(edge)) == 1, "the trip is with the agent")
                until(lambda: not modbus.rows("record"), "all is handed over")
                assert edge.ask("PATCH", "/api/v1/devices/a/desired", {"run": True})[0] == 409
                pump.put(Table.HOLDING, TEMPERATURE, 20)
                (alarm,) = trips(edge)
                until(partial(reset, edge, alarm), "released")
                until(lambda: not modbus.rows("record"), "all is handed over")
                told = [tuple(row[2:]) for row in modbus.rows("audit")]
                taken = [tuple(row[2:]) for row in audit_of(tmp_path / "agent")]
                assert [row for row in taken if row in told] == told


def reset(edge: Edge, alarm: str) -> bool:
    status, _ = edge.ask("POST", f"/api/v1/alarms/{alarm}/reset", {"reason": "cooled"})
    return status < 300


def audit_of(state: Path) -> list[tuple[object, ...]]:
    reader = Driver(state.parent, "", name=state.name)
    return reader.rows("audit")


def test_two_drivers_given_the_same_shard_are_one_writer_and_a_standby(
    broker: Mosquitto, tmp_path: Path
) -> None:
    pump = bank(1)
    with machines({1: pump}) as plc:
        plant = write(tmp_path, device("a", plc.port), hot_rule("a"))
        with (
            agent(tmp_path, broker.url, plant) as edge,
            driver(tmp_path, broker.url, name="first") as first,
        ):
            first.until_serves()
            with driver(tmp_path, broker.url, name="second") as second:
                until(lambda: "definitions taken up" in second.log, "it knows what there is")
                until(lambda: second.health().get("definitions") == "ok", "it is ready")
                assert len(plc.connections) == 1
                assert second.serves(0)
                first.kill()
                second.until_serves()
                pump.put(Table.HOLDING, TEMPERATURE, 90)
                until(partial(stopped, pump), "stopped by the standby")
                until(lambda: len(trips(edge)) == 1, "the trip is with the agent")
                assert second.stop() == 0


def test_what_was_accepted_is_applied_though_agent_and_driver_die(
    broker: Mosquitto, tmp_path: Path
) -> None:
    pump = bank(1)
    with machines({1: pump}) as plc:
        plant = write(tmp_path, device("a", plc.port))
        with driver(tmp_path, broker.url) as modbus:
            with agent(tmp_path, broker.url, plant) as edge:
                edge.ready()
                modbus.kill()
                until(lambda: not edge.get("/api/v1/devices/a")["connected"], "lost")
                assert edge.ask("PATCH", "/api/v1/devices/a/desired", {"speed": 55})[0] == 202
                assert speed(edge)["state"] == "pending"
            modbus.start()
            modbus.until_serves()
            with agent(tmp_path, broker.url, plant) as edge:
                until(lambda: pump.get(Table.HOLDING, SPEED) == (55,), "written")
                until(lambda: speed(edge)["state"] == "applied", "told")
            with agent(tmp_path, broker.url, plant) as edge:
                edge.ready()
                assert speed(edge)["state"] == "applied"
            written = [json.loads(row[5]) for row in modbus.rows("audit") if row[2] == "write"]
            assert [said["new"] for said in written] == [55]


def test_a_rule_reads_a_device_of_another_shard(broker: Mosquitto, tmp_path: Path) -> None:
    hot, cold = bank(1), bank(2)
    with machines({1: hot}) as first, machines({2: cold}) as second:
        plant = write(
            tmp_path,
            device("a", first.port),
            device("b", second.port, 2).replace("{name: b}", "{name: b, labels: {hall: east}}"),
            hot_rule("a", on="b"),
        )
        with (
            agent(tmp_path, broker.url, plant) as edge,
            driver(tmp_path, broker.url, "--selector", "hall=east", name="east") as east,
        ):
            east.until_serves()
            with driver(tmp_path, broker.url, name="all") as everything:
                everything.until_serves()
                edge.ready(connected=2)
                hot.put(Table.HOLDING, TEMPERATURE, 90)
                until(partial(stopped, cold), "the other machine is stopped")
                assert hot.get(Table.COIL, RUN) == (1,)


def test_definitions_that_a_driver_cannot_read_change_nothing_and_are_said(
    broker: Mosquitto, tmp_path: Path
) -> None:
    pump = bank(1)
    with machines({1: pump}) as plc:
        plant = write(tmp_path, device("a", plc.port), hot_rule("a"))
        with driver(tmp_path, broker.url) as modbus:
            with agent(tmp_path, broker.url, plant) as edge:
                edge.ready()
                modbus.until_serves()
            publish(broker, TOPICS.definitions("modbus"), '[2, {"of": "a later version"}]')
            until(lambda: "format 2" in modbus.log, "it says why")
            pump.put(Table.HOLDING, TEMPERATURE, 90)
            until(partial(stopped, pump), "the old definitions run on")


def test_a_resource_that_a_driver_refuses_is_shown_by_the_agent(
    broker: Mosquitto, tmp_path: Path
) -> None:
    """As a driver of an older version refuses what it does not know."""
    with machines({1: bank(1)}) as plc:
        plant = write(tmp_path, device("a", plc.port))
        with agent(tmp_path, broker.url, plant) as edge, driver(tmp_path, broker.url) as modbus:
            edge.ready()
            modbus.until_serves()
            heard = subprocess.run(
                ["mosquitto_sub", "-p", str(broker.port), "-C", "1", "-W", "10", "-t",
                 TOPICS.definitions("modbus")],
                capture_output=True, text=True, check=True,
            ).stdout  # fmt: skip
            newer = heard.replace('"nodeName":"edge-1"', '"nodeName":"edge-1","later":1')
            publish(broker, TOPICS.definitions("modbus"), newer)
            until(
                lambda: "later" in edge.get("/readyz")["problems"].get("Device/a", ""),
                "the agent shows what the driver says",
            )


def publish(broker: Mosquitto, topic: str, payload: str) -> None:
    subprocess.run(
        ["mosquitto_pub", "-p", str(broker.port), "-r", "-q", "1", "-t", topic, "-s"],
        input=payload.encode(), check=True, timeout=10,
    )  # fmt: skip


def test_a_clock_that_steps_by_an_hour_expires_nothing_and_trips_nothing(
    broker: Mosquitto, tmp_path: Path
) -> None:
    pump = bank(1)
    with machines({1: pump}) as plc:
        plant = write(tmp_path, device("a", plc.port), hot_rule("a"))
        with (
            agent(tmp_path, broker.url, plant) as edge,
            driver(tmp_path, broker.url, command=STEPPED) as modbus,
        ):
            edge.ready()
            modbus.until_serves()
            until(partial(stepped, edge), "its clock has stepped", 20)
            patch = {"speed": {"value": 44, "validFor": "20s"}}
            assert edge.ask("PATCH", "/api/v1/devices/a/desired", patch)[0] == 202
            until(lambda: speed(edge)["state"] == "applied", "within its time")
            assert pump.get(Table.HOLDING, SPEED) == (44,)
            assert not trips(edge)
            pump.put(Table.HOLDING, TEMPERATURE, 90)
            until(partial(stopped, pump), "a trip comes all the same")


def stepped(edge: Edge) -> bool:
    """Its driver's contacts are of the future."""
    last = dt.datetime.fromisoformat(edge.get("/api/v1/devices/a")["lastContact"])
    return last > dt.datetime.now(dt.UTC) + dt.timedelta(minutes=50)
