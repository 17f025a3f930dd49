from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinbridge.api.wire import parse_duration, parse_patch, parse_timestamp, timestamp
from twinbridge.core.model import MILLISECOND, SECOND
from twinbridge.errors import InvalidDesired


@given(st.integers(1, 4_000_000_000_000))
def test_a_timestamp_comes_back_as_it_went(ms: int) -> None:
    text = timestamp(ms * MILLISECOND)
    assert text is not None
    assert parse_timestamp(text, "at") == ms * MILLISECOND
    assert datetime.fromisoformat(text).tzinfo == UTC


def test_what_has_not_happened_has_no_timestamp() -> None:
    assert timestamp(0) is None


@pytest.mark.parametrize("text", ["", "noon", "2026-01-01", "2026-01-01T00:00:00", None, 5, True])
def test_a_timestamp_without_an_offset_is_refused(text: object) -> None:
    with pytest.raises(InvalidDesired) as refusal:
        parse_timestamp(text, "to")
    assert refusal.value.field == "to"
    assert "2026-01-31T08:00:00Z" in refusal.value.allowed


@pytest.mark.parametrize(
    ("text", "ns"), [("500ms", SECOND // 2), ("10s", 10 * SECOND), ("1.5h", 5400 * SECOND)]
)
def test_durations_have_a_unit(text: str, ns: int) -> None:
    assert parse_duration(text, "step") == ns


@pytest.mark.parametrize(
    "text", ["", "10", "0s", "-1s", "1 s", "1S", "1e3s", "99999d", "9" * 40 + "s", None, 10]
)
def test_other_durations_are_refused(text: object) -> None:
    with pytest.raises(InvalidDesired):
        parse_duration(text, "step")


def test_a_patch_tells_values_wishes_and_withdrawals_apart() -> None:
    wishes = parse_patch({"a": 1, "b": {"value": True, "validFor": "10s"}, "c": None})
    assert wishes["a"] is not None
    assert wishes["b"] is not None
    assert (wishes["a"].value, wishes["a"].valid_for) == (1, None)
    assert (wishes["b"].value, wishes["b"].valid_for) == (True, 10 * SECOND)
    assert wishes["c"] is None
