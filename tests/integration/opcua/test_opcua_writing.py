"""Values and calls that go to an OPC UA server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from asyncua import ua
from asyncua.server.internal_session import InternalSession
from asyncua.ua.uaerrors import BadTooManyOperations
from opcua_boiler import URI, Boiler, Stage, connection, point, watching

from twinbridge.core.model import Access, Value, ValueType
from twinbridge.errors import DeviceBusy, DeviceFault, WriteRejected
from twinbridge_opcua import driver
from twinbridge_opcua.link import OpcUaLink
from twinbridge_opcua.session import Session

if TYPE_CHECKING:
    from twinbridge.core.model import Point
    from twinbridge_opcua.config import OpcUaConnection

READ_WRITE = Access.READ_WRITE
INT, FLOAT, BOOL, STRING = ValueType.INT, ValueType.FLOAT, ValueType.BOOL, ValueType.STRING


@pytest.mark.parametrize(
    ("node", "kind", "address", "value", "stored"),
    [
        ("Temperature", FLOAT, {}, 33.5, 33.5),
        ("Setpoint", FLOAT, {}, 1.5, 1.5),
        ("Pressure", INT, {}, -32768, -32768),
        ("Pressure", FLOAT, {"scale": 0.1, "offset": 1.0}, 2.5, 15),
        ("Running", BOOL, {}, False, False),
        ("Name", STRING, {}, "süd", "süd"),
        ("State", STRING, {"labels": {0: "stopped", 1: "running"}}, "stopped", 0),
    ],
)
def test_a_value_is_written_as_the_type_that_the_node_has(
    stage: Stage, node: str, kind: ValueType, address: dict[str, Any], value: Value, stored: object
) -> None:
    async def run(plant: Boiler) -> None:
        to = connection(plant.port)
        target = point(to, node, kind, access=READ_WRITE, **address)
        async with driver.open(to) as link:
            before = await plant.nodes[node].read_data_value()
            await link.write(target, value)
            after = await plant.nodes[node].read_data_value()
            assert after.Value is not None
            assert before.Value is not None
            assert after.Value.Value == stored
            assert after.Value.VariantType is before.Value.VariantType
            (request,) = link.plan([target])
            (reading,) = (await link.read(request)).readings
            assert reading.value == value

    stage.run(run)


@pytest.mark.parametrize(
    ("node", "kind", "value", "words"),
    [
        ("Pressure", INT, 32768, "does not fit the node's Int16, -32768 to 32767"),
        ("State", INT, -1, "does not fit the node's UInt32, 0 to 4294967295"),
        ("Setpoint", FLOAT, 1e39, "does not fit the node's Float"),
        ("Running", INT, 1, "1 is no Boolean"),
        ("Name", INT, 1, "1 is no String"),
        ("Temperature", STRING, "hot", "'hot' is no Double"),
        ("Stages", INT, 1, "the node is an array; say which index is written"),
        ("Gone", INT, 1, "the server has no such node (BadNodeIdUnknown"),
    ],
)
def test_what_the_node_cannot_hold_is_refused_in_words_and_not_written(
    stage: Stage, node: str, kind: ValueType, value: Value, words: str
) -> None:
    async def run(plant: Boiler) -> None:
        to = connection(plant.port)
        async with driver.open(to) as link:
            with pytest.raises(WriteRejected) as refused:
                await link.write(point(to, node, kind, access=READ_WRITE), value)
            assert words in str(refused.value)

    stage.run(run)


def test_a_stop_takes_one_request_once_the_link_has_told_all(stage: Stage) -> None:
    """The types of what can be written are learnt ahead: reading them would delay a stop."""

    async def run(plant: Boiler) -> None:
        to = connection(plant.port)
        running = point(to, "Running", BOOL, access=READ_WRITE)
        async with driver.open(to) as link, watching(link, [running]) as watch:
            assert isinstance(link, OpcUaLink)
            await watch.until(lambda: running in link._writer._kinds)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Session, "read", None)
                await link.write(running, False)
            assert await plant.value("Running") is False

    stage.run(run)


def test_an_element_is_not_written_where_the_whole_array_would_be_replaced(stage: Stage) -> None:
    async def run(plant: Boiler) -> None:
        # The server of the test takes no heed of index ranges.
        to = connection(plant.port)
        async with driver.open(to) as link:
            with pytest.raises(WriteRejected, match="cannot write one element"):
                await link.write(point(to, "Stages", INT, access=READ_WRITE, index=1), 9)
        assert await plant.value("Stages") == [1, 2, 3]

    stage.run(run)


def test_a_node_that_is_only_read_refuses_a_write_in_words(stage: Stage) -> None:
    async def run(plant: Boiler) -> None:
        to = connection(plant.port)
        await plant.nodes["Setpoint"].set_read_only()
        async with driver.open(to) as link:
            with pytest.raises(WriteRejected, match=r"boiler/Setpoint: .*Bad"):
                await link.write(point(to, "Setpoint", access=READ_WRITE), 1.0)
        await plant.nodes["Setpoint"].set_writable()

    stage.run(run)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (ua.StatusCodes.BadTypeMismatch, WriteRejected),
        (ua.StatusCodes.BadOutOfRange, WriteRejected),
        (ua.StatusCodes.BadUserAccessDenied, WriteRejected),
        (ua.StatusCodes.BadDeviceFailure, DeviceFault),
        (ua.StatusCodes.BadTooManyOperations, DeviceFault),
        (ua.StatusCodes.BadServerTooBusy, DeviceBusy),
    ],
)
def test_a_refusal_for_good_is_told_from_one_that_may_pass(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, code: int, error: type[Exception]
) -> None:
    async def write(_session: Any, wanted: ua.WriteParameters, **_rest: Any) -> Any:
        return [ua.StatusCode(ua.UInt32(code)) for _ in wanted.NodesToWrite]

    async def run(plant: Boiler) -> None:
        monkeypatch.setattr(InternalSession, "write", write)
        to = connection(plant.port)
        async with driver.open(to) as link:
            with pytest.raises(error, match="0x"):
                await link.write(point(to, "Setpoint", access=READ_WRITE), 1.0)

    stage.run(run)


def test_a_write_that_fails_as_a_whole_is_a_failure_of_the_device(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def write(_session: Any, _wanted: Any, **_rest: Any) -> Any:
        raise BadTooManyOperations

    async def run(plant: Boiler) -> None:
        monkeypatch.setattr(InternalSession, "write", write)
        to = connection(plant.port)
        async with driver.open(to) as link:
            with pytest.raises(DeviceFault):
                await link.write(point(to, "Setpoint", access=READ_WRITE), 1.0)

    stage.run(run)


def method_point(to: OpcUaConnection, method: str, *arguments: Any, **more: Any) -> Point:
    call = {
        "object": f"nsu={URI};s=Boiler",
        "method": f"nsu={URI};s=Boiler.{method}",
        "arguments": list(arguments),
    }
    return point(to, method, more.get("kind", INT), access=Access.WRITE_ONLY, method=call)


def test_a_method_is_called_with_the_value_and_the_types_that_it_declares(stage: Stage) -> None:
    async def run(plant: Boiler) -> None:
        await plant.add_method("Fill", ua.VariantType.Double, ua.VariantType.String)
        to = connection(plant.port)
        async with driver.open(to) as link:
            await link.write(method_point(to, "Fill", "$value", "slowly"), 7)
        assert plant.called == [(7.0, "slowly")]
        assert isinstance(plant.called[0][0], float)

    stage.run(run)


def test_a_call_that_does_not_fit_the_method_is_refused_with_what_would(stage: Stage) -> None:
    async def run(plant: Boiler) -> None:
        await plant.add_method("Drain", ua.VariantType.Byte)
        to = connection(plant.port)
        async with driver.open(to) as link:
            for arguments, value, words in (
                ([], 1, "the method takes .*; 0 are given"),
                (["$value"], 256, "does not fit the node's Byte, 0 to 255"),
            ):
                with pytest.raises(WriteRejected, match=words):
                    await link.write(method_point(to, "Drain", *arguments), value)
            with pytest.raises(WriteRejected, match="Bad"):
                await link.write(method_point(to, "Vanished"), 1)
        assert plant.called == []

    stage.run(run)
