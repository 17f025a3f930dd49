"""What is written arrives, is read back, and is never taken for done before that."""

from __future__ import annotations

import asyncio

import pytest
from typing_extensions import override

from twinbridge.core.alarm import TripState
from twinbridge.core.messages import DesiredState, Outcome, Samples
from twinbridge.core.model import SECOND, Point, PropertyRef, Value
from twinbridge.core.rule import Compare, Mode, OnBad, Op, RuleInstance, Severity, Trip, Write
from twinbridge.errors import Interlocked, WriteRejected
from twinbridge.ports import Link, ReadRequest, ReadResult
from twinbridge.testing.driver_contract.base import Stories, needs
from twinbridge.testing.driver_contract.scene import (
    Scene,
    compiled,
    connection_to,
    device_name,
    hearing,
    playing,
    same,
)
from twinbridge.testing.driver_contract.stage import DriverStage
from twinbridge.testing.driver_contract.wrapped import WrappedLink, wrapped

HOT = 91.5
LIMIT = 85.0


def overheat() -> RuleInstance:
    """Stops machine 0 above 85."""
    name = device_name(0)
    return RuleInstance(
        rule="overheat",
        device=name,
        condition=Compare(PropertyRef(name, "temperature"), Op.ABOVE, limit=LIMIT),
        on_bad=OnBad.IGNORE,
        severity=Severity.CRITICAL,
        mode=Mode.ARMED,
        trip=Trip((Write(PropertyRef(name, "run"), value=False),), 2 * SECOND),
    )


class NotingLink(WrappedLink):
    """Notes when a hot temperature is told, and every request begun."""

    def __init__(self, link: Link, notes: list[str]) -> None:
        super().__init__(link)
        self._notes = notes

    @override
    def told(self, request: ReadRequest, result: ReadResult) -> ReadResult:
        hot = any(
            point.spec.name == "temperature" and isinstance(value, float) and value > LIMIT
            for point, value, *_ in result.readings
        )
        if hot:
            self._notes.append("hot")
        return result

    @override
    async def read(self, request: ReadRequest) -> ReadResult:
        self._notes.append("read")
        return await super().read(request)

    @override
    async def write(self, point: Point, value: Value) -> None:
        self._notes.append(f"write {point.spec.name}={value}")
        await super().write(point, value)


class WatchedLink(WrappedLink):
    """Notes of each write which properties had not been told since the link was opened."""

    def __init__(self, link: Link, notes: list[tuple[str, set[str]]]) -> None:
        super().__init__(link)
        self._notes = notes
        self._told: set[str] = set()

    @override
    def told(self, request: ReadRequest, result: ReadResult) -> ReadResult:
        self._told |= {point.spec.name for point in request.points}
        return result

    @override
    async def write(self, point: Point, value: Value) -> None:
        self._notes.append((point.spec.name, set(self._told)))
        await super().write(point, value)


