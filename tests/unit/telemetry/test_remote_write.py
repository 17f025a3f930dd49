"""What is said by remote write, and what an engine's answer means."""

from __future__ import annotations

import asyncio

import cramjam
import httpx
import pytest

from twinbridge.adapters.sink_remote_write import RemoteWrite
from twinbridge.adapters.sink_remote_write.schema import WriteRequest
from twinbridge.adapters.sink_remote_write.sink import PROBE
from twinbridge.core.model import MILLISECOND, Quality, Reason, Sample, Value
from twinbridge.errors import HubRefused, HubUnavailable
from twinbridge.ports import OutboxBatch, OutboxRecord


def sample(value: Value | None, ms: int, quality: Quality = Quality.GOOD) -> Sample:
    return Sample(value, quality, Reason.NONE, ms * MILLISECOND, 1)


def batch(*samples: tuple[str, Sample]) -> OutboxBatch:
    return OutboxBatch("o", [OutboxRecord(1, "samples", "press", 1, 1, samples)], live=True)


def send(answer: httpx.Response, *samples: tuple[str, Sample]) -> list[httpx.Request]:
    requests: list[httpx.Request] = []

    def engine(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return answer

    async def scenario() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(engine)) as client:
            labels = {"edge_id": "e1", "edge_location": ""}
            await RemoteWrite(client, "http://engine/write", labels).send(batch(*samples))

    asyncio.run(scenario())
    return requests


def test_each_property_is_a_series_in_the_order_of_its_own_times() -> None:
    (request,) = send(
        httpx.Response(204),
        ("p", sample(2, 20)),
        ("p", sample(1.5, 10)),
        ("on", sample(True, 10)),
        ("text", sample("x", 10)),
        ("none", sample(None, 10)),
    )
    told = WriteRequest.FromString(bytes(cramjam.snappy.decompress_raw(request.content)))
    series = {
        tuple((label.name, label.value) for label in one.labels): [
            (each.timestamp, each.value) for each in one.samples
        ]
        for one in told.timeseries
    }
    common = (("__name__", "twinbridge_reported"), ("device", "press"), ("edge_id", "e1"))
    assert series == {
        (*common, ("property", "p")): [(10, 1.5), (20, 2.0)],
        (*common, ("property", "on")): [(10, 1.0)],
    }


def test_a_bad_value_is_a_stale_marker_bit_by_bit() -> None:
    (request,) = send(httpx.Response(204), ("p", sample(1, 10, Quality.BAD)))
    raw = bytes(cramjam.snappy.decompress_raw(request.content))
    assert 0x7FF0000000000002.to_bytes(8, "little") in raw


def test_nothing_is_sent_of_strings_alone() -> None:
    assert send(httpx.Response(500), ("text", sample("x", 1))) == []


@pytest.mark.parametrize("status", [429, 500, 503, 401])
def test_what_may_pass_is_tried_again_when_the_engine_says(status: int) -> None:
    with pytest.raises(HubUnavailable) as caught:
        send(httpx.Response(status, headers={"Retry-After": "7"}), ("p", sample(1, 1)))
    assert caught.value.retry_after == 7.0


@pytest.mark.parametrize(
    ("status", "text", "for_good"),
    [
        (400, "out of order sample", True),
        (400, "out of bounds", True),
        (400, "too old sample", True),
        (400, "duplicate sample for timestamp", True),
        (400, "the sample's timestamp is too old (err-mimir-sample-timestamp-too-old)", True),
        (409, "conflict", True),
        (400, "label name is not valid", False),
        (413, "too large", False),
    ],
)
def test_what_the_engine_will_never_take_is_refused_with_its_words(
    status: int, text: str, *, for_good: bool
) -> None:
    with pytest.raises(HubRefused, match=text.split("(", maxsplit=1)[0]) as caught:
        send(httpx.Response(status, text=text), ("p", sample(1, 1)))
    assert caught.value.for_good is for_good


def test_whether_late_samples_are_taken_is_asked_with_a_series_of_its_own() -> None:
    told: list[tuple[str, int]] = []

    def engine(request: httpx.Request) -> httpx.Response:
        (one,) = WriteRequest.FromString(
            bytes(cramjam.snappy.decompress_raw(request.content))
        ).timeseries
        (label,) = one.labels
        told.append((label.value, one.samples[0].timestamp))
        late = len(told) > 1 and one.samples[0].timestamp < told[-2][1]
        return httpx.Response(400 if late else 204, text="out of order sample")

    async def scenario() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(engine)) as client:
            sink = RemoteWrite(client, "http://engine/write", {})
            assert not await sink.takes_late(5 * MILLISECOND)

    asyncio.run(scenario())
    assert [name for name, _ in told] == [PROBE, PROBE]
    assert told[1][1] == 5
