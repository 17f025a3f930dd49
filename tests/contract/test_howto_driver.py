"""The driver that docs/how-to/write-a-driver.md builds, taken from there, does what it must."""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import ClassVar

import pytest

from twinbridge.api.plant import load_plant
from twinbridge.cli.drivers import installed_drivers
from twinbridge.testing.driver_contract import DriverContract, DriverStage

PAGE = Path(__file__).parents[2] / "docs/how-to/write-a-driver.md"
FILE = re.compile(r"<!-- file: (\S+) -->\n```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE)
STAGE = "test_lines"


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Its files in a folder, with the entry points that an installation would write."""
    folder = tmp_path_factory.mktemp("driver")
    for name, text in FILE.findall(PAGE.read_text()):
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    _install(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        installed_drivers.cache_clear()
        TestHowToDriver.made_by = importlib.import_module(STAGE).Stage
        yield folder
    installed_drivers.cache_clear()
    for module in [m for m in sys.modules if m == STAGE or m.startswith("twinbridge_lines")]:
        del sys.modules[module]


def _install(folder: Path) -> None:
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    made = folder / f"twinbridge_lines-{project['version']}.dist-info"
    made.mkdir()
    (made / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {where}\n" for name, where in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (made / "entry_points.txt").write_text("".join(groups))


class TestHowToDriver(DriverContract):
    made_by: ClassVar[type]

    def stage(self) -> AbstractAsyncContextManager[DriverStage]:
        made: AbstractAsyncContextManager[DriverStage] = self.made_by()
        return made

    def test_it_is_found_by_its_entry_point(self) -> None:
        assert installed_drivers()["lines"].name == "lines"

    def test_a_device_may_name_it_as_a_custom_driver(self, installed: Path) -> None:
        plant = load_plant([installed / "plant.yaml"], installed_drivers())
        assert plant.sound, plant.problems
        assert plant.devices["oven-1"].protocol == "lines"
