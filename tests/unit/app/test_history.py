import itertools

from agent_rig import good
from hypothesis import given
from hypothesis import strategies as st

from twinbridge.app.history import Recorded
from twinbridge.core.model import SECOND, Quality, Reason, ReportPolicy

POLICY = ReportPolicy(deadband=1.0, min_interval=SECOND, max_interval=60 * SECOND)


def test_a_change_that_comes_too_soon_is_recorded_when_its_time_has_come() -> None:
    recorded = Recorded(POLICY)
    assert recorded.take(good(1.0), 10 * SECOND)
    assert not recorded.take(good(5.0), 10 * SECOND + 1)
    assert not recorded.take(good(7.0), 10 * SECOND + 2)
    assert recorded.due(10 * SECOND + 3, wall=1) is None
    late = recorded.due(11 * SECOND, wall=1)
    assert late is not None
    assert late.value == 7.0
    assert recorded.due(11 * SECOND + 1, wall=1) is None


def test_a_value_that_came_back_while_it_waited_is_not_recorded() -> None:
    recorded = Recorded(POLICY)
    recorded.take(good(1.0), 10 * SECOND)
    recorded.take(good(5.0), 10 * SECOND + 1)
    recorded.take(good(1.2), 10 * SECOND + 2)
    assert recorded.due(12 * SECOND, wall=1) is None


def test_a_change_of_quality_never_waits() -> None:
    recorded = Recorded(POLICY)
    recorded.take(good(1.0), 10 * SECOND)
    lost = good(1.0)._replace(quality=Quality.BAD, reason=Reason.COMM_LOST)
    assert recorded.take(lost, 10 * SECOND + 1)


def test_an_unchanged_value_is_repeated_after_the_longest_interval() -> None:
    recorded = Recorded(POLICY)
    recorded.take(good(1.0, at=5), 0)
    assert recorded.due(59 * SECOND, wall=99) is None
    again = recorded.due(60 * SECOND, wall=99)
    assert again is not None
    assert (again.value, again.source_time) == (1.0, 99)


@given(st.lists(st.tuples(st.integers(0, 2 * SECOND), st.integers(-5, 5)), min_size=1))
def test_history_never_stays_further_from_the_value_than_the_deadband(
    steps: list[tuple[int, int]],
) -> None:
    recorded = Recorded(POLICY)
    now = 0
    told: list[int] = []
    for pause, value in steps:
        now += pause
        if recorded.take(good(float(value)), now):
            told.append(now)
    if recorded.due(now + POLICY.min_interval, wall=1):
        told.append(now + POLICY.min_interval)
    assert recorded.last is not None
    assert abs(float(recorded.last.value or 0) - steps[-1][1]) < POLICY.deadband
    assert all(b - a >= POLICY.min_interval for a, b in itertools.pairwise(told))
