import asyncio
import json

import pytest
from agent_rig import device, good
from hypothesis import given
from hypothesis import strategies as st

from twinbridge.adapters.scada_mqtt import payload, requests
from twinbridge.adapters.scada_mqtt.history import MOST_OUTAGES, WINDOW, Outage, Outages, divided
from twinbridge.adapters.scada_mqtt.limits import BURST, REFUSAL, Allowance
from twinbridge.adapters.scada_mqtt.payload import Values
from twinbridge.adapters.scada_mqtt.waiting import IN_ALL, PER_KEY, FairQueue
from twinbridge.core.model import MILLISECOND, NOT_READ, Quality, Reason, Sample
from twinbridge.errors import (
    InvalidDesired,
    InvalidInput,
    LinkLost,
    ResetRefused,
    StoreUnavailable,
    UnknownName,
    Unreachable,
)
from twinbridge.ports import HistoryRow

NUMBERS, TEXTS = Values(text_beyond=False), Values(text_beyond=True)


def test_what_is_not_a_number_is_null_and_bad() -> None:
    for value in (float("nan"), float("inf"), float("-inf")):
        view = NUMBERS.sample(good(value, at=5 * MILLISECOND))
        assert view == {"value": None, "quality": "bad", "reason": "out_of_range", "timestamp": 5}
        assert NUMBERS.bare(good(value)) == b""


def test_a_value_that_was_never_read_has_no_time() -> None:
    assert NUMBERS.sample(NOT_READ) == {
        "value": None,
        "quality": "bad",
        "reason": "not_read",
        "timestamp": None,
    }


def test_integers_that_a_float_cannot_hold_are_strings_if_so_wished() -> None:
    for value in (2**53 + 1, -(2**53) - 1, 2**64 - 1):
        assert TEXTS.sample(good(value))["value"] == str(value)
        assert NUMBERS.sample(good(value))["value"] == value
    assert TEXTS.sample(good(2**53))["value"] == 2**53
    assert TEXTS.sample(good(True))["value"] is True


def test_what_the_fast_encoder_refuses_is_told_all_the_same() -> None:
    assert json.loads(payload.encode({"a": 2**70, "b": "\ud800"}))["a"] == 2**70


@pytest.mark.parametrize(
    ("value", "told"), [(71.5, b"71.5"), (7, b"7"), (True, b"true"), ("auto", b"auto")]
)
def test_a_bare_value_is_what_telegraf_parses(value: float | str, told: bytes) -> None:
    assert NUMBERS.bare(good(value)) == told


def test_a_bare_value_that_is_bad_is_withdrawn() -> None:
    assert NUMBERS.bare(Sample(71.5, Quality.BAD, Reason.COMM_LOST, 1, 1)) == b""
    assert NUMBERS.bare(Sample(71.5, Quality.UNCERTAIN, Reason.STALE, 1, 1)) == b"71.5"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnknownName("x"), 404),
        (InvalidInput("x"), 422),
        (ResetRefused("x"), 409),
        (StoreUnavailable("x"), 503),
        (Unreachable("x"), 503),
        (LinkLost("x"), 500),
    ],
)
def test_an_error_has_the_status_that_rest_gives_it(error: InvalidInput, status: int) -> None:
    assert requests.problem(error) == {"status": status, "detail": "x"}


@pytest.mark.parametrize(
    ("payload_", "field"),
    [
        (b'{"speed": 5000}', "speed"),
        (b'{"speed": "fast"}', "speed"),
        (b'{"temperature": 1.0}', "temperature"),
        (b'{"nothing": 1}', "nothing"),
        (b'{"run": {"value": true, "for": 3}}', "run.for"),
        (b'{"run": [1]}', "run"),
    ],
)
def test_a_patch_that_the_device_cannot_take_names_the_field(payload_: bytes, field: str) -> None:
    with pytest.raises(InvalidDesired) as refused:
        requests.patch(device(), payload_)
    assert refused.value.field == field
    assert refused.value.allowed


@pytest.mark.parametrize("garbage", [b"", b"\xff\x00", b"[1]", b"{", b'"x"', b"[" * 5000])
def test_what_is_no_object_is_refused(garbage: bytes) -> None:
    with pytest.raises(requests.Refused):
        requests.patch(device(), garbage)


