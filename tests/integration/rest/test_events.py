import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from agent_rig import BOUND, Edge, device, running_api, trip_alarm, until

from twinbridge.app.events import EventLog
from twinbridge.cli.sse import ServerEvent, parse
from twinbridge.core.messages import Contact
from twinbridge.ports import FellBehind
from twinbridge.rest import sse


@asynccontextmanager
async def events(
    edge: Edge, last_id: str = "", **params: str
) -> AsyncIterator[AsyncIterator[ServerEvent]]:
    headers = {"Last-Event-ID": last_id} if last_id else {}
    async with (
        asyncio.timeout(2 * BOUND),
        edge.http.stream("GET", "/events", params=params, headers=headers) as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        yield _events(response)


async def _events(response: httpx.Response) -> AsyncIterator[ServerEvent]:
    part: list[str] = []
    async for line in response.aiter_lines():
        part.append(line)
        if not line:
            for event in parse(part):
                yield event
            part = []


async def next_told(stream: AsyncIterator[ServerEvent]) -> ServerEvent:
    async for event in stream:
        if event.kind:
            return event
    raise AssertionError("the stream ended")


def test_twins_alarms_and_connections_are_told_as_they_happen() -> None:
    async def story() -> None:
        async with running_api() as edge, events(edge) as stream:
            opening = await anext(stream)
            assert opening.kind == ""
            edge.machines.report("pump-1", temperature=5.0)
            twin = await next_told(stream)
            assert twin.kind == "twin"
            assert twin.view["device"] == "pump-1"
            assert twin.view["properties"]["temperature"]["reported"]["value"] == 5.0
            edge.machines.contact("pump-1", connected=True)
            assert (await next_told(stream)).view["connected"] is True
            edge.machines.tell(trip_alarm())
            alarm = await next_told(stream)
            assert (alarm.kind, alarm.view["id"]) == ("alarm", "overheat-1")
            await edge.http.patch("/devices/pump-1/desired", json={"speed": 3})
            states = [
                (await next_told(stream)).view["properties"]["speed"]["desired"]["state"]
                for _ in range(2)
            ]
            assert states == ["pending", "applied"]

    asyncio.run(story())


def test_a_client_that_comes_back_gets_what_it_missed_exactly_once() -> None:
    async def story() -> None:
        async with running_api() as edge:
            async with events(edge) as stream:
                await anext(stream)
                edge.machines.report("pump-1", temperature=1.0)
                last = (await next_told(stream)).id
            edge.machines.report("pump-1", temperature=2.0)
            edge.machines.report("pump-1", temperature=3.0)
            await until(lambda: edge.agent.twin("pump-1").reported["temperature"].value == 3.0)
            async with events(edge, last) as stream:
                values = [
                    (await next_told(stream)).view["properties"]["temperature"]["reported"]["value"]
                    for _ in range(2)
                ]
                assert values == [2.0, 3.0]

    asyncio.run(story())


@pytest.mark.parametrize("last_id", ["0123abcd-5", "nonsense", "-", "x-99999999999999999999999"])
def test_a_client_that_was_away_for_too_long_is_told_to_read_anew(last_id: str) -> None:
    async def story() -> None:
        async with running_api() as edge, events(edge, last_id) as stream:
            first = await anext(stream)
            assert first.kind == "reset"
            edge.machines.report("pump-1", temperature=1.0)
            assert (await next_told(stream)).kind == "twin"

    asyncio.run(story())


def test_only_the_asked_devices_events_are_told() -> None:
    async def story() -> None:
        async with running_api(device("a"), device("b")) as edge:
            async with events(edge, device="b") as stream:
                await anext(stream)
                edge.machines.report("a", temperature=1.0)
                edge.machines.report("b", temperature=2.0)
                assert (await next_told(stream)).view["device"] == "b"
            assert (await edge.http.get("/events?device=c")).status_code == 404

    asyncio.run(story())


def test_a_client_that_goes_leaves_nothing_behind() -> None:
    async def story() -> None:
        async with running_api() as edge:
            async with events(edge) as stream:
                await anext(stream)
                await until(lambda: edge.agent.events.followers == 1)
            await until(lambda: edge.agent.events.followers == 0)

    asyncio.run(story())


def test_a_client_that_takes_nothing_is_dropped_and_nobody_else_notices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sse, "STALLED", 0.2)

    async def story() -> None:
        async with running_api() as edge, events(edge) as stream:
            await anext(stream)
            host, port = edge.url.removeprefix("http://").split(":")
            _, stuck = await asyncio.open_connection(host, int(port), limit=1024)
            stuck.write(f"GET /api/v1/events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            await until(lambda: edge.agent.events.followers == 2)
            for _ in range(1000):
                edge.machines.report("pump-1", label="x" * 20_000)
            for _ in range(1000):
                assert (await next_told(stream)).kind == "twin"
            await until(lambda: edge.agent.events.followers == 1)
            stuck.close()

    asyncio.run(story())


def test_a_stopping_server_ends_the_streams() -> None:
    async def story() -> None:
        async with running_api() as edge, events(edge) as stream:
            await anext(stream)
            await until(lambda: edge.agent.events.followers == 1)
            edge.agent.events.close()
            assert [event async for event in stream if event.kind] == []

    asyncio.run(story())


def test_a_slow_follower_is_dropped_and_the_log_stays_bounded() -> None:
    async def story() -> None:
        log = EventLog(size=4)
        batches = log.follow()
        waiting = asyncio.ensure_future(anext(batches))
        await until(lambda: log.followers)
        for n in range(3):
            log.append(Contact("a", connected=True, at=n))
        assert [e.change.at for e in await waiting] == [0, 1, 2]
        for n in range(9):
            log.append(Contact("a", connected=True, at=n))
        with pytest.raises(FellBehind):
            await anext(batches)
        assert log.followers == 0

    asyncio.run(story())


def test_a_quiet_stream_has_a_heartbeat() -> None:
    async def story() -> None:
        log = EventLog()
        batches = log.follow(heartbeat=0.01)
        async with asyncio.timeout(BOUND):
            assert list(await anext(batches)) == []
        await batches.aclose()

    asyncio.run(story())
