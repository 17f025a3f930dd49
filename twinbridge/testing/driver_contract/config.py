"""What a driver says without a machine: checks, plans, names, limits; all of it pure."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

from twinbridge.api.crds import crds
from twinbridge.api.plant import Plant, compile_plant
from twinbridge.core.model import Point
from twinbridge.testing.driver_contract.base import Stories
from twinbridge.testing.driver_contract.scene import (
    compiled,
    connection_to,
    definitions,
    device_name,
)
from twinbridge.testing.driver_contract.stage import Cell, DriverStage

PORT = 4000
LONGEST_REQUEST = 60_000_000_000
"""Nothing may keep a stop waiting for a minute, ns."""


class ConfigStories(Stories):
    def test_equal_connections_share_an_endpoint_and_others_do_not(self) -> None:
        async def story(stage: DriverStage) -> None:
            endpoint = stage.driver.endpoint
            here = [connection_to(stage, PORT) for _ in range(2)]
            elsewhere = connection_to(stage, PORT + 1)
            assert endpoint(here[0]) == endpoint(here[1])
            assert endpoint(here[0]) != endpoint(elsewhere)
            assert str(PORT) in endpoint(here[0])

        self.use(story)

    def test_stations_of_one_endpoint_are_told_apart_or_need_no_telling(self) -> None:
        async def story(stage: DriverStage) -> None:
            all_of_them = [connection_to(stage, PORT, s) for s in range(stage.traits.stations)]
            assert len({stage.driver.endpoint(c) for c in all_of_them}) == 1
            units = {stage.driver.unit(c) for c in all_of_them}
            assert units == {""} or len(units) == len(all_of_them), units

        self.use(story)

    def test_a_request_is_bounded_and_a_capacity_positive(self) -> None:
        async def story(stage: DriverStage) -> None:
            connection = connection_to(stage, PORT)
            assert 0 < stage.driver.request_timeout(connection) <= LONGEST_REQUEST
            capacity = stage.driver.capacity(connection)
            assert capacity is None or capacity > 0

        self.use(story)

    def test_the_outline_covers_every_point_once(self) -> None:
        async def story(stage: DriverStage) -> None:
            points = _points(stage)
            outline = stage.driver.outline(points)
            assert _names(p for planned in outline for p in planned.points) == _names(points)
            assert all(o.where for o in outline), "each says where it reads"
            assert all(o.request_bytes >= 0 and o.response_bytes >= 0 for o in outline)
            assert not stage.driver.outline([])

        self.use(story)

    def test_a_plan_covers_every_point_once_each_time(self) -> None:
        async def story(stage: DriverStage) -> None:
            device = compiled(stage, stage.port).devices[device_name(0)]
            async with stage.driver.open(connection_to(stage, stage.port)) as link:
                for _ in range(2):
                    requests = link.plan(device.points)
                    assert _names(p for r in requests for p in r.points) == _names(device.points)
                assert not link.plan([])

        self.use(story)

    def test_one_address_is_no_contradiction_to_itself(self) -> None:
        async def story(stage: DriverStage) -> None:
            for point in _points(stage):
                assert stage.driver.overlap(point.address, point.address) is None

        self.use(story)

    def test_an_unknown_word_in_a_connection_is_refused_at_its_place(self) -> None:
        async def story(stage: DriverStage) -> None:
            wrong = {**stage.connection(PORT, 0), "nonsense": 1}
            _refuses(stage, {"connection": {stage.driver.name: wrong}}, "nonsense")

        self.use(story)

    def test_an_unknown_word_in_an_address_is_refused_at_its_place(self) -> None:
        async def story(stage: DriverStage) -> None:
            first = stage.cells[0]
            wrong = Cell(first.name, first.type, {**first.block, "nonsense": 1}, first.values)
            plant = _plant(stage, wrong)
            said = [str(problem) for problem in plant.problems]
            assert any(f"{stage.driver.name}.nonsense" in line for line in said), said
            assert not plant.devices

        self.use(story)

    def test_a_mistake_in_an_address_is_refused_with_words(self) -> None:
        async def story(stage: DriverStage) -> None:
            assert stage.mistakes, "name some addresses that must be refused"
            for mistake in stage.mistakes:
                plant = _plant(
                    stage, Cell("wrong", mistake.type, mistake.block, (), mistake.writable)
                )
                said = [str(p) for p in plant.problems if not p.warning]
                assert any(mistake.words in line for line in said), f"{mistake}: {said}"
                assert any(f".{stage.driver.name}" in line for line in said), said

        self.use(story)

    def test_the_models_become_part_of_the_resources(self) -> None:
        async def story(stage: DriverStage) -> None:
            name = stage.driver.name
            found = crds({name: stage.driver})
            assert {"devices", "devicemodels"} <= {key.partition(".")[0] for key in found}
            for model in (stage.driver.connection_model, stage.driver.address_model):
                for field, told in model.model_fields.items():
                    assert told.description, f"{model.__name__}.{field} has no description"

        self.use(story)

    def test_importing_the_driver_loads_no_client_library(self) -> None:
        async def story(stage: DriverStage) -> None:
            module = type(stage.driver).__module__.partition(".")[0]
            code = f"import sys, {module}; print(*sys.modules)"
            run = subprocess.run(  # noqa: ASYNC221, S603 - nothing else runs meanwhile; our own code
                [sys.executable, "-c", code],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            assert run.returncode == 0, run.stderr
            loaded = set(run.stdout.split()) & set(stage.traits.client_libraries)
            assert not loaded, f"import {module} loads {loaded}; load it in open()"

        self.use(story)


def _points(stage: DriverStage) -> list[Point]:
    return list(compiled(stage, PORT).devices[device_name(0)].points)


def _names(points: object) -> list[str]:
    return sorted(point.spec.name for point in points)  # type: ignore[attr-defined]  # points


def _plant(stage: DriverStage, cell: Cell) -> Plant:
    documents = definitions(stage, PORT, cells=[cell])
    return compile_plant(documents, {stage.driver.name: stage.driver})


def _refuses(stage: DriverStage, changed: Mapping[str, object], words: str) -> None:
    """The Device with this change of its spec is refused, and what is said names the place."""
    documents = definitions(stage, PORT)
    content = documents[-1].content
    assert isinstance(content, dict)
    content["spec"].update(changed)
    plant = compile_plant(documents, {stage.driver.name: stage.driver})
    said = [str(problem) for problem in plant.problems]
    assert any(f"spec.connection.{stage.driver.name}.{words}" in line for line in said), said
    assert not plant.devices