class WriteStories(Stories):
    def test_a_written_value_is_reported_before_it_counts_as_applied(self) -> None:
        async def story(stage: DriverStage) -> None:
            async with playing(stage) as scene:
                await scene.apply("speed", 55)
                assert await stage.value("speed") == 55
                assert ("speed", 55) in stage.writes()
                reported = next(
                    i
                    for i, event in enumerate(scene.events)
                    if isinstance(event, Samples)
                    and any(n == "speed" and s.good and s.value == 55 for n, s in event.samples)
                )
                applied = next(i for i, e in enumerate(scene.events) if isinstance(e, Outcome))
                assert reported < applied

        self.use(story)

    def test_a_write_that_the_machine_ignores_is_rejected_and_never_applied(self) -> None:
        async def story(stage: DriverStage) -> None:
            async with playing(stage) as scene:
                before = scene.sample("speed").value
                await stage.ignore("speed")
                found = await scene.outcome_of("speed", 66)
                assert found.state is DesiredState.REJECTED, found
                assert found.message
                assert same(scene.sample("speed").value, before), "reported is what it really has"
                assert not any(
                    name == "speed" and sample.value == 66
                    for event in scene.events
                    if isinstance(event, Samples)
                    for name, sample in event.samples
                )

        self.use(story)

    def test_a_refused_write_is_rejected_with_words_and_nothing_else_breaks(self) -> None:
        async def story(stage: DriverStage) -> None:
            needs(stage.traits.refuses, "refusal of a write")
            async with playing(stage) as scene:
                connections = scene.proxy.accepted
                await stage.refuse("speed")
                found = await scene.outcome_of("speed", 66)
                assert found.state is DesiredState.REJECTED, found
                assert found.message
                assert await stage.value("speed") != 66
                await scene.apply("run", value=True)
                assert scene.good(), scene.describe()
                assert scene.proxy.accepted == connections, "a refusal is no reason to reconnect"
                await stage.heal()
                await scene.apply("speed", 67)

        self.use(story)

    def test_a_link_itself_says_that_a_write_is_refused(self) -> None:
        async def story(stage: DriverStage) -> None:
            needs(stage.traits.refuses, "refusal of a write")
            points = compiled(stage, stage.port).devices[device_name(0)].points
            speed = next(p for p in points if p.spec.name == "speed")
            await stage.refuse("speed")
            async with stage.driver.open(connection_to(stage, stage.port)) as link, hearing(link):
                link.plan(points)
                with pytest.raises(WriteRejected) as refusal:
                    await asyncio.wait_for(link.write(speed, 14), 10)
                assert str(refusal.value)
                await stage.heal()
                await asyncio.wait_for(link.write(speed, 15), 10)
            assert await stage.value("speed") == 15

        self.use(story)

    def test_many_writes_in_a_row_end_with_the_last(self) -> None:
        async def story(stage: DriverStage) -> None:
            async with playing(stage) as scene:
                for speed in range(20, 40):
                    await scene.desire("speed", speed)
                await scene.apply("speed", 40)
                assert await stage.value("speed") == 40
                written = [value for name, value in stage.writes() if name == "speed"]
                assert written == sorted(written, key=float), "in order"

        self.use(story)

    def test_a_desired_value_whose_time_is_over_is_not_written(self) -> None:
        async def story(stage: DriverStage) -> None:
            async with playing(stage) as scene:
                await _away(scene)
                version = await scene.desire("speed", 77, valid_for=0.2)
                await scene.until(lambda: scene.outcome(version), "the answer to what expired")
                assert _state(scene, version) is DesiredState.EXPIRED
                await scene.proxy.listen()
                await scene.until_good()
                await scene.apply("run", value=True)
                assert ("speed", 77) not in stage.writes()

        self.use(story)

    def test_what_is_desired_while_the_machine_is_away_is_written_when_it_is_back(self) -> None:
        async def story(stage: DriverStage) -> None:
            async with playing(stage) as scene:
                await scene.apply("speed", 21)
                await _away(scene)
                older = await scene.desire("speed", 22)
                newer = await scene.desire("speed", 23)
                await scene.proxy.listen()
                await scene.until(lambda: scene.outcome(newer), "the answer to the newer value")
                assert _state(scene, newer) is DesiredState.APPLIED
                assert _state(scene, older) is DesiredState.OVERRIDDEN
                assert [v for n, v in stage.writes() if n == "speed"] == [21, 23]

        self.use(story)

    def test_no_old_value_overwrites_what_the_machine_was_set_to_meanwhile(self) -> None:
        async def story(stage: DriverStage) -> None:
            async with playing(stage) as scene:
                await scene.apply("speed", 31)
                await _away(scene)
                await stage.set("speed", 32)
                await scene.proxy.listen()
                await scene.until_reported("speed", 32)
                await scene.apply("run", value=True)
                assert await stage.value("speed") == 32
                assert [v for n, v in stage.writes() if n == "speed"] == [31]

        self.use(story)

    def test_nothing_is_written_before_all_was_read_once_on_this_connection(self) -> None:
        async def story(stage: DriverStage) -> None:
            notes: list[tuple[str, set[str]]] = []
            driver = wrapped(stage.driver, lambda link: WatchedLink(link, notes))
            async with playing(stage, driver=driver, settled=False) as scene:
                await scene.apply("speed", 51)
                await _away(scene)
                version = await scene.desire("speed", 52)
                await scene.proxy.listen()
                await scene.until(lambda: scene.outcome(version), "the answer to speed = 52")
                everything = {cell.name for cell in stage.cells}
                for name, told in notes:
                    assert told == everything, f"{name} was written before all had been read"

        self.use(story)

    def test_a_trip_stops_the_machine_before_anything_else_and_sees_that_it_stopped(self) -> None:
        async def story(stage: DriverStage) -> None:
            notes: list[str] = []
            driver = wrapped(stage.driver, lambda link: NotingLink(link, notes))
            await stage.set("run", value=True)
            async with playing(stage, [overheat()], driver=driver) as scene:
                await stage.set("temperature", HOT)
                await scene.until(lambda: _trip(scene) is TripState.VERIFIED, "a verified trip")
                assert await stage.value("run") is False
                after = notes[notes.index("hot") + 1 :]
                assert next(note for note in after if note != "hot") == "write run=False", after
                assert same(scene.sample("run").value, b=False)
                with pytest.raises(Interlocked):
                    await scene.desire("run", value=True)
                assert await stage.value("run") is False

        self.use(story)

    def test_a_trip_whose_stop_is_ignored_is_never_called_verified(self) -> None:
        async def story(stage: DriverStage) -> None:
            await stage.set("run", value=True)
            async with playing(stage, [overheat()]) as scene:
                await stage.ignore("run")
                await stage.set("temperature", HOT)
                await scene.until(lambda: ("run", False) in stage.writes(), "the stop's write")
                await asyncio.sleep(0.2)  # some read-backs of a machine that did not stop
                assert _trip(scene) is not TripState.VERIFIED
                await stage.heal()
                await scene.until(lambda: _trip(scene) is TripState.VERIFIED, "a verified trip")
                assert await stage.value("run") is False

        self.use(story)


async def _away(scene: Scene) -> None:
    """The machine cannot be reached."""
    scene.proxy.refuse()
    scene.proxy.cut()
    await scene.until(scene.lost, "all bad")


def _state(scene: Scene, version: int) -> DesiredState | None:
    found = scene.outcome(version)
    return found.state if found else None


def _trip(scene: Scene) -> TripState | None:
    alarm = scene.alarm()
    return alarm.trip if alarm else None
