"""What every Bus must do: subclass `BusContract` in a test module, say how to open one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import TypeAlias

import pytest

from twinbridge.core.alarm import Alarm
from twinbridge.core.messages import (
    AlarmChanged,
    Audit,
    Contact,
    DesiredState,
    Event,
    Outcome,
    Request,
    ResetTrip,
    Samples,
)
from twinbridge.core.model import Quality, Reason, Sample
from twinbridge.core.rule import Severity
from twinbridge.errors import Conflict, ResetRefused, UnknownName
from twinbridge.ports import Bus

Opener: TypeAlias = Callable[[], AbstractAsyncContextManager[Bus]]

WAIT_SECONDS = 30.0

RESET = ResetTrip("a-1", "anna", "belt replaced")
NEVER_LOST: tuple[Event, ...] = (
    AlarmChanged(Alarm("a-1", "overheat", "pump-1", Severity.CRITICAL, "hot", 1)),
    Outcome("pump-1", "run", 3, DesiredState.APPLIED, "", 2),
    Audit("trip", "overheat/pump-1", "rule", {"limit": 85.0}, 3, 4),
    Contact("pump-1", False, 5, "no answer"),
)


def samples(at: int, device: str = "pump-1", name: str = "temperature") -> Samples:
    return Samples(device, ((name, Sample(float(at), Quality.GOOD, Reason.NONE, at, at)),))


async def received(reader: AsyncIterator[Sequence[Event]], *last: Event) -> list[Event]:
    """All events until each of `last` has come."""
    events: list[Event] = []
    while not all(event in events for event in last):
        events += await anext(reader)
    return events


def fleeting(events: Sequence[Event]) -> list[Event]:
    """Samples and contacts: in order among themselves."""
    return [event for event in events if isinstance(event, Samples | Contact)]


def lasting(events: Sequence[Event]) -> list[Event]:
    """Alarms, outcomes and audit: in order among themselves."""
    return [event for event in events if not isinstance(event, Samples | Contact)]


def numbered(event: Event, number: int) -> Event:
    """The same, told apart from others by its time or version."""
    match event:
        case AlarmChanged(alarm):
            return AlarmChanged(replace(alarm, since=number))
        case Outcome():
            return event._replace(version=number + 1)
        case Contact():
            return event._replace(at=number)
        case Audit():
            return event._replace(wall=number)
    return event


class BusContract:
    """`opened` gives one bus; `queue_limit` is how many events it keeps for a slow reader."""

    queue_limit = 100

    def opened(self) -> AbstractAsyncContextManager[Bus]:
        raise NotImplementedError

    async def settled(self, bus: Bus) -> None:
        """Returns once what was published has reached those who listen; at once, by default."""

    def use(self, story: Callable[[Bus], Awaitable[None]]) -> None:
        async def told() -> None:
            async with self.opened() as bus:
                await story(bus)

        asyncio.run(asyncio.wait_for(told(), WAIT_SECONDS))

    def test_every_reader_gets_every_event_in_order(self) -> None:
        async def story(bus: Bus) -> None:
            readers = [bus.subscribe(), bus.subscribe()]
            events = [samples(1), *NEVER_LOST, samples(2)]
            for event in events:
                bus.publish(event)
            for reader in readers:
                came = await received(reader, *events)
                assert fleeting(came) == fleeting(events)
                assert lasting(came) == lasting(events)

        self.use(story)

    def test_a_reader_gets_nothing_from_before_it_came_and_all_from_then_on(self) -> None:
        async def story(bus: Bus) -> None:
            bus.publish(samples(1))
            await self.settled(bus)
            reader = bus.subscribe()
            bus.publish(samples(2))
            assert await received(reader, samples(2)) == [samples(2)]

        self.use(story)

    def test_a_waiting_reader_is_woken(self) -> None:
        async def story(bus: Bus) -> None:
            reader = bus.subscribe()
            async with asyncio.TaskGroup() as tasks:
                waiting = tasks.create_task(received(reader, samples(1)), name="reader")
                await asyncio.sleep(0)
                bus.publish(samples(1))
            assert waiting.result() == [samples(1)]

        self.use(story)

    def test_a_cancelled_wait_loses_no_event(self) -> None:
        async def story(bus: Bus) -> None:
            reader = bus.subscribe()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(reader), 0.01)
            bus.publish(samples(1))
            assert await received(reader, samples(1)) == [samples(1)]

        self.use(story)

    def test_publishing_with_no_reader_is_no_error(self) -> None:
        async def story(bus: Bus) -> None:
            bus.publish(samples(1))

        self.use(story)

    def test_a_slow_reader_keeps_the_newest_sample_of_each_property(self) -> None:
        async def story(bus: Bus) -> None:
            reader = bus.subscribe()
            bus.publish(samples(1, name="seldom"))
            for at in range(50 * self.queue_limit):
                bus.publish(samples(at, device=f"pump-{at % 7}"))
            bus.publish(samples(9, name="last"))
            events = await received(reader, samples(9, name="last"))
            assert len(events) <= 2 * self.queue_limit
            assert samples(1, name="seldom") in events
            newest = {event.device: event for event in events if isinstance(event, Samples)}
            for at in range(50 * self.queue_limit - 6, 50 * self.queue_limit):
                device = f"pump-{at % 7}"
                assert device == "pump-1" or newest[device] == samples(at, device=device)

        self.use(story)

    def test_a_slow_reader_loses_no_alarm_outcome_audit_or_contact(self) -> None:
        async def story(bus: Bus) -> None:
            reader = bus.subscribe()
            sent: list[Event] = []
            for at in range(10 * self.queue_limit):
                bus.publish(samples(at))
                bus.publish(told := numbered(NEVER_LOST[at % len(NEVER_LOST)], at))
                sent.append(told)
            bus.publish(samples(0, name="last"))
            events = await received(reader, samples(0, name="last"), *sent[-len(NEVER_LOST) :])
            assert lasting(events) == lasting(sent)
            assert [e for e in events if isinstance(e, Contact)] == [
                e for e in sent if isinstance(e, Contact)
            ]

        self.use(story)

    def test_a_request_returns_once_the_handler_is_done(self) -> None:
        async def story(bus: Bus) -> None:
            done: list[Request] = []

            async def handle(request: Request) -> None:
                await asyncio.sleep(0)
                done.append(request)

            bus.serve(handle)
            await bus.request(RESET)
            assert done == [RESET]

        self.use(story)

    def test_a_request_that_is_begun_is_done_though_its_asker_has_gone(self) -> None:
        async def story(bus: Bus) -> None:
            begun, go_on, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

            async def handle(request: Request) -> None:
                del request
                begun.set()
                await go_on.wait()
                done.set()

            bus.serve(handle)
            asking = asyncio.ensure_future(bus.request(RESET))
            await begun.wait()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            go_on.set()
            await done.wait()

        self.use(story)

    @pytest.mark.parametrize(
        "error",
        [
            UnknownName("no alarm a-1"),
            Conflict("busy"),
            ResetRefused("temperature is still above 85"),
        ],
    )
    def test_a_request_raises_what_the_handler_raised(self, error: Exception) -> None:
        async def story(bus: Bus) -> None:
            async def handle(request: Request) -> None:
                assert request == RESET
                raise error

            bus.serve(handle)
            with pytest.raises(type(error)) as caught:
                await bus.request(RESET)
            assert type(caught.value) is type(error)
            assert str(caught.value) == str(error)

        self.use(story)
