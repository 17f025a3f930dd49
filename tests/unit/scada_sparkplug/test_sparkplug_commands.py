"""What hosts ask: writes, rebirths, garbage, too much of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from prometheus_client import REGISTRY
from sparkplug_plant import TOPICS, Plant, a_node, a_plant, aliases, all_said, verbs

from twinbridge.adapters.scada_sparkplug.commands import LONGEST, CommandDesk
from twinbridge.adapters.scada_sparkplug.limits import BURST, IN_ALL, PER_DEVICE, REFUSAL, Allowance
from twinbridge.adapters.scada_sparkplug.node import Node
from twinbridge.adapters.scada_sparkplug.payload import (
    DataType,
    Field,
    Metric,
    Payload,
    encode,
)
from twinbridge.errors import InvalidDesired
from twinbridge.mqtt.connection import Message
from twinbridge.ports import Actor

ACTOR = Actor("sparkplug:plant", "sparkplug", "mqtt://127.0.0.1:1883")
REBIRTH = Metric("Node Control/Rebirth", value=True, field=Field.BOOLEAN)
RUN = Metric("run", value=True, field=Field.BOOLEAN)


class Desk:
    """A command desk at work, with the plant behind it."""

    def __init__(self, plant: Plant, *, allowed: bool = True) -> None:
        self.plant = plant
        self.node = a_node(plant)
        self.node.begin(0)
        self.aliases = aliases(all_said(self.node))
        self.desk = CommandDesk(
            self.node, TOPICS, plant, ACTOR, lambda: plant.mono, allowed=allowed
        )

    def dcmd(self, *metrics: Metric, device: str = "pump-1", retained: bool = False) -> None:
        self.hear(
            f"spBv1.0/plant/DCMD/edge-1/{device}", encode(Payload(1, metrics)), retained=retained
        )

    def ncmd(self, *metrics: Metric, retained: bool = False) -> None:
        self.hear("spBv1.0/plant/NCMD/edge-1", encode(Payload(1, metrics)), retained=retained)

    def hear(self, topic: str, payload: bytes, *, retained: bool = False) -> None:
        self.desk.hear(Message(topic, payload, retained))

    @property
    def patches(self) -> list[tuple[str, object]]:
        return [(device, dict(patch)) for device, patch, _ in self.plant.desires]

    async def refused(self) -> str:
        """Why the last command was refused, as the journal says."""
        await until(lambda: self.plant.audits)
        kind, _, detail = self.plant.audits[-1]
        assert kind == "sparkplug.refused"
        return str(detail["why"])


@asynccontextmanager
async def at_work(plant: Plant | None = None, *, allowed: bool = True) -> AsyncIterator[Desk]:
    desk = Desk(plant or a_plant("pump-1", "pump-2"), allowed=allowed)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(desk.desk.run(), name="desk")
        yield desk
        task.cancel()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - ordinary state, without an event
            await asyncio.sleep(0.002)


def counted(outcome: str) -> float:
    value = REGISTRY.get_sample_value(
        "twinbridge_scada_sparkplug_commands_total", {"outcome": outcome}
    )
    return value or 0.0


# Writes.


def test_a_device_command_becomes_one_patch_by_alias_and_by_name() -> None:
    async def story() -> None:
        async with at_work() as desk:
            alias = desk.aliases["pump-1", "speed"]
            desk.dcmd(Metric(alias=alias, value=2**64 - 7, field=Field.LONG), RUN)
            await until(lambda: desk.patches)
            assert desk.patches == [("pump-1", {"speed": -7, "run": True})]
            assert desk.plant.desires[0][2] == ACTOR

    asyncio.run(story())


def test_commands_are_carried_out_in_their_order() -> None:
    async def story() -> None:
        async with at_work() as desk:
            for turn in range(20):
                desk.dcmd(Metric("speed", value=turn, field=Field.INT))
            await until(lambda: len(desk.patches) == 20)
            assert [patch["speed"] for _, patch in desk.patches] == list(range(20))  # type: ignore[index]

    asyncio.run(story())


@pytest.mark.parametrize(
    ("metric", "why"),
    [
        (Metric("flow", value=1, field=Field.INT), "'flow': the device has no such metric"),
        (Metric(alias=9999, value=1, field=Field.INT), "alias 9999: the device has no such"),
        (Metric(value=1, field=Field.INT), "without name: the device has no such"),
        (Metric("speed", value=1.5, field=Field.DOUBLE), "speed: it is a double_value"),
        (Metric("label", value=True, field=Field.BOOLEAN), "label: it is a boolean_value"),
        (Metric("speed", is_null=True), "speed: it has no value"),
        (Metric("run", value=1, field=Field.INT, datatype=DataType.INT32), "run: it is a int"),
    ],
)
def test_of_a_command_with_one_wrong_metric_nothing_is_done_and_it_is_noted(
    metric: Metric, why: str
) -> None:
    async def story() -> None:
        async with at_work() as desk:
            desk.dcmd(RUN, metric)
            assert why in await desk.refused()
            assert desk.patches == []

    asyncio.run(story())


def test_an_alias_and_a_name_that_disagree_are_refused() -> None:
    async def story() -> None:
        async with at_work() as desk:
            alias = desk.aliases["pump-1", "speed"]
            desk.dcmd(Metric("label", alias, value=1, field=Field.LONG))
            assert "no such metric" in await desk.refused()
            assert desk.patches == []

    asyncio.run(story())


def test_the_alias_of_another_device_is_not_this_ones() -> None:
    async def story() -> None:
        async with at_work() as desk:
            alias = desk.aliases["pump-2", "speed"]
            desk.dcmd(Metric(alias=alias, value=1, field=Field.LONG))
            assert "no such metric" in await desk.refused()

    asyncio.run(story())


@pytest.mark.parametrize("payload", [b"", b"\xff\xff", b"x" * (LONGEST + 1)])
@pytest.mark.parametrize("to", ["DCMD/edge-1/pump-1", "NCMD/edge-1"])
def test_garbage_is_noted_and_does_nothing(payload: bytes, to: str) -> None:
    async def story() -> None:
        async with at_work() as desk:
            desk.hear(f"spBv1.0/plant/{to}", payload)
            assert await desk.refused()
            assert desk.patches == []

    asyncio.run(story())


def test_a_device_that_is_not_born_takes_no_commands() -> None:
    async def story() -> None:
        async with at_work() as desk:
            desk.node.take([desk.plant.contact("pump-1", connected=False)])
            all_said(desk.node)
            desk.dcmd(RUN)
            desk.dcmd(RUN, device="pump-9")
            assert "no device of that id" in await desk.refused()
            assert desk.patches == []

    asyncio.run(story())


def test_a_command_in_the_midst_of_a_rebirth_is_taken() -> None:
    async def story() -> None:
        async with at_work() as desk:
            desk.node.ask_rebirth()
            desk.node.say()
            desk.dcmd(RUN)
            await until(lambda: desk.patches)

    asyncio.run(story())


def test_a_retained_command_is_dropped_but_not_what_clears_one() -> None:
    async def story() -> None:
        async with at_work() as desk:
            before = counted("retained")
            desk.dcmd(RUN, retained=True)
            desk.ncmd(REBIRTH, retained=True)
            assert "retained" in await desk.refused()
            desk.hear("spBv1.0/plant/DCMD/edge-1/pump-1", b"", retained=True)
            assert counted("retained") == before + 2
            assert all_said(desk.node) == []
            assert desk.patches == []

    asyncio.run(story())


def test_commands_of_other_nodes_are_none_of_ours() -> None:
    async def story() -> None:
        async with at_work() as desk:
            for topic in ("spBv1.0/plant/NCMD/edge-2", "spBv1.0/plant/DCMD/edge-2/pump-1"):
                desk.hear(topic, b"\xff")
            desk.hear("spBv1.0/plant/DCMD/edge-1/pump-1", b"\xff")
            await desk.refused()
            assert [subject for _, subject, _ in desk.plant.audits] == [
                "spBv1.0/plant/DCMD/edge-1/pump-1"
            ]

    asyncio.run(story())


# Where commands are refused.


def test_where_commands_are_refused_a_rebirth_is_still_taken() -> None:
    async def story() -> None:
        async with at_work(allowed=False) as desk:
            desk.dcmd(RUN)
            assert await desk.refused() == "commands are refused here"
            desk.ncmd(REBIRTH)
            assert verbs(all_said(desk.node)) == ["NBIRTH", "DBIRTH pump-1", "DBIRTH pump-2"]
            assert desk.patches == []

    asyncio.run(story())


def test_where_commands_are_refused_everything_is_read_only() -> None:
    plant = a_plant()
    node = Node(TOPICS, plant, lambda: plant.mono, keep=0, writable=False)
    node.begin(0)
    birth = all_said(node)[1]
    flags = {p.value for m in birth.payload.metrics for p in m.properties if p.name == "readOnly"}
    assert flags == {True}


# Rebirth.


@pytest.mark.parametrize(
    "metric",
    [
        Metric("Node Control/Rebirth", value=False, field=Field.BOOLEAN),
        Metric("Node Control/Rebirth", value=1, field=Field.INT),
        Metric("Node Control/Rebirth", value="true", field=Field.STRING),
        Metric("Node Control/Rebirth"),
        Metric("Node Control/Reboot", value=True, field=Field.BOOLEAN),
        Metric("bdSeq", value=4, field=Field.LONG),
        Metric(alias=1, value=True, field=Field.BOOLEAN),
    ],
)
def test_only_a_rebirth_that_is_true_is_one(metric: Metric) -> None:
    async def story() -> None:
        async with at_work() as desk:
            desk.ncmd(metric)
            assert all_said(desk.node) == []

    asyncio.run(story())


# Too much.


def test_one_device_does_not_take_the_room_of_the_others() -> None:
    async def story() -> None:
        async with at_work() as desk:
            for _ in range(PER_DEVICE + 100):
                desk.dcmd(RUN)
            desk.dcmd(RUN, device="pump-2")
            await until(lambda: ("pump-2", {"run": True}) in desk.patches)
            assert len(desk.patches) == PER_DEVICE + 1

    assert PER_DEVICE < IN_ALL
    asyncio.run(story())


def test_garbage_without_end_makes_one_record_and_a_count() -> None:
    async def story() -> None:
        async with at_work() as desk:
            before = counted("refused")
            for _ in range(1000):
                desk.hear("spBv1.0/plant/NCMD/edge-1", b"\xff")
            await desk.refused()
            assert len(desk.plant.audits) == 1
            assert desk.plant.audits[0][2]["refused"] == 1000
            assert counted("refused") == before + 1000

    asyncio.run(story())


def test_who_writes_too_often_is_refused_before_the_agent_is_asked() -> None:
    async def story() -> None:
        async with at_work() as desk:
            for _ in range(int(BURST) + 10):
                desk.dcmd(RUN)
                await asyncio.sleep(0.0)
            assert "too many commands" in await desk.refused()
            assert len(desk.patches) == BURST

    asyncio.run(story())


def test_what_the_agent_refuses_costs_more_than_what_it_takes() -> None:
    async def story() -> None:
        plant = a_plant()
        plant.refuses = InvalidDesired("no", field="run", allowed="nothing")
        async with at_work(plant) as desk:
            before = counted("refused")
            sent = 40
            for _ in range(sent):
                desk.dcmd(RUN)
            await until(lambda: counted("refused") == before + sent)
            assert "too many commands" in await desk.refused()

    asyncio.run(story())


def test_an_allowance_grows_again_with_the_time() -> None:
    now = [0.0]
    allowance = Allowance(lambda: now[0])
    while allowance.spend("pump-1"):
        pass
    assert allowance.spend("pump-2")
    now[0] = 1.0
    assert [allowance.spend("pump-1", REFUSAL) for _ in range(4)] == [True, True, False, False]
