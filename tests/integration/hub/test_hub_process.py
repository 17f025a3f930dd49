"""The hub as a process and its watchers: stops, TLS, slow clients, events that go."""

from __future__ import annotations

import asyncio
import ssl
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from hub_server import MERGE, OURS, a_device, api_of, hub_process, self_signed

from twinbridge.hub.hub import forget_events
from twinbridge.hub.stored import Change, Key, Stored
from twinbridge.hub.watch import BACKLOG, Selection, Watchers
from twinbridge.testing.hub import hub_running

DEVICES = f"{OURS}/devices"
EVENTS = "/api/v1/namespaces/default/events"


def test_a_stop_ends_open_watches_and_leaves_with_zero(tmp_path: Path) -> None:
    with hub_process(tmp_path / "state") as hub, api_of(hub.url) as api:
        first = api.do("POST", DEVICES, a_device("a"))
        with api.watch(DEVICES) as events:
            assert next(events)["object"] == first
            hub.process.terminate()
            assert list(events) == []
        assert hub.process.wait(10) == 0
        assert "stopped" in hub.log


def test_it_speaks_tls_with_the_certificate_given(tmp_path: Path) -> None:
    tls = self_signed(tmp_path)
    with hub_process(tmp_path / "state", tls=tls) as hub:
        trust = ssl.create_default_context(cafile=tls[0])
        answer = httpx.get(f"{hub.url}/version", verify=trust)
        assert answer.json()["gitVersion"].startswith("v1.")
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(f"{hub.url}/version")


def test_a_watcher_that_takes_nothing_is_closed_and_the_others_go_on() -> None:
    watchers = Watchers()
    everything = Selection("devices", "", lambda _: True)
    slow, quick = (watchers.open(everything, 0, ()) for _ in range(2))

    async def story() -> int:
        taken = 0
        for number in range(BACKLOG + 1):
            key = Key("devices", "default", f"d{number}")
            item = Stored(key, number, b"{}", {}, {"metadata": {"name": key.name}})
            watchers.publish(Change(item, None, deleted=False))
            taken += len(await quick.take(1))
        return taken

    assert asyncio.run(story()) == BACKLOG + 1
    assert slow.closed
    assert not quick.closed


def test_a_change_goes_only_to_those_who_watch_its_node() -> None:
    watchers = Watchers()
    asked: list[str] = []

    def selects(node: str) -> Selection:
        def test(item: Stored) -> bool:
            asked.append(node)
            return bool(item.selectable["spec"]["nodeName"] == node)

        return Selection("devices", "", test, ("spec.nodeName", node))

    edges = {f"edge-{n}": watchers.open(selects(f"edge-{n}"), 0, ()) for n in range(1000)}
    key = Key("devices", "default", "pump")
    before = Stored(key, 1, b"{}", {}, {"spec": {"nodeName": "edge-1"}})
    after = Stored(key, 2, b"{}", {}, {"spec": {"nodeName": "edge-2"}})
    watchers.publish(Change(after, before, deleted=False))
    told = {name: [s.kind for s in w.waiting] for name, w in edges.items() if w.waiting}
    assert told == {"edge-1": ["DELETED"], "edge-2": ["ADDED"]}
    assert set(asked) == {"edge-1", "edge-2"}


def test_events_go_after_their_time_and_the_watch_says_so(tmp_path: Path) -> None:
    async def story() -> None:
        async with (
            hub_running(tmp_path) as hub,
            httpx.AsyncClient(base_url=hub.url, timeout=10) as client,
        ):
            head = {"apiVersion": "v1", "kind": "Event", "reason": "Tripped"}
            event = {**head, "metadata": {"name": "a.1"}, "involvedObject": {"name": "a"}}
            assert (await client.post(EVENTS, json=event)).status_code == 201
            assert await forget_events(hub.hub.store, timedelta(hours=1)) == 0
            assert await forget_events(hub.hub.store, timedelta(hours=-1)) == 1
            assert (await client.get(f"{EVENTS}/a.1")).status_code == 404

    asyncio.run(story())


def test_a_large_answer_is_packed_when_that_is_asked(tmp_path: Path) -> None:
    with hub_process(tmp_path / "state") as hub, api_of(hub.url) as api:
        for number in range(5):
            api.do("POST", DEVICES, a_device(f"pump-{number}"))
        packed = api.raw("GET", DEVICES)
        assert packed.headers["content-encoding"] == "gzip"
        assert len(packed.json()["items"]) == 5
        small = api.raw("GET", "/api")
        assert "content-encoding" not in small.headers
        api.do("PATCH", f"{DEVICES}/pump-1", {"metadata": {"labels": {"a": "b"}}}, type=MERGE)
