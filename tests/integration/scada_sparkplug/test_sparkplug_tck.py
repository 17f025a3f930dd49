"""The Sparkplug 3.0 edge node, requirement by requirement, on one recorded life.

The ids are those of the specification's testable requirements; what each asks is said in our own
words beside its check, and listed in docs/reference/sparkplug-tck.md. Not a certification.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import sparkplug_checks_metrics
import sparkplug_checks_numbers
import sparkplug_checks_sessions
import sparkplug_checks_topics
from sparkplug_checks import CHECKS, red
from sparkplug_doctored import faults
from sparkplug_life import commands, full_life, plant, told
from sparkplug_record import Recording

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "sparkplug-tck.md"
FAMILIES = (
    sparkplug_checks_metrics,
    sparkplug_checks_numbers,
    sparkplug_checks_sessions,
    sparkplug_checks_topics,
)


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return told(tmp_path_factory.mktemp("life"), full_life, *plant())


@pytest.fixture(scope="module")
def reddened(life: Recording) -> dict[str, set[str]]:
    """By fault: the ids whose checks see it."""
    return {what: set(red(doctor(life))) for what, doctor in faults().items()}


@pytest.mark.parametrize("id_", CHECKS)
def test_tck(id_: str, life: Recording) -> None:
    CHECKS[id_].checker(life)


@pytest.mark.parametrize("id_", CHECKS)
def test_a_check_sees_a_fault(id_: str, reddened: dict[str, set[str]]) -> None:
    assert any(id_ in seen for seen in reddened.values())


def test_every_fault_is_seen(reddened: dict[str, set[str]]) -> None:
    assert [what for what, seen in reddened.items() if not seen] == []


def test_commands_of_the_host_were_heard(life: Recording) -> None:
    """A rebirth and two writes; what became of them is in the life itself."""
    assert sorted(len(payload.metrics) for payload in commands(life)) == [1, 2]


def test_the_page_lists_every_id_with_what_it_asks() -> None:
    rows = re.findall(r"^\| `(tck-id-[\w-]+)` \| (.+?) \|", PAGE.read_text(), re.MULTILINE)
    assert dict(rows) == {id_: check.asks.replace("|", "/") for id_, check in CHECKS.items()}
    assert len(rows) == len(CHECKS)
    assert all(family.__doc__ for family in FAMILIES)
