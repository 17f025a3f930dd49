"""What breaks is seen, said, and repaired by itself; nothing is left behind and nothing made up."""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from twinbridge.core.messages import Contact, Samples
from twinbridge.core.model import Point, Sample
from twinbridge.errors import DeviceError, LinkLost
from twinbridge.ports import Link
from twinbridge.testing.driver_contract.base import Stories, needs
from twinbridge.testing.driver_contract.scene import (
    Scene,
    compiled,
    connection_to,
    device_name,
    open_sockets,
    playing,
    same,
    until,
)
from twinbridge.testing.driver_contract.stage import DriverStage

CUTS = 15
SLOW_LINE_INTERVAL = "1s"
"""Time enough for all requests of a machine on a slow line."""
MOST_NEWS = 500
SPEEDS = (10, 11)
SEVERAL = 3
"""Stations that can be told apart: one dead, one before and one after it."""


class FaultStories(Stories):
    def test_a_link_that_is_cut_turns_all_bad_and_comes_back_with_fresh_values(self) -> None:
        async def story(stage: DriverStage) -> None:
            async with playing(stage) as scene:
                before = {name: sample.value for name, sample in scene.samples().items()}
                scene.proxy.refuse()
                scene.proxy.cut()
                await scene.until(scene.lost, "all bad: comm_lost")
                after = {name: sample.value for name, sample in scene.samples().items()}
                assert after == before, "the last values stay visible"
                assert all(sample.detail for sample in scene.samples().values()), "it says why"
                await stage.set("temperature", 33.5)
                await scene.proxy.listen()
                await scene.until_reported("temperature", 33.5)
                await scene.until_good()

        self.use(story)

    def test_a_server_that_restarts_is_found_again(self) -> None:
        async def story(stage: DriverStage) -> None:
            async with playing(stage) as scene:
                await stage.stop()
                await scene.until(scene.lost, "all bad: comm_lost")
                await stage.start()
                await scene.until_good()
                await stage.set("temperature", 34.5)
                await scene.until_reported("temperature", 34.5)
                await scene.apply("speed", 61)

        self.use(story)

    def test_a_server_that_is_down_at_the_start_is_found_when_it_comes(self) -> None:
        async def story(stage: DriverStage) -> None:
            await stage.stop()
            async with playing(stage, settled=False) as scene:
                await scene.until(lambda: scene.proxy.accepted, "a first try")
                await scene.until(scene.lost, "all bad: comm_lost")
                await stage.start()
                await scene.until_good()

        self.use(story)

    def test_a_half_open_link_is_noticed_and_comes_back(self) -> None:
        async def story(stage: DriverStage) -> None:
            async with playing(stage) as scene:
                scene.proxy.faults.half_open = True
                await scene.until(scene.lost, "all bad: comm_lost", stage.traits.notices)
                scene.proxy.faults.half_open = False
                await stage.set("temperature", 35.5)
                await scene.until_reported("temperature", 35.5)
                await scene.until_good()

        self.use(story)

    def test_a_slow_and_jittery_line_loses_nothing(self) -> None:
        async def story(stage: DriverStage) -> None:
            async with playing(stage, interval=SLOW_LINE_INTERVAL) as scene:
                faults = scene.proxy.faults
                faults.delay = faults.jitter = stage.traits.delay
                faults.throttle = stage.traits.rate
                for speed in (11, 12):
                    await stage.set("speed", speed)
                    await scene.until_reported("speed", speed)
                    await scene.apply("speed", speed + 50)
                    assert await stage.value("speed") == speed + 50
                assert not _losses(scene)
                assert scene.good(), scene.describe()

        self.use(story)

    def test_a_line_too_slow_for_all_its_polls_still_takes_writes(self) -> None:
        async def story(stage: DriverStage) -> None:
            async with playing(stage) as scene:
                faults = scene.proxy.faults
                faults.delay = faults.jitter = stage.traits.delay
                for speed in (21, 22):
                    await scene.apply("speed", speed)
                assert not _losses(scene)

        self.use(story)

    def test_noise_is_no_sign_of_life(self) -> None:
        """Of a machine that has no news: what its driver asks for is answered with noise."""

        async def story(stage: DriverStage) -> None:
            noise = random.Random(9)  # noqa: S311 - the same noise in every run
            async with playing(stage) as scene:
                scene.proxy.faults.garble = lambda chunk: noise.randbytes(len(chunk))
                await scene.until(scene.lost, "all bad: comm_lost", stage.traits.notices)
                scene.proxy.faults.garble = None
                await scene.until_good()
                _nothing_made_up(scene)

        self.use(story)

    def test_noise_in_place_of_answers_never_becomes_a_value(self) -> None:
        async def story(stage: DriverStage) -> None:
            noise = random.Random(7)  # noqa: S311 - the same noise in every run
            async with playing(stage) as scene:
                scene.proxy.faults.garble = lambda chunk: noise.randbytes(len(chunk))
                for turn in range(MOST_NEWS):
                    # A machine that speaks when it has news must have some.
                    await stage.set("speed", SPEEDS[turn % 2])
                    if scene.lost():
                        break
                    await asyncio.sleep(0.02)
                await scene.until(scene.lost, "all bad: comm_lost")
                tries = scene.proxy.accepted
                await scene.until(lambda: scene.proxy.accepted > tries, "a try that meets noise")
                scene.proxy.faults.garble = None
                await scene.until_good()
                _nothing_made_up(scene)

        self.use(story)

    def test_noise_between_answers_never_becomes_a_value(self) -> None:
        async def story(stage: DriverStage) -> None:
            noise = random.Random(8)  # noqa: S311 - the same noise in every run
            async with playing(stage) as scene:
                for _ in range(5):
                    scene.proxy.inject(noise.randbytes(50))
                    await asyncio.sleep(0.05)
                    await scene.until_good()
                _nothing_made_up(scene)

        self.use(story)

    def test_an_answer_that_ends_in_the_middle_is_no_answer(self) -> None:
        async def story(stage: DriverStage) -> None:
            async with playing(stage) as scene:
                first = {scene.sample("speed").value}
                for size in (1, 5, 9):
                    tries = scene.proxy.accepted
                    scene.proxy.faults.close_mid_frame = size
                    # A machine that speaks when it has news must have some.
                    await stage.set("speed", 10 + size)
                    await _reconnected(scene, tries)
                    scene.proxy.faults.close_mid_frame = None
                    await scene.until_reported("speed", 10 + size)
                    await scene.until_good()
                told = {sample.value for sample in _told(scene, "speed")} - {None}
                assert told - first <= {11, 15, 19}, told

        self.use(story)

    def test_many_cuts_leave_nothing_behind(self) -> None:
        async def story(stage: DriverStage) -> None:
            async with playing(stage) as scene:
                await _cut(scene)
                await _cut(scene)
                tasks, sockets, objects = await _usual(stage)
                for _ in range(CUTS):
                    await _cut(scene)

                def settled() -> bool:
                    now = _census(stage)
                    return now[0] <= tasks and now[1] <= sockets and now[2] <= objects

                try:
                    await until(settled, "as much as before the cuts", 5.0)
                except AssertionError:
                    raise AssertionError(
                        f"after {CUTS} cuts there are {_census(stage)} tasks, sockets and objects"
                        f" of the driver, before there were {(tasks, sockets, objects)};"
                        f" tasks: {_tasks(stage)}"
                    ) from None

        self.use(story)

    def test_one_dead_machine_among_many_holds_up_no_other(self) -> None:
        async def story(stage: DriverStage) -> None:
            needs(stage.traits.stations >= SEVERAL, "several machines behind one endpoint")
            async with playing(stage, stations=SEVERAL) as scene:
                await stage.mute(1)
                await scene.until(lambda: scene.lost(1), "the dead machine is bad")
                for speed in (71, 72, 73, 74):
                    for station in (0, 2):
                        await stage.set("speed", speed, station)
                    for station in (0, 2):
                        await scene.until_reported("speed", speed, station)
                await scene.apply("speed", 75)
                assert {lost.device for lost in _losses(scene)} == {device_name(1)}
                await stage.heal()
                await stage.set("speed", 76, 1)
                await scene.until_reported("speed", 76, 1)
                await scene.until_good(1)

        self.use(story)

    def test_machines_behind_one_endpoint_are_never_mixed_up(self) -> None:
        async def story(stage: DriverStage) -> None:
            stations = min(stage.traits.stations, SEVERAL)
            needs(stations > 1, "several machines behind one endpoint")
            async with playing(stage, stations=stations) as scene:
                for turn in (20, 30, 40):
                    for station in range(stations):
                        await stage.set("speed", turn + station, station)
                    for station in range(stations):
                        await scene.until_reported("speed", turn + station, station)
                await scene.apply("speed", 90)
                assert [await stage.value("speed", s) for s in range(stations)][1:] == [
                    40 + s for s in range(1, stations)
                ]

        self.use(story)

    def test_opening_where_nobody_listens_is_a_lost_link(self) -> None:
        async def story(stage: DriverStage) -> None:
            connection = connection_to(stage, stage.port)
            await stage.stop()
            with pytest.raises(LinkLost) as lost:
                async with stage.driver.open(connection):
                    pass
            assert str(stage.port) in str(lost.value), "the words name the endpoint"

        self.use(story)

    def test_a_request_that_is_cancelled_leaves_nothing_behind(self) -> None:
        async def reads(link: Link, points: list[Point]) -> None:
            for request in link.plan(points):
                await link.read(request)

        self.use(lambda stage: _cancelled(stage, reads))

    def test_a_write_that_is_cancelled_leaves_nothing_behind(self) -> None:
        async def writes(link: Link, points: list[Point]) -> None:
            link.plan(points)
            await link.write(next(p for p in points if p.spec.name == "speed"), 12)

        self.use(lambda stage: _cancelled(stage, writes))

    def test_a_link_raises_nothing_but_device_errors(self) -> None:
        """Of a machine that goes away under a bare link: later calls fail, none hangs."""

        async def story(stage: DriverStage) -> None:
            device = compiled(stage, stage.port).devices[device_name(0)]
            speed = next(p for p in device.points if p.spec.name == "speed")
            async with stage.driver.open(connection_to(stage, stage.port)) as link:
                requests = link.plan(device.points)
                await stage.stop()
                for _ in range(2):
                    for request in requests:
                        if not request.pushed:
                            with pytest.raises(DeviceError):
                                await asyncio.wait_for(link.read(request), 10)
                    with pytest.raises(DeviceError):
                        await asyncio.wait_for(link.write(speed, 13), 10)

        self.use(story)


