"""The examples run as they are: each is sound, can be planned, and passes its rules' tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDERS = sorted(path for path in EXAMPLES.iterdir() if path.is_dir())
COMPANY = {
    "cross-protocol": ("tesys-motor", "boiler", "leak-and-fan"),
    "scada": ("bottling",),
    "telemetry": ("bottling",),
}
"""Examples without machines, and the folders of the machines that they are for."""
TESTED = [folder for folder in FOLDERS if list(folder.glob("*.test.yaml"))]
TWINBRIDGE = Path(sys.executable).with_name("twinbridge")


def said_by(*arguments: str | Path) -> str:
    """What the command prints; it must end well."""
    done = subprocess.run(
        [TWINBRIDGE, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_there_are_examples_with_rule_tests() -> None:
    assert len(FOLDERS) >= 4
    assert len(TESTED) >= 2


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_an_example_is_sound_and_can_be_planned(folder: Path) -> None:
    with_company = (folder, *(EXAMPLES / name for name in COMPANY.get(folder.name, ())))
    files = [word for each in with_company for word in ("-f", each)]
    assert said_by("validate", *files).rstrip().endswith("ok")
    assert "requests/s" in said_by("plan", *files)


@pytest.mark.parametrize("folder", TESTED, ids=lambda folder: folder.name)
def test_the_rules_of_an_example_pass_their_tests(folder: Path) -> None:
    assert "ok" in said_by("rules", "test", folder)
