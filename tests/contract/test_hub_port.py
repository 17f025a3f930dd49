"""What an edge node may rely on at its hub: the same of the real client and of the fake."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from hub_stage import condition, desk, device, listening, model, node, until

from twinbridge.adapters.hub_kube import open_hub
from twinbridge.errors import UnknownName
from twinbridge.ports import Hub, HubEvent, Ref
from twinbridge.testing.fake_hub import FakeHub
from twinbridge.testing.hub import hub_running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from hub_stage import Desk

PUMP, DRIVE, NODE = Ref("Device", "pump-1"), Ref("DeviceModel", "drive"), Ref("EdgeNode", "edge-1")
EVENT = HubEvent("pump-1.a1", PUMP, "Warning", "Tripped", "too fast", 1_700_000_000_000_000_000)


class Stage(Protocol):
    hub: Hub

    async def put(self, document: Any) -> None: ...
    async def delete(self, ref: Ref) -> None: ...
    async def uid(self, ref: Ref) -> str: ...
    async def status(self, ref: Ref) -> Any: ...
    async def events(self) -> list[str]: ...


class FakeStage:
    def __init__(self) -> None:
        self.hub = FakeHub("edge-1")

    async def put(self, document: Any) -> None:
        self.hub.put(document)

    async def delete(self, ref: Ref) -> None:
        self.hub.delete(ref)

    async def uid(self, ref: Ref) -> str:
        found: Any = self.hub.resources[ref]
        return str(found["metadata"]["uid"])

    async def status(self, ref: Ref) -> Any:
        return self.hub.statuses.get(ref, {})

    async def events(self) -> list[str]:
        return [event.message for event in self.hub.events.values()]


class KubeStage:
    def __init__(self, hub: Hub, person: Desk) -> None:
        self.hub = hub
        self._person = person

    async def put(self, document: Any) -> None:
        await self._person.put(document)

    async def delete(self, ref: Ref) -> None:
        await self._person.delete(ref)

    async def uid(self, ref: Ref) -> str:
        return str((await self._person.get(ref))["metadata"]["uid"])

    async def status(self, ref: Ref) -> Any:
        return (await self._person.get(ref)).get("status", {})

    async def events(self) -> list[str]:
        return [event["message"] for event in await self._person.events()]


class HubContract:
    def stage(self) -> AbstractAsyncContextManager[Stage]:
        raise NotImplementedError

    def play(self, scene: Callable[[Stage], Awaitable[None]]) -> None:
        async def played() -> None:
            async with asyncio.timeout(60), self.stage() as stage:
                await scene(stage)

        asyncio.run(played())

    def test_all_of_this_node_comes_at_once_and_nothing_of_others(self) -> None:
        async def scene(stage: Stage) -> None:
            for document in (
                model("drive"),
                model("unused"),
                device("pump-1"),
                device("pump-2", node="edge-2"),
                node(),
                node("edge-2"),
            ):
                await stage.put(document)
            async with listening(stage.hub) as heard:
                await heard.until(lambda now: set(now) == {PUMP, DRIVE, NODE})
                assert heard.now[PUMP]["spec"]["desired"] == [{"name": "run", "value": True}]
                assert heard.now[PUMP]["metadata"]["generation"] == 1
                assert heard.now[PUMP]["metadata"]["uid"] == await stage.uid(PUMP)
                assert not {"status", "managedFields"} & set(heard.now[PUMP])
                assert "managedFields" not in heard.now[PUMP]["metadata"]

        self.play(scene)

    def test_a_change_names_what_changed(self) -> None:
        async def scene(stage: Stage) -> None:
            await stage.put(model("drive"))
            await stage.put(device("pump-1"))
            async with listening(stage.hub) as heard:
                await heard.until(lambda now: PUMP in now)
                before = len(heard.all)
                await stage.put(device("pump-1", run=False))
                await heard.until(lambda _: True, after=before)
                assert heard.all[-1].changed == {PUMP}
                assert heard.now[PUMP]["spec"]["desired"] == [{"name": "run", "value": False}]
                await stage.put(device("pump-1", model="other"))
                await stage.put(model("other"))
                await heard.until(lambda now: Ref("DeviceModel", "other") in now)
                assert DRIVE not in heard.now
                await stage.delete(PUMP)
                await heard.until(lambda now: not now)

        self.play(scene)

    def test_one_that_moves_to_another_node_is_gone_here(self) -> None:
        async def scene(stage: Stage) -> None:
            await stage.put(device("pump-1"))
            async with listening(stage.hub) as heard:
                await heard.until(lambda now: PUMP in now)
                await stage.put(device("pump-1", node="edge-2"))
                await heard.until(lambda now: PUMP not in now)
                assert PUMP in heard.all[-1].changed

        self.play(scene)

    def test_fifty_changes_of_one_property_end_in_the_last(self) -> None:
        async def scene(stage: Stage) -> None:
            await stage.put(device("pump-1"))
            async with listening(stage.hub) as heard:
                await heard.until(lambda now: PUMP in now)
                for turn in range(50):
                    await stage.put(device("pump-1", run=bool(turn % 2)))
                await heard.until(lambda now: now[PUMP]["metadata"]["generation"] >= 51)
                assert heard.now[PUMP]["spec"]["desired"] == [{"name": "run", "value": True}]
                generations = [
                    told.documents[PUMP]["metadata"]["generation"]  # type: ignore[index] - a resource
                    for told in heard.all
                    if PUMP in told.documents
                ]
                assert generations == sorted(generations)

        self.play(scene)

    def test_own_status_does_not_come_back(self) -> None:
        async def scene(stage: Stage) -> None:
            await stage.put(device("pump-1"))
            async with listening(stage.hub) as heard:
                await heard.until(lambda now: PUMP in now)
                uid, before = await stage.uid(PUMP), len(heard.all)
                await stage.hub.apply_status(PUMP, uid, condition("FirstAnswer"))
                assert await stage.status(PUMP) == condition("FirstAnswer")
                await stage.put(device("pump-1", run=False))
                await heard.until(lambda now: now[PUMP]["metadata"]["generation"] == 2)
                assert len(heard.all) == before + 1

        self.play(scene)

    def test_a_status_is_all_there_is_and_its_answer_tells_the_generation(self) -> None:
        async def scene(stage: Stage) -> None:
            await stage.put(device("pump-1"))
            uid = await stage.uid(PUMP)
            assert await stage.hub.apply_status(PUMP, uid, condition("One")) == 1
            await stage.put(device("pump-1", run=False))
            assert await stage.hub.apply_status(PUMP, uid, condition("Two")) == 2
            assert await stage.status(PUMP) == condition("Two")
            await stage.hub.apply_status(PUMP, uid, {})
            assert not (await stage.status(PUMP)).get("conditions")

        self.play(scene)

    def test_a_status_never_reaches_the_namesake_of_a_deleted_resource(self) -> None:
        async def scene(stage: Stage) -> None:
            await stage.put(device("pump-1"))
            old = await stage.uid(PUMP)
            await stage.delete(PUMP)
            with pytest.raises(UnknownName):
                await stage.hub.apply_status(PUMP, old, condition("Gone"))
            await stage.put(device("pump-1"))
            with pytest.raises(UnknownName):
                await stage.hub.apply_status(PUMP, old, condition("Gone"))
            assert not await stage.status(PUMP)

        self.play(scene)

    def test_an_event_is_recorded_once(self) -> None:
        async def scene(stage: Stage) -> None:
            await stage.hub.record(EVENT)
            await stage.hub.record(EVENT)
            assert await stage.events() == ["too fast"]

        self.play(scene)

    def test_one_of_two_holds_the_node(self) -> None:
        async def scene(stage: Stage) -> None:
            assert await stage.hub.renew("a", 30) == "a"
            assert await stage.hub.renew("b", 30) == "a"
            assert await stage.hub.renew("a", 30) == "a"

        self.play(scene)

    def test_a_lease_that_ran_out_is_taken_over(self) -> None:
        async def scene(stage: Stage) -> None:
            assert await stage.hub.renew("a", 1) == "a"
            async with asyncio.timeout(20):
                while await stage.hub.renew("b", 30) != "b":  # noqa: ASYNC110 - time tells
                    await asyncio.sleep(0.05)
            assert await stage.hub.renew("a", 30) == "b"

        self.play(scene)

    def test_contact_shows(self) -> None:
        async def scene(stage: Stage) -> None:
            async with listening(stage.hub) as heard:
                await heard.until(lambda _: True)
                await until(lambda: stage.hub.connected)
                assert stage.hub.last_contact > 1_700_000_000_000_000_000

        self.play(scene)


class TestFakeHub(HubContract):
    @asynccontextmanager
    async def stage(self) -> AsyncIterator[Stage]:
        yield FakeStage()


class TestKubeHub(HubContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    @asynccontextmanager
    async def stage(self) -> AsyncIterator[Stage]:
        async with (
            hub_running(self.folder) as there,
            desk(there.url) as person,
            open_hub(there.url, "edge-1") as hub,
        ):
            yield KubeStage(hub, person)