async def _cancelled(
    stage: DriverStage, act: Callable[[Link, list[Point]], Awaitable[None]]
) -> None:
    """Do it on a link whose machine takes its time, cancel it, and look what is left."""
    device = compiled(stage, stage.port).devices[device_name(0)]
    opened, slowed = asyncio.Event(), asyncio.Event()

    async def use() -> None:
        async with stage.driver.open(connection_to(stage, stage.port)) as link:
            opened.set()
            await slowed.wait()
            await act(link, list(device.points))

    async with stage.driver.open(connection_to(stage, stage.port)):
        pass
    before = _census(stage)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(use(), name="contract cancels this")
        await opened.wait()
        await stage.slow(3.0)
        slowed.set()
        await asyncio.sleep(0.1)  # the request is on its way
        task.cancel()
    await stage.heal()
    await until(
        lambda: _census(stage)[:2] <= before[:2],
        f"{before} tasks and sockets: {_tasks(stage)}",
        8.0,
    )


async def _cut(scene: Scene) -> None:
    accepted = scene.proxy.accepted
    scene.proxy.cut()
    await _reconnected(scene, accepted)
    await scene.until_good()


async def _reconnected(scene: Scene, accepted: int) -> None:
    """Until there are more than so many."""
    await scene.until(lambda: scene.proxy.accepted > accepted, "a new connection")


