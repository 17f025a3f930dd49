"""What a machine has is what is reported, exactly; what is not a value is bad."""

from __future__ import annotations

import math

from twinbridge.core.model import Quality, Reason
from twinbridge.testing.driver_contract.base import Stories, needs
from twinbridge.testing.driver_contract.scene import playing, same
from twinbridge.testing.driver_contract.stage import DriverStage


class ValueStories(Stories):
    def test_every_value_that_a_machine_has_is_reported_exactly(self) -> None:
        async def story(stage: DriverStage) -> None:
            async with playing(stage) as scene:
                for turn in range(max(len(cell.values) for cell in stage.cells)):
                    has = {c.name: c.values[turn % len(c.values)] for c in stage.cells}
                    for name, value in has.items():
                        await stage.set(name, value)
                    for name, value in has.items():
                        await scene.until_reported(name, value)

        self.use(story)

    def test_every_value_can_be_written_and_arrives_exactly(self) -> None:
        async def story(stage: DriverStage) -> None:
            async with playing(stage) as scene:
                for cell in stage.cells:
                    for value in (*cell.values[1:], cell.values[0]) if cell.writable else ():
                        await scene.apply(cell.name, value)
                        has = await stage.value(cell.name)
                        assert same(has, value), f"{cell.name}: wrote {value!r}, it has {has!r}"
                        assert same(scene.sample(cell.name).value, value)

        self.use(story)

    def test_a_write_changes_no_other_property(self) -> None:
        async def story(stage: DriverStage) -> None:
            async with playing(stage) as scene:
                before = {c.name: await stage.value(c.name) for c in stage.cells}
                for cell in stage.cells:
                    if cell.writable:
                        await scene.apply(cell.name, cell.values[1])
                        before[cell.name] = cell.values[1]
                        for name, value in before.items():
                            has = await stage.value(name)
                            assert same(has, value), f"{cell.name} also changed {name} to {has!r}"

        self.use(story)

    def test_not_a_number_is_bad_and_a_number_again_is_good(self) -> None:
        async def story(stage: DriverStage) -> None:
            name = stage.traits.nan
            needs(name, "NaN")
            async with playing(stage) as scene:
                before = scene.sample(name).value
                await stage.set(name, math.nan)
                await scene.until(
                    lambda: scene.sample(name).quality is Quality.BAD, f"{name} is bad"
                )
                assert scene.sample(name).value == before, "the last good value stays visible"
                assert all(s.good for n, s in scene.samples().items() if n != name)
                await stage.set(name, 21.5)
                await scene.until_reported(name, 21.5)

        self.use(story)

    def test_one_bad_point_is_bad_with_words_and_its_neighbours_stay_good(self) -> None:
        async def story(stage: DriverStage) -> None:
            async with playing(stage) as scene:
                before = scene.sample("temperature").value
                await stage.fail("temperature")
                await scene.until(
                    lambda: scene.sample("temperature").quality is Quality.BAD, "bad temperature"
                )
                bad = scene.sample("temperature")
                assert bad.detail, "a bad point says why"
                assert bad.value == before, "the last good value stays visible"
                assert bad.reason is not Reason.COMM_LOST, "the machine itself still answers"
                for speed in (41, 42, 43):
                    await stage.set("speed", speed)
                    await scene.until_reported("speed", speed)
                    assert scene.sample("temperature").quality is Quality.BAD, "it stays bad"
                others = {n: s for n, s in scene.samples().items() if n != "temperature"}
                assert all(s.good for s in others.values()), scene.describe()

        self.use(story)

    def test_a_bad_point_recovers_by_itself(self) -> None:
        async def story(stage: DriverStage) -> None:
            async with playing(stage) as scene:
                await stage.fail("temperature")
                await scene.until(
                    lambda: scene.sample("temperature").quality is Quality.BAD, "bad temperature"
                )
                await stage.heal()
                await stage.set("temperature", 35.5)
                await scene.until_reported("temperature", 35.5)

        self.use(story)

    def test_an_uncertain_value_is_told_as_such(self) -> None:
        async def story(stage: DriverStage) -> None:
            needs(stage.traits.doubts, "uncertain values")
            async with playing(stage) as scene:
                await stage.doubt("temperature")
                await scene.until(
                    lambda: scene.sample("temperature").quality is Quality.UNCERTAIN,
                    "uncertain temperature",
                )
                assert scene.sample("temperature").detail, "an uncertain value says why"
                await stage.heal()
                await stage.set("temperature", 36.5)
                await scene.until_reported("temperature", 36.5)

        self.use(story)
