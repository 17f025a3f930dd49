"""What one publication of a server says of the requests that are followed."""

from __future__ import annotations

from datetime import UTC, datetime

from asyncua import ua

from twinbridge.core.model import (
    MILLISECOND,
    SECOND,
    Point,
    PropertyRef,
    PropertySpec,
    Quality,
    ValueType,
)
from twinbridge.ports import Push, ReadResult
from twinbridge_opcua import driver
from twinbridge_opcua.config import OpcUaAddress, OpcUaConnection
from twinbridge_opcua.plan import Request
from twinbridge_opcua.subscription import OVERFLOWS, Followed, Subscription, new_item

CONNECTION = OpcUaConnection(url="opc.tcp://plc", allow_insecure=True)
OVERFLOWED = 0x480


def point(name: str) -> Point:
    spec = PropertySpec(name, ValueType.INT)
    address = driver.bind(spec, CONNECTION, OpcUaAddress(node=f"nsu=u;s={name}"))
    return Point(PropertyRef("d", name), spec, address, 100 * MILLISECOND)


class Told:
    """A subscription to two nodes, with handles 1 and 2."""

    def __init__(self, patience: float = float("inf")) -> None:
        self.request = Request((point("a"), point("b")), pushed=True)
        self.followed = Followed(self.request, patience)
        self.subscription = Subscription(7, 0.1, 1.0)
        for handle, each in enumerate(self.request.points, 1):
            self.subscription.items[handle] = new_item(each, self.followed)
        self.subscription.follow([self.followed])

    def publish(self, *told: tuple[int, object, int]) -> list[Push]:
        items = [
            ua.MonitoredItemNotification(
                ua.IntegerId(handle),
                ua.DataValue(ua.Variant(value), ua.StatusCode(ua.UInt32(code))),
            )
            for handle, value, code in told
        ]
        message = ua.NotificationMessage(
            NotificationData=[ua.DataChangeNotification(MonitoredItems=items)] if items else []
        )
        return self.subscription.take(ua.PublishResult(NotificationMessage=message))


def readings(pushes: list[Push]) -> list[tuple[str, object]]:
    (push,) = pushes
    assert isinstance(push.result, ReadResult)
    return [(r.point.spec.name, r.value) for r in push.result.readings]


def test_the_first_answer_waits_for_every_node() -> None:
    told = Told()
    assert told.publish((1, 5, 0)) == []
    assert readings(told.publish((2, 6, 0))) == [("a", 5), ("b", 6)]


def test_a_node_that_says_nothing_is_bad_after_a_while() -> None:
    told = Told(patience=0.0)
    (push,) = told.publish((1, 5, 0))
    assert isinstance(push.result, ReadResult)
    silent = push.result.readings[1]
    assert (silent.quality, silent.message) == (
        Quality.BAD,
        "the server has not told a value yet",
    )


def test_values_of_one_node_come_in_the_order_in_which_it_had_them() -> None:
    told = Told()
    told.publish((1, 5, 0), (2, 6, 0))
    assert readings(told.publish((1, 7, 0), (1, 8, 0), (1, 9, 0))) == [
        ("a", 7),
        ("a", 8),
        ("a", 9),
    ]


def test_a_bad_node_is_told_again_with_every_answer_until_it_is_good() -> None:
    told = Told()
    told.publish((1, 5, 0), (2, 6, ua.StatusCodes.BadSensorFailure))
    assert readings(told.publish((1, 7, 0))) == [("a", 7), ("b", None)]
    assert readings(told.publish((2, 6, 0))) == [("b", 6)]
    assert readings(told.publish((1, 8, 0))) == [("a", 8)]


def test_a_value_after_a_full_queue_is_good_and_the_loss_is_counted() -> None:
    told = Told()
    told.publish((1, 5, 0), (2, 6, 0))
    before = OVERFLOWS._value.get()
    assert readings(told.publish((1, 7, OVERFLOWED))) == [("a", 7)]
    assert OVERFLOWS._value.get() == before + 1


def test_a_node_that_is_watched_no_more_is_passed_over() -> None:
    told = Told()
    told.publish((1, 5, 0), (2, 6, 0))
    assert readings(told.publish((99, 1, 0), (1, 7, 0))) == [("a", 7)]


def test_a_bad_value_is_never_older_than_the_one_that_it_takes_back() -> None:
    told = Told()
    told.publish((1, 5, 0), (2, 6, 0))
    item = told.subscription.items[1]
    bad = ua.StatusCode(ua.UInt32(ua.StatusCodes.BadSensorFailure))
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    given = ua.DataValue(None, bad, SourceTimestamp=long_ago, ServerTimestamp=long_ago)
    assert item.decode(given).source_time is None


def test_the_servers_time_stands_in_for_a_source_time_that_is_not_there() -> None:
    decode = Told().subscription.items[1].decode
    source, server = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    both = ua.DataValue(ua.Variant(5), SourceTimestamp=source, ServerTimestamp=server)
    only = ua.DataValue(ua.Variant(5), ServerTimestamp=server)
    neither = ua.DataValue(ua.Variant(5))
    assert [decode(given).source_time for given in (both, only, neither)] == [
        int(source.timestamp()) * SECOND,
        int(server.timestamp()) * SECOND,
        None,
    ]