def _census(stage: DriverStage) -> tuple[int, int, int]:
    """Tasks, sockets, and objects of the driver's package."""
    gc.collect()
    package = stage.driver.connection_model.__module__.partition(".")[0]
    objects = sum(
        str(getattr(type(o), "__module__", "")).partition(".")[0] == package
        for o in gc.get_objects()
    )
    return sum(_tasks(stage).values()), open_sockets(), objects


async def _usual(stage: DriverStage) -> tuple[int, int, int]:
    """The most of each within half a second: a poll and a watchdog come and go."""
    looks = []
    for _ in range(10):
        looks.append(_census(stage))
        await asyncio.sleep(0.05)
    return max(t for t, _, _ in looks), max(s for _, s, _ in looks), max(o for _, _, o in looks)


def _tasks(stage: DriverStage) -> Counter[str]:
    """How many there are of each coroutine, without those of the machine."""
    names = (getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks())
    return Counter(n for n in names if not n.startswith(tuple(stage.traits.machine_tasks)))


def _losses(scene: Scene) -> list[Contact]:
    return [e for e in scene.events if isinstance(e, Contact) and not e.connected]


def _told(scene: Scene, name: str) -> list[Sample]:
    """All that was ever told of a property of machine 0."""
    return [
        sample
        for event in scene.events
        if isinstance(event, Samples) and event.device == device_name(0)
        for told, sample in event.samples
        if told == name
    ]


def _nothing_made_up(scene: Scene) -> None:
    for cell in scene.stage.cells:
        had = (cell.values[0], *(SPEEDS if cell.name == "speed" else ()))
        for sample in _told(scene, cell.name):
            value = sample.value
            assert value is None or any(same(value, one) for one in had), (
                f"{cell.name} was never {value!r}"
            )
