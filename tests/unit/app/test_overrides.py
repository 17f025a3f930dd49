"""What a resource desires, and what somebody desires in its place."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from agent_rig import Edge, device, running_agent, until

from twinbridge.core.model import SECOND, DesiredSpec, DeviceSpec, Value
from twinbridge.errors import Conflict
from twinbridge.ports import Actor
from twinbridge.testing.fakes import FakeDisk

ALICE = Actor("alice", "rest", "127.0.0.1")


def wish(name: str, value: Value) -> dict[str, DesiredSpec | None]:
    return {name: DesiredSpec(name, value)}


def desiring(*wishes: DesiredSpec, **more: object) -> DeviceSpec:
    return replace(device(desired=wishes), **more)


def now(edge: Edge, name: str = "speed") -> tuple[object, str, str] | None:
    entry = edge.agent.desired.entry("pump-1", name)
    return entry and (entry.value, entry.origin, entry.state)


def test_an_override_ends_at_the_latest_when_the_device_says_so() -> None:
    async def story() -> None:
        spec = desiring(DesiredSpec("speed", 100), longest_override=60 * SECOND)
        async with running_agent(spec) as edge:
            await edge.agent.desire("pump-1", wish("speed", 300), ALICE)
            entry = edge.agent.desired.entry("pump-1", "speed")
            assert entry is not None
            assert entry.valid_until is not None
            assert entry.valid_until - entry.accepted == 60 * SECOND

    asyncio.run(story())


def test_where_the_resource_decides_nobody_else_may() -> None:
    async def story() -> None:
        spec = desiring(DesiredSpec("speed", 100), local_wins=False)
        async with running_agent(spec) as edge:
            await until(lambda: edge.state("speed") == "applied")
            with pytest.raises(Conflict, match="its resource says what is desired"):
                await edge.agent.desire("pump-1", wish("speed", 300), ALICE)
            await edge.agent.desire("pump-1", wish("setpoint", 2.5), ALICE)
            assert now(edge) == (100, "device", "applied")

    asyncio.run(story())


def test_what_an_override_replaced_does_not_come_back_by_itself_but_by_somebodys_word() -> None:
    async def story() -> None:
        spec = desiring(DesiredSpec("speed", 100), longest_override=SECOND // 10)
        disk = FakeDisk()
        async with running_agent(spec, disk=disk) as edge:
            await until(lambda: edge.state("speed") == "applied")
            await edge.agent.desire("pump-1", wish("speed", 300), ALICE)
            await until(lambda: edge.state("speed") == "applied")
            written = len(edge.machines.desires)
            await until(lambda: not edge.agent.desired._table.overrides.ends)
            await asyncio.sleep(0.05)
            assert len(edge.machines.desires) == written
            await edge.agent.desire("pump-1", {"speed": None}, ALICE)
            assert now(edge) == (100, "device", "pending")

    asyncio.run(story())


def test_an_override_of_what_is_written_again_hands_back_when_it_is_over() -> None:
    async def story() -> None:
        spec = desiring(DesiredSpec("setpoint", 1.5), longest_override=SECOND // 10)
        async with running_agent(spec) as edge:
            await until(lambda: edge.state("setpoint") == "applied")
            await edge.agent.desire("pump-1", wish("setpoint", 2.5), ALICE)
            await until(lambda: now(edge, "setpoint") == (1.5, "device", "applied"))

    asyncio.run(story())


def test_a_wish_that_the_resource_no_longer_has_is_withdrawn_and_may_come_again() -> None:
    async def story() -> None:
        async with running_agent(desiring(DesiredSpec("speed", 100))) as edge:
            await until(lambda: edge.state("speed") == "applied")
            await edge.agent.set_plant({"pump-1": desiring()}, ())
            assert now(edge) is None
            await edge.agent.set_plant({"pump-1": desiring(DesiredSpec("speed", 100))}, ())
            await until(lambda: now(edge) == (100, "device", "applied"))
            assert len(edge.machines.desires) >= 2

    asyncio.run(story())


@pytest.mark.parametrize("unheard", [10 * SECOND, 3600 * SECOND])
def test_a_wish_that_may_be_older_than_it_is_valid_is_never_applied(unheard: int) -> None:
    async def story() -> None:
        async with running_agent(desiring()) as edge:
            spec = desiring(DesiredSpec("speed", 100, valid_for=10 * SECOND))
            await edge.agent.take_wishes(spec, unheard)
            assert now(edge) == (100, "device", "expired")
            assert edge.machines.desires == []
            await edge.agent.take_wishes(spec, 0)
            assert now(edge) == (100, "device", "expired")

    asyncio.run(story())


def test_a_wish_is_valid_for_what_is_left_of_its_time() -> None:
    async def story() -> None:
        async with running_agent(desiring()) as edge:
            spec = desiring(DesiredSpec("speed", 100, valid_for=10 * SECOND))
            await edge.agent.take_wishes(spec, 4 * SECOND)
            entry = edge.agent.desired.entry("pump-1", "speed")
            assert entry is not None
            assert entry.valid_until == entry.accepted + 6 * SECOND
            await until(lambda: edge.state("speed") == "applied")
            await edge.agent.take_wishes(spec, 0)
            assert len(edge.machines.desires) == 1

    asyncio.run(story())


def test_an_end_that_is_over_is_expired_and_not_refused() -> None:
    async def story() -> None:
        async with running_agent(desiring()) as edge:
            await edge.agent.take_wishes(desiring(DesiredSpec("speed", 100, valid_until=5)), 0)
            assert now(edge) == (100, "device", "expired")

    asyncio.run(story())
