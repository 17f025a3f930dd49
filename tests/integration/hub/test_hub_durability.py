"""What the hub answered is on disk; what it told watchers comes in order, before and after."""

from __future__ import annotations

import asyncio
import resource
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from hub_server import MERGE, OURS, Api, a_device, api_of, hub_on_a_thread, hub_process

from twinbridge.testing.hub import hub_running

DEVICES = f"{OURS}/devices"


def test_kill_9_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    state = tmp_path / "state"
    answered: dict[str, str] = {}
    with hub_process(state) as hub:
        stop = threading.Event()

        def write(writer: int) -> None:
            with httpx.Client(base_url=hub.url, timeout=10) as client:
                for number in range(10_000):
                    device = a_device(f"pump-{writer}-{number}")
                    try:
                        made = client.post(DEVICES, json=device)
                    except httpx.TransportError:
                        return
                    metadata = made.json()["metadata"]
                    answered[metadata["name"]] = metadata["resourceVersion"]
                    if len(answered) >= 60:
                        stop.set()

        with ThreadPoolExecutor(4) as writers:
            done = [writers.submit(write, number) for number in range(4)]
            assert stop.wait(20)
            hub.kill()
            for each in done:
                each.result(20)
    with hub_process(state) as again, api_of(again.url) as api:
        listed = api.do("GET", DEVICES)
        kept = {i["metadata"]["name"]: i["metadata"]["resourceVersion"] for i in listed["items"]}
        assert answered.items() <= kept.items()
        newest = max(map(int, answered.values()))
        fresh = api.do("POST", DEVICES, a_device("fresh"))
        assert int(fresh["metadata"]["resourceVersion"]) > newest
        assert again.stop() == 0


def test_a_watch_goes_on_over_a_restart(tmp_path: Path) -> None:
    with hub_on_a_thread(tmp_path) as hub, api_of(hub.url) as api:
        first = api.do("POST", DEVICES, a_device("a"))
        moved = api.do("PATCH", f"{DEVICES}/a", {"spec": {"nodeName": "edge-2"}}, type=MERGE)
        api.do("POST", DEVICES, a_device("b"))
        api.do("DELETE", f"{DEVICES}/b")
    with hub_on_a_thread(tmp_path) as hub, api_of(hub.url) as api:
        start = first["metadata"]["resourceVersion"]
        query = {"resourceVersion": start, "fieldSelector": "spec.nodeName=edge-1"}
        with api.watch(DEVICES, **query) as events:
            told = [next(events) for _ in range(3)]
    assert [(e["type"], e["object"]["metadata"]["name"]) for e in told] == [
        ("DELETED", "a"),
        ("ADDED", "b"),
        ("DELETED", "b"),
    ]
    assert told[0]["object"]["metadata"]["resourceVersion"] == moved["metadata"]["resourceVersion"]


def test_a_hub_that_lost_its_file_lets_nobody_go_on_from_before(tmp_path: Path) -> None:
    with hub_on_a_thread(tmp_path / "one") as hub, api_of(hub.url) as api:
        before = api.do("POST", DEVICES, a_device("a"))["metadata"]["resourceVersion"]
    with (
        hub_on_a_thread(tmp_path / "two") as hub,
        api_of(hub.url) as api,
        api.watch(DEVICES, resourceVersion=before) as events,
    ):
        told = next(events)
    assert (told["type"], told["object"]["code"]) == ("ERROR", 410)


def test_compaction_forgets_the_past_and_keeps_the_present(tmp_path: Path) -> None:
    async def story() -> None:
        async with hub_running(tmp_path) as hub:
            client = httpx.AsyncClient(base_url=hub.url, timeout=10)
            async with client:
                first = (await client.post(DEVICES, json=a_device("a"))).json()
                await client.post(DEVICES, json=a_device("gone"))
                await client.delete(f"{DEVICES}/gone")
                old = {"resourceVersion": first["metadata"]["resourceVersion"]}
                page = (await client.get(DEVICES, params={"limit": "1"})).json()
                assert page["metadata"].get("continue") is None
                await client.post(DEVICES, json=a_device("b"))
                token = (await client.get(DEVICES, params={"limit": "1"})).json()["metadata"]
                await client.post(DEVICES, json=a_device("c"))
                assert await hub.hub.store.compact(everything=True) == 2
                late = await client.get(DEVICES, params={"limit": "1", **_continue(token)})
                assert late.status_code == 410
                assert "continue parameter is too old" in late.json()["message"]
                query = {"watch": "true", "timeoutSeconds": "5", **old}
                assert '"code":410' in (await client.get(DEVICES, params=query)).text
        async with hub_running(tmp_path) as hub, httpx.AsyncClient(base_url=hub.url) as client:
            listed = (await client.get(DEVICES)).json()
            assert [i["metadata"]["name"] for i in listed["items"]] == ["a", "b", "c"]

    asyncio.run(story())


def _continue(metadata: dict[str, str]) -> dict[str, str]:
    return {"continue": metadata["continue"]}


def test_those_who_write_at_the_same_time_share_commits(tmp_path: Path) -> None:
    async def story() -> None:
        async with hub_running(tmp_path) as hub:
            limits = httpx.Limits(max_connections=50)
            async with httpx.AsyncClient(base_url=hub.url, limits=limits, timeout=30) as client:
                before = hub.hub.store.commits
                async with asyncio.TaskGroup() as tasks:
                    made = [
                        tasks.create_task(client.post(DEVICES, json=a_device(f"pump-{number}")))
                        for number in range(200)
                    ]
                assert {task.result().status_code for task in made} == {201}
                versions = {task.result().json()["metadata"]["resourceVersion"] for task in made}
                assert len(versions) == 200
                assert hub.hub.store.commits - before < 200

    asyncio.run(story())


def test_one_of_many_writers_of_the_same_version_wins(tmp_path: Path) -> None:
    with hub_on_a_thread(tmp_path) as hub, api_of(hub.url) as api:
        first = api.do("POST", DEVICES, a_device("a"))

        def replace(number: int) -> int:
            with api_of(hub.url) as mine:
                changed = {**first, "spec": {**first["spec"], "nodeName": f"edge-{number}"}}
                return mine.ask("PUT", f"{DEVICES}/a", changed)[0]

        with ThreadPoolExecutor(8) as writers:
            codes = sorted(writers.map(replace, range(100, 108)))
        assert codes == [200, *[409] * 7]


def test_a_disk_that_is_full_refuses_writes_alone_and_until_it_is_not(tmp_path: Path) -> None:
    with hub_process(tmp_path / "state") as hub, api_of(hub.url) as api:
        api.do("POST", DEVICES, a_device("a"))
        pid = hub.process.pid
        unlimited = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (100_000, unlimited[1]))
        refused = _until_refused(api)
        assert refused["reason"] == "ServiceUnavailable"
        assert "hub.db" in refused["message"]
        assert api.do("GET", f"{DEVICES}/a")["metadata"]["name"] == "a"
        assert api.raw("GET", "/readyz").status_code == 503
        resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
        assert api.do("POST", DEVICES, a_device("after"))
        assert api.raw("GET", "/readyz").status_code == 200


def _until_refused(api: Api) -> dict[str, Any]:
    for number in range(1000):
        code, found = api.ask("POST", DEVICES, a_device(f"n-{number}"))
        if code == 503:
            told: dict[str, Any] = found
            return told
    raise AssertionError("the disk never filled")
