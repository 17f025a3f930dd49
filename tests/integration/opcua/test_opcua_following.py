"""What an OPC UA server tells by itself, and what is asked of it where it does not."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.server.monitored_item_service import MonitoredItemService
from asyncua.server.uaprocessor import UaProcessor
from opcua_boiler import URI, Boiler, Stage, boiler, connection, free_port, point, watching

from twinbridge.core.model import SECOND, Access, Quality, Reason, ValueType
from twinbridge_opcua import driver, resolving

if TYPE_CHECKING:
    from twinbridge.ports import PushLink, ReadResult


async def read_all(link: PushLink, *points: Any) -> dict[str, Any]:
    readings: list[ReadResult] = [await link.read(request) for request in link.plan(points)]
    return {r.point.spec.name: r for result in readings for r in result.readings}


def test_a_change_on_the_server_is_told_without_being_asked_for(stage: Stage) -> None:
    async def run(plant: Boiler) -> None:
        to = connection(plant.port)
        async with driver.open(to) as link, watching(link, [point(to, "Temperature")]) as watch:
            assert (await watch.until_value("Temperature", 20.5)).quality is Quality.GOOD
            await plant.set("Temperature", 21.25)
            reading = await watch.until_value("Temperature", 21.25)
            assert reading.source_time is not None

    stage.run(run)


def test_an_unchanged_value_is_confirmed_again_and_again(stage: Stage) -> None:
    async def run(plant: Boiler) -> None:
        to = connection(plant.port)
        async with driver.open(to) as link, watching(link, [point(to, "Temperature")]) as watch:
            await watch.until_value("Temperature", 20.5)
            heard = watch.answers
            await watch.until(lambda: watch.answers >= heard + 2)
            assert watch.told == [("Temperature", 20.5)]

    stage.run(run)


def test_every_type_of_value_arrives_as_the_property_wants_it(stage: Stage) -> None:
    async def run(plant: Boiler) -> None:
        to = connection(plant.port)
        points = [
            point(to, "Pressure", ValueType.INT),
            point(to, "Running", ValueType.BOOL),
            point(to, "Name", ValueType.STRING),
            point(to, "Stages", ValueType.INT, index=1),
            point(to, "State", ValueType.STRING, labels={0: "stopped", 1: "running"}),
            point(to, "Pressure", prop="bar", scale=0.1, offset=1.0),
        ]
        expected = {
            "Pressure": 3,
            "Running": True,
            "Name": "north",
            "Stages": 2,
            "State": "running",
            "bar": pytest.approx(1.3),
        }
        async with driver.open(to) as link, watching(link, points) as watch:
            await watch.until(lambda: len(watch.last) == len(points))
            assert {name: r.value for name, r in watch.last.items()} == expected
            asked = await read_all(link, *points)
            assert {name: r.value for name, r in asked.items()} == expected

    stage.run(run)


def test_a_node_that_is_not_there_is_bad_in_words_and_harms_no_other(stage: Stage) -> None:
    async def run(plant: Boiler) -> None:
        to = connection(plant.port)
        points = [
            point(to, "Temperature"),
            point(to, "Gone"),
            point(to, "X", node="nsu=http://nobody.com;s=X"),
            point(to, "Y", path="Boiler/Y", namespace=URI),
        ]
        async with driver.open(to) as link, watching(link, points) as watch:
            await watch.until_value("Temperature", 20.5)
            assert "no such node (BadNodeIdUnknown" in watch.last["Gone"].message
            assert "no namespace http://nobody.com" in watch.last["X"].message
            assert "Boiler/Y: the server has no node at this path" in watch.last["Y"].message
            await plant.set("Temperature", 30.0)
            await watch.until_value("Temperature", 30.0)
            heard = len(watch.told)
            await watch.until(lambda: ("Gone", None) in watch.told[heard:])

    stage.run(run)


def test_a_missing_node_is_found_once_it_is_there(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolving, "ASK_AGAIN", 0.1)

    async def run(plant: Boiler) -> None:
        to = connection(plant.port)
        points = [
            point(to, "Level"),
            point(to, "Level", prop="path", path="Boiler/Level", namespace=URI),
        ]
        async with driver.open(to) as link, watching(link, points) as watch:
            await watch.until_bad("Level")
            await watch.until_bad("path")
            await plant.add("Level", 5.0, ua.VariantType.Double)
            await watch.until_value("Level", 5.0)
            await watch.until_value("path", 5.0)

    stage.run(run)


# The server of the test fails to tell, and so it is asked.
@pytest.mark.filterwarnings("ignore:coroutine 'MonitoredItemService.datachange_callback'")
def test_a_node_that_is_deleted_turns_bad(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinbridge_opcua.following.QUIET", 0.2)

    async def run(plant: Boiler) -> None:
        to = connection(plant.port)
        points = [point(to, "Temperature"), point(to, "Pressure", ValueType.INT)]
        async with driver.open(to) as link, watching(link, points) as watch:
            await watch.until_value("Temperature", 20.5)
            await plant.delete("Temperature")
            assert "BadNodeIdUnknown" in (await watch.until_bad("Temperature")).message
            await plant.set("Pressure", 4)
            await watch.until_value("Pressure", 4)

    stage.run(run)


@pytest.mark.filterwarnings("ignore:coroutine 'MonitoredItemService.datachange_callback'")
def test_a_node_that_changes_its_type_is_bad_until_it_fits_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinbridge_opcua.following.QUIET", 0.2)

    async def run(plant: Boiler) -> None:
        to = connection(plant.port)
        await plant.add("Heat", 20.5, ua.VariantType.Double)
        async with driver.open(to) as link, watching(link, [point(to, "Heat")]) as watch:
            await watch.until_value("Heat", 20.5)
            await plant.delete("Heat")
            await plant.add("Heat", "hot", ua.VariantType.String)
            await watch.until(lambda: "String" in watch.last["Heat"].message)
            assert (
                watch.last["Heat"].message
                == "the node gives the String 'hot', the property is a number"
            )
            assert watch.last["Heat"].value is None
            await plant.delete("Heat")
            await plant.add("Heat", 22.0, ua.VariantType.Double)
            await watch.until_value("Heat", 22.0)

    stage.run(run)


def test_status_and_source_time_are_those_of_the_server(stage: Stage) -> None:
    at = datetime.now(UTC).replace(microsecond=250) - timedelta(hours=1)

    async def run(plant: Boiler) -> None:
        to = connection(plant.port)
        async with driver.open(to) as link, watching(link, [point(to, "Temperature")]) as watch:
            await watch.until_value("Temperature", 20.5)
            last_usable = ua.StatusCode(ua.UInt32(ua.StatusCodes.UncertainLastUsableValue))
            await plant.tell(
                "Temperature",
                ua.DataValue(ua.Variant(19.0), last_usable, SourceTimestamp=at),
            )
            reading = await watch.until_value("Temperature", 19.0)
            assert (reading.quality, reading.reason) == (Quality.UNCERTAIN, Reason.STALE)
            assert "UncertainLastUsableValue, 0x40900000" in reading.message
            assert reading.source_time == int(at.timestamp()) * SECOND + 250_000
            broken = ua.StatusCode(ua.UInt32(ua.StatusCodes.BadSensorFailure))
            await plant.tell("Temperature", ua.DataValue(ua.Variant(19.0), broken))
            reading = await watch.until_bad("Temperature")
            assert "sensor has failed (BadSensorFailure, 0x808C0000)" in reading.message

    stage.run(run)


def test_what_is_followed_no_more_is_told_no_more(stage: Stage) -> None:
    async def run(plant: Boiler) -> None:
        to = connection(plant.port)
        first, second = point(to, "Temperature"), point(to, "Pressure", ValueType.INT)
        async with driver.open(to) as link, watching(link, [first, second]) as watch:
            await watch.until_value("Temperature", 20.5)
            await watch.until_value("Pressure", 3)
            watch.points = [second]
            watch.follow()
            heard = watch.answers
            await watch.until(lambda: watch.answers > heard)
            await plant.set("Temperature", 99.0)
            await plant.set("Pressure", 8)
            await watch.until_value("Pressure", 8)
            assert watch.last["Temperature"].value == 20.5

    stage.run(run)


def test_inputs_of_trips_and_others_are_told_side_by_side(stage: Stage) -> None:
    async def run(plant: Boiler) -> None:
        to = connection(plant.port, publishingInterval="300ms")
        points = [
            point(to, "Running", ValueType.BOOL, urgent=True),
            point(to, "Temperature"),
            point(to, "Setpoint", access=Access.READ_WRITE),
        ]
        async with driver.open(to) as link, watching(link, points) as watch:
            assert len(watch.requests) == 3
            await watch.until(lambda: len(watch.last) == 3)
            await plant.set("Running", False)
            await plant.set("Temperature", 50.0)
            await watch.until_value("Running", False)
            await watch.until_value("Temperature", 50.0)

    stage.run(run)


def refuse(monkeypatch: pytest.MonkeyPatch, request: type, code: int) -> None:
    """The server answers one kind of request with a service fault."""
    honest = UaProcessor._process_message

    async def process(self: Any, typeid: Any, *rest: Any) -> Any:
        if typeid == ua.NodeId(getattr(ua.ObjectIds, f"{request.__name__}_Encoding_DefaultBinary")):
            raise ServiceError(code)
        return await honest(self, typeid, *rest)

    monkeypatch.setattr(UaProcessor, "_process_message", process)


@pytest.mark.parametrize(
    ("request_type", "code"),
    [
        (ua.CreateSubscriptionRequest, ua.StatusCodes.BadTooManySubscriptions),
        (ua.CreateMonitoredItemsRequest, ua.StatusCodes.BadServiceUnsupported),
    ],
)
def test_what_the_server_will_not_watch_is_polled(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, request_type: type, code: int
) -> None:
    async def run(plant: Boiler) -> None:
        refuse(monkeypatch, request_type, code)
        to = connection(plant.port)
        points = [point(to, "Temperature")]
        async with driver.open(to) as link, watching(link, points) as watch:
            await watch.until(lambda: watch.polled == ["Temperature"])
            assert (await read_all(link, *points))["Temperature"].value == 20.5

    stage.run(run)


def test_a_link_that_is_to_poll_asks_for_every_value(stage: Stage) -> None:
    async def run(plant: Boiler) -> None:
        to = connection(plant.port, mode="poll")
        points = [point(to, "Temperature"), point(to, "Gone")]
        async with driver.open(to) as link:
            assert not any(request.pushed for request in link.plan(points))
            answered = await read_all(link, *points)
            assert answered["Temperature"].value == 20.5
            assert "BadNodeIdUnknown" in answered["Gone"].message

    stage.run(run)


def test_a_deadband_that_the_server_refuses_is_done_without(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = MonitoredItemService._create_data_change_monitored_item

    async def without_filters(
        self: MonitoredItemService, wanted: ua.MonitoredItemCreateRequest
    ) -> ua.MonitoredItemCreateResult:
        if not isinstance(wanted.RequestedParameters.Filter, ua.DataChangeFilter):
            return await honest(self, wanted)
        return ua.MonitoredItemCreateResult(
            ua.StatusCode(ua.UInt32(ua.StatusCodes.BadMonitoredItemFilterUnsupported))
        )

    monkeypatch.setattr(MonitoredItemService, "_create_data_change_monitored_item", without_filters)

    async def run(plant: Boiler) -> None:
        to = connection(plant.port)
        points = [point(to, "Temperature", deadband={"percent": 5.0}), point(to, "Setpoint")]
        async with driver.open(to) as link, watching(link, points) as watch:
            await watch.until_value("Temperature", 20.5)
            await watch.until_value("Setpoint", 60.0)
            await plant.set("Temperature", 20.6)
            await watch.until_value("Temperature", 20.6)
            assert not watch.polled

    stage.run(run)


def test_a_deadband_keeps_small_changes_on_the_server(stage: Stage) -> None:
    async def run(plant: Boiler) -> None:
        to = connection(plant.port)
        points = [point(to, "Temperature", deadband={"absolute": 1.0}), point(to, "Setpoint")]
        async with driver.open(to) as link, watching(link, points) as watch:
            await watch.until_value("Temperature", 20.5)
            await watch.until_value("Setpoint", 60.0)
            await plant.set("Temperature", 21.0)
            await plant.set("Setpoint", 61.0)
            await watch.until_value("Setpoint", 61.0)
            assert watch.last["Temperature"].value == 20.5
            await plant.set("Temperature", 25.0)
            await watch.until_value("Temperature", 25.0)

    stage.run(run)


def test_more_nodes_than_fit_one_call_are_followed_all_the_same(stage: Stage) -> None:
    async def run(plant: Boiler) -> None:
        to = connection(plant.port, maxPerCall=7)
        names = [f"N{number}" for number in range(30)]
        for number, name in enumerate(names):
            await plant.add(name, float(number), ua.VariantType.Double)
        points = [point(to, name) for name in names]
        async with driver.open(to) as link, watching(link, points) as watch:
            await watch.until(lambda: len(watch.last) == 30)
            assert {name: r.value for name, r in watch.last.items()} == {
                name: float(number) for number, name in enumerate(names)
            }

    stage.run(run)


def test_a_server_that_numbers_its_namespaces_otherwise_is_understood_after_a_reconnect() -> None:
    async def run() -> None:
        port = free_port()
        to = connection(port)
        points = [
            point(to, "Temperature"),
            point(to, "Pressure", ValueType.INT, path="Boiler/Pressure", namespace=URI),
        ]
        for others in (0, 3):
            async with (
                boiler(port, other_namespaces=others),
                driver.open(to) as link,
                watching(link, points) as watch,
            ):
                await watch.until_value("Temperature", 20.5)
                await watch.until_value("Pressure", 3)

    asyncio.run(run())
