"""The drivers' contract is worth something: it turns red for a driver that is broken on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from modbus_stage import ModbusStage
from mqtt_stage import MqttStage
from opcua_stage import Machine, OpcUaStage
from typing_extensions import override

from twinbridge.core.model import Point, Quality, Value
from twinbridge.errors import DeviceError
from twinbridge.ports import UNCHANGED, Link, Reading, ReadRequest, ReadResult
from twinbridge.testing.driver_contract import DriverContract, DriverStage, scene
from twinbridge.testing.driver_contract.wrapped import WrappedLink, wrapped


class SaysWhatWasWritten(WrappedLink):
    """Read-back skipped: a written value is given as if it had been read."""

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._written: dict[Point, Value] = {}

    @override
    async def write(self, point: Point, value: Value) -> None:
        self._written[point] = value
        await super().write(point, value)

    @override
    def told(self, request: ReadRequest, result: ReadResult) -> ReadResult:
        mine = [Reading(p, v) for p, v in self._written.items() if p in request.points]
        others = [r for r in result.readings if r.point not in self._written]
        return ReadResult([*others, *mine], result.replan)


class SendsNoWrite(SaysWhatWasWritten):
    @override
    async def write(self, point: Point, value: Value) -> None:
        self._written[point] = value


class CallsBadGood(WrappedLink):
    @override
    def told(self, request: ReadRequest, result: ReadResult) -> ReadResult:
        readings = [
            Reading(r.point, 0.0 if r.value is None else r.value) if r.quality is Quality.BAD else r
            for r in result.readings
        ]
        return ReadResult(readings, result.replan)


class LeavesBadOut(WrappedLink):
    """A bad point that is not told again counts as confirmed good."""

    @override
    def told(self, request: ReadRequest, result: ReadResult) -> ReadResult:
        good = [r for r in result.readings if r.quality is not Quality.BAD]
        return ReadResult(good, result.replan)


class HidesErrors(WrappedLink):
    @override
    async def read(self, request: ReadRequest) -> ReadResult:
        try:
            return await super().read(request)
        except DeviceError:
            return UNCHANGED


class SwapsValues(WrappedLink):
    """Neighbours in a request change places."""

    @override
    def told(self, request: ReadRequest, result: ReadResult) -> ReadResult:
        points = [r.point for r in result.readings]
        turned = points[1:] + points[:1]
        readings = [r._replace(point=p) for r, p in zip(result.readings, turned, strict=True)]
        return ReadResult(readings, result.replan)


class WritesTwice(WrappedLink):
    @override
    async def write(self, point: Point, value: Value) -> None:
        await super().write(point, value)
        await super().write(point, value)


class SwallowsRefusals(WrappedLink):
    @override
    async def write(self, point: Point, value: Value) -> None:
        try:
            await super().write(point, value)
        except DeviceError:
            return


class ForgetsPoints(WrappedLink):
    @override
    def plan(self, points: Sequence[Point]) -> Sequence[ReadRequest]:
        return super().plan(points[:-1])


class RaisesItsOwn(WrappedLink):
    """What a library raises gets out."""

    @override
    async def read(self, request: ReadRequest) -> ReadResult:
        try:
            return await super().read(request)
        except DeviceError as error:
            raise OSError(str(error)) from error


class LeavesTasks(WrappedLink):
    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._left = asyncio.get_running_loop().create_task(asyncio.sleep(20), name="left")


WHAT_FAILS: list[tuple[Callable[[Link], WrappedLink], Callable[[DriverContract], None]]] = [
    (
        SaysWhatWasWritten,
        DriverContract.test_a_write_that_the_machine_ignores_is_rejected_and_never_applied,
    ),
    (
        SaysWhatWasWritten,
        DriverContract.test_a_trip_whose_stop_is_ignored_is_never_called_verified,
    ),
    (SendsNoWrite, DriverContract.test_every_value_can_be_written_and_arrives_exactly),
    (SendsNoWrite, DriverContract.test_a_written_value_is_reported_before_it_counts_as_applied),
    (
        CallsBadGood,
        DriverContract.test_one_bad_point_is_bad_with_words_and_its_neighbours_stay_good,
    ),
    (
        LeavesBadOut,
        DriverContract.test_one_bad_point_is_bad_with_words_and_its_neighbours_stay_good,
    ),
    (LeavesBadOut, DriverContract.test_not_a_number_is_bad_and_a_number_again_is_good),
    (
        HidesErrors,
        DriverContract.test_a_link_that_is_cut_turns_all_bad_and_comes_back_with_fresh_values,
    ),
    (HidesErrors, DriverContract.test_a_half_open_link_is_noticed_and_comes_back),
    (HidesErrors, DriverContract.test_a_link_raises_nothing_but_device_errors),
    (SwapsValues, DriverContract.test_every_value_that_a_machine_has_is_reported_exactly),
    (
        WritesTwice,
        DriverContract.test_what_is_desired_while_the_machine_is_away_is_written_when_it_is_back,
    ),
    (
        SwallowsRefusals,
        DriverContract.test_a_link_itself_says_that_a_write_is_refused,
    ),
    (ForgetsPoints, DriverContract.test_a_plan_covers_every_point_once_each_time),
    (RaisesItsOwn, DriverContract.test_a_link_raises_nothing_but_device_errors),
    (LeavesTasks, DriverContract.test_many_cuts_leave_nothing_behind),
]


@asynccontextmanager
async def on_modbus(_: Path) -> AsyncIterator[DriverStage]:
    async with ModbusStage() as stage:
        yield stage


@asynccontextmanager
async def on_mqtt(folder: Path) -> AsyncIterator[DriverStage]:
    async with MqttStage(folder) as stage:
        yield stage


@asynccontextmanager
async def on_opcua(_: Path) -> AsyncIterator[DriverStage]:
    machine = Machine()
    await machine.open()
    try:
        async with OpcUaStage(machine) as stage:
            yield stage
    finally:
        await machine.server.stop()


Place = Callable[[Path], AbstractAsyncContextManager[DriverStage]]


class BrokenDriver(DriverContract):
    """Not collected: its stories are told one by one."""

    def __init__(
        self,
        broken: Callable[[Link], WrappedLink],
        place: Place = on_modbus,
        folder: Path = Path(),
    ) -> None:
        self._broken = broken
        self._place = place
        self._folder = folder

    @override
    def stage(self) -> AbstractAsyncContextManager[DriverStage]:
        return self._with_broken_driver()

    @asynccontextmanager
    async def _with_broken_driver(self) -> AsyncIterator[DriverStage]:
        async with self._place(self._folder) as stage:
            stage.driver = wrapped(stage.driver, self._broken)
            yield stage


@pytest.mark.parametrize(
    ("broken", "story"),
    WHAT_FAILS,
    ids=[f"{broken.__name__}-{story.__name__[5:45]}" for broken, story in WHAT_FAILS],  # type: ignore[attr-defined]  # classes and functions have names
)
def test_a_broken_driver_fails_its_story(
    broken: Callable[[Link], WrappedLink],
    story: Callable[[DriverContract], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scene, "WAIT_SECONDS", 1.5)
    with pytest.raises((AssertionError, OSError, pytest.fail.Exception)):
        story(BrokenDriver(broken))


@pytest.mark.parametrize("place", [on_mqtt, on_opcua], ids=["mqtt", "opcua"])
@pytest.mark.parametrize(
    ("broken", "story"),
    [
        (
            SaysWhatWasWritten,
            DriverContract.test_a_write_that_the_machine_ignores_is_rejected_and_never_applied,
        ),
        (
            CallsBadGood,
            DriverContract.test_one_bad_point_is_bad_with_words_and_its_neighbours_stay_good,
        ),
    ],
    ids=["read-back skipped", "bad quality dropped"],
)
def test_a_driver_that_is_told_things_is_found_out_as_well(
    place: Place,
    broken: Callable[[Link], WrappedLink],
    story: Callable[[DriverContract], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(scene, "WAIT_SECONDS", 2.5)
    with pytest.raises((AssertionError, OSError, pytest.fail.Exception)):
        story(BrokenDriver(broken, place, tmp_path))


@pytest.mark.parametrize("story", {story.__name__: story for _, story in WHAT_FAILS}.values())
def test_the_same_stories_pass_when_nothing_is_broken(
    story: Callable[[DriverContract], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scene, "WAIT_SECONDS", 5.0)
    story(BrokenDriver(WrappedLink))