def test_a_text_may_be_set_with_or_without_quotes() -> None:
    for raw in (b"auto", b'"auto"'):
        assert requests.scalar(device(), "label", raw) == {"label": "auto"}
    assert requests.scalar(device(), "label", b"12") == {"label": "12"}
    assert requests.scalar(device(), "speed", b"12") == {"speed": 12}
    for wrong in (b"", b"null", b"{}", b"fast"):
        with pytest.raises(requests.Refused):
            requests.scalar(device(), "speed", wrong)
    with pytest.raises(requests.Refused):
        requests.scalar(device(), "label", b"\xff")


def test_an_alarm_command_with_an_unknown_field_names_those_that_are_known() -> None:
    with pytest.raises(requests.Refused) as refused:
        requests.body(requests.Shelve, b'{"for": "1h", "until": 3}')
    assert refused.value.field == "until"
    assert refused.value.allowed == "who, for, reason"
    with pytest.raises(requests.Refused) as refused:
        requests.body(requests.Reset, b"")
    assert refused.value.field == "reason"
    assert requests.body(requests.Ack, b"").who == "mqtt"


def test_commands_of_a_device_keep_their_order_and_others_are_served_between() -> None:
    async def story() -> None:
        queue: FairQueue[int] = FairQueue()
        for item in range(3):
            assert queue.put("a", item)
        assert queue.put("b", 10)
        key, item = await queue.take()
        assert (key, item) == ("a", 0)
        assert await queue.take() == ("b", 10)  # the next of a waits for the first to be done
        queue.done("a")
        assert await queue.take() == ("a", 1)
        queue.done("b")
        queue.done("a")
        assert await queue.take() == ("a", 2)
        queue.done("a")
        assert len(queue) == 0

    asyncio.run(story())


def test_a_flood_of_commands_for_one_device_leaves_room_for_others() -> None:
    async def story() -> None:
        queue: FairQueue[int] = FairQueue()
        assert sum(queue.put("loud", n) for n in range(10_000)) == PER_KEY
        assert queue.put("quiet", 1)
        assert sum(queue.put(f"d{n}", n) for n in range(10_000)) == IN_ALL - PER_KEY - 1

    asyncio.run(story())


def test_refused_commands_use_an_allowance_up_sooner() -> None:
    now = 0.0
    allowance = Allowance(lambda: now)
    assert sum(allowance.spend("a") for _ in range(1000)) == BURST
    assert allowance.spend("b")
    refusals = 0
    while allowance.spend("c"):
        allowance.spend("c", REFUSAL)
        refusals += 1
    assert refusals == pytest.approx(BURST / (REFUSAL + 1), abs=1)
    now = 60.0
    assert sum(allowance.spend("a") for _ in range(1000)) == BURST


def test_outages_are_sent_oldest_first_in_windows_and_none_is_lost() -> None:
    outages = Outages()
    outages.add(Outage(5, 5))
    assert outages.window() is None
    outages.add(Outage(0, 2 * WINDOW + 1))
    seen = []
    while (window := outages.window()) is not None:
        seen.append(window)
        outages.sent(window)
    assert seen == [
        Outage(0, WINDOW),
        Outage(WINDOW, 2 * WINDOW),
        Outage(2 * WINDOW, 2 * WINDOW + 1),
    ]
    for n in range(3 * MOST_OUTAGES):
        outages.add(Outage(10 * n, 10 * n + 5))
    first = outages.window()
    assert first is not None
    assert first.start == 0


@given(st.lists(st.integers(0, 5), max_size=30).map(sorted), st.integers(1, 8))
def test_pages_of_history_give_every_time_once_however_many_samples_share_it(
    times: list[int], limit: int
) -> None:
    kept = [HistoryRow(time, number, "good") for number, time in enumerate(times)]
    start: int | None = 0
    sent: list[HistoryRow] = []
    while start is not None:
        page, start = divided([r for r in kept if r.timestamp >= (start or 0)][:limit], limit)
        sent += page
    assert sorted(set(sent)) == sorted(sent)
    assert {row.timestamp for row in sent} == set(times)
    if all(times.count(time) < limit for time in times):
        assert sent == kept
