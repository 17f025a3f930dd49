"""The REST twin API over all nodes, on a real hub and over real sockets."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from twinbridge.api.base import parse_time
from twinbridge.api.crds import crds
from twinbridge.cli.drivers import installed_drivers
from twinbridge.core.model import SECOND
from twinbridge.hub.fleet import PREFIX, Fleet
from twinbridge.hub.hub import HubOptions, open_hub
from twinbridge.hub.serve import Listen, serve

Json = dict[str, Any]
GROUP = "devices.twinbridge.io/v1alpha1"
OURS = f"/apis/{GROUP}/namespaces/default"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
ADMIN, VIEWER, EDGE, OPERATOR = "a" * 20, "v" * 20, "e" * 20, "o" * 20
TOKENS = f"""{ADMIN},root,admin
{VIEWER},anna,viewer
{EDGE},edge-1,edge,edge-1
{OPERATOR},otto,operator
"""

MODEL = {
    "apiVersion": GROUP,
    "kind": "DeviceModel",
    "metadata": {"name": "drive"},
    "spec": {
        "properties": [
            {"name": "temperature", "type": "float", "unit": "Cel"},
            {
                "name": "speed",
                "type": "int",
                "access": "ReadWrite",
                "minimum": 0,
                "maximum": 1500,
            },
            {"name": "run", "type": "bool", "access": "ReadWrite"},
        ]
    },
}

STOPS_RUN = {
    "apiVersion": GROUP,
    "kind": "Rule",
    "metadata": {"name": "too-hot"},
    "spec": {
        "nodeName": "edge-1",
        "devices": {"name": "pump-1"},
        "when": {"property": "temperature", "above": 90, "staleAfter": "3s", "onBad": "Trip"},
        "severity": "high",
        "message": "It is too hot",
        "trip": {"write": [{"property": "run", "value": False}]},
        "mode": "Armed",
    },
}


def device(name: str, node: str = "edge-1", **labels: str) -> Json:
    return {
        "apiVersion": GROUP,
        "kind": "Device",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "modelRef": {"name": "drive"},
            "nodeName": node,
            "connection": {"modbus": {"host": "127.0.0.1", "port": 5020, "unit": 1}},
        },
    }


class Answer(NamedTuple):
    status: int
    content: Any
    headers: Any


class Asking:
    def __init__(self, url: str) -> None:
        self.url = url

    async def __call__(
        self, method: str, path: str, body: object = None, *, token: str = "", **headers: str
    ) -> Answer:
        return await asyncio.to_thread(self._ask, method, path, body, token, headers)

    def _ask(
        self, method: str, path: str, body: object, token: str, headers: dict[str, str]
    ) -> Answer:
        said = {"Content-Type": "application/json"}
        said |= {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            said["Authorization"] = f"Bearer {token}"
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, content, said, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return Answer(answer.status, json.load(answer), answer.headers)
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, json.load(error), error.headers)

    async def status(self, name: str, **status: object) -> None:
        found = await self(
            "PATCH",
            f"{OURS}/devices/{name}/status",
            {"status": status},
            Content_Type="application/merge-patch+json",
        )
        assert found.status == 200, found.content


@asynccontextmanager
async def fleet_running(folder: Path, tokens: str = "") -> AsyncIterator[Asking]:
    token_file = None
    if tokens:
        token_file = folder / "tokens"
        token_file.touch(mode=0o600)
        token_file.write_text(tokens)
    options = HubOptions(folder, list(crds(installed_drivers()).values()), token_file)
    async with (
        open_hub(options) as hub,
        serve(hub, hub.api({PREFIX: Fleet(hub).app}), Listen("127.0.0.1", 0)) as url,
    ):
        yield Asking(url)


def on_a_hub(
    folder: Path, story: Callable[[Asking], Awaitable[None]], tokens: str = "", *names: Json
) -> None:
    async def told() -> None:
        async with fleet_running(folder, tokens) as ask, asyncio.timeout(60):
            made = [("devicemodels", MODEL), *(("devices", d) for d in names)]
            for plural, document in made:
                token = ADMIN if tokens else ""
                found = await ask("POST", f"{OURS}/{plural}", document, token=token)
                assert found.status == 201, found.content
            await story(ask)

    asyncio.run(told())


def connected(*more: Json) -> list[Json]:
    return [{"type": "Connected", "status": "True", "reason": "Answers"}, *more]


def test_a_device_is_shown_as_its_edge_shows_it(tmp_path: Path) -> None:
    async def story(ask: Asking) -> None:
        reported = {"value": 71.5, "quality": "good", "timestamp": "2026-01-31T08:00:00.000Z"}
        desired = {"value": 900, "version": 3, "origin": "device", "state": "applied"}
        await ask.status(
            "pump-1",
            observedGeneration=1,
            conditions=connected(),
            lastContact="2026-01-31T08:00:00.000Z",
            twins=[
                {"name": "temperature", "reported": reported},
                {"name": "speed", "desired": desired},
            ],
        )
        found = await ask("GET", "/twins/v1/devices/pump-1")

        assert found.status == 200
        view = found.content
        assert (view["name"], view["node"], view["model"]) == ("pump-1", "edge-1", "drive")
        assert (view["protocol"], view["labels"]) == ("modbus", {"line": "a"})
        assert (view["connected"], view["tripped"], view["trips"]) == (True, False, [])
        assert view["properties"]["temperature"] == {
            "reported": reported,
            "desired": None,
            "type": "float",
            "access": "ReadOnly",
            "unit": "Cel",
        }
        assert view["properties"]["speed"]["desired"] == desired
        assert view["properties"]["speed"]["maximum"] == 1500
        assert view["properties"]["run"]["reported"]["reason"] == "not_read"

    on_a_hub(tmp_path, story, "", device("pump-1", line="a"))


def test_the_fleet_is_listed_by_node_and_label_and_page(tmp_path: Path) -> None:
    async def story(ask: Asking) -> None:
        await ask.status("b", conditions=connected())

        async def names(query: str) -> list[str]:
            found = await ask("GET", f"/twins/v1/devices{query}")
            assert found.status == 200, found.content
            return [item["name"] for item in found.content["items"]]

        assert await names("") == ["a", "b", "c"]
        assert await names("?node=edge-2") == ["c"]
        assert await names("?label=line=1") == ["a", "b"]
        assert await names("?label=line=1&label=cell=x") == ["b"]
        assert await names("?connected=true") == ["b"]
        assert await names("?namespace=elsewhere") == []
        first = (await ask("GET", "/twins/v1/devices?limit=2")).content
        assert [item["name"] for item in first["items"]] == ["a", "b"]
        assert await names(f"?limit=2&continue={first['continue']}") == ["c"]

    devices = [device("a", line="1"), device("b", line="1", cell="x"), device("c", "edge-2")]
    on_a_hub(tmp_path, story, "", *devices)


def test_what_is_desired_goes_into_the_resource_and_is_pending_until_the_edge_has_it(
    tmp_path: Path,
) -> None:
    async def story(ask: Asking) -> None:
        before = time.time_ns()
        asked = {"speed": 900, "run": {"value": True, "validFor": "10s"}}
        found = await ask("PATCH", "/twins/v1/devices/pump-1/desired", asked)

        assert (found.status, found.content) == (202, {"version": 2})
        resource = (await ask("GET", f"{OURS}/devices/pump-1")).content
        speed, run = resource["spec"]["desired"]
        given = speed.pop("givenAt")
        assert before - SECOND < parse_time(given) < before + 50 * SECOND
        assert speed == {"name": "speed", "value": 900}
        assert before + 9 * SECOND < parse_time(run["validUntil"]) < before + 60 * SECOND
        shown = (await ask("GET", "/twins/v1/devices/pump-1")).content["properties"]["speed"]
        assert (shown["desired"]["value"], shown["desired"]["state"]) == (900, "pending")

        found = await ask("PATCH", "/twins/v1/devices/pump-1/desired", {"run": None, "speed": 7})
        assert found.content == {"version": 3}
        resource = (await ask("GET", f"{OURS}/devices/pump-1")).content
        (speed,) = resource["spec"]["desired"]
        assert (speed["name"], speed["value"]) == ("speed", 7)
        assert speed["givenAt"] >= given

    on_a_hub(tmp_path, story, "", device("pump-1"))


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"speed": 1501}, "speed"),
        ({"speed": "fast"}, "speed"),
        ({"temperature": 20}, "temperature"),
        ({"sped": 1}, "sped"),
        ({"speed": {"value": 1, "validFor": "soon"}}, "speed.validFor"),
        ({"speed": {"value": 1, "validUntil": "2020-01-01T00:00:00Z"}}, "speed.validUntil"),
        ({"speed": [1]}, "speed"),
    ],
)
def test_what_the_property_cannot_have_is_refused_by_name_and_nothing_is_half_applied(
    tmp_path: Path, asked: Json, field: str
) -> None:
    async def story(ask: Asking) -> None:
        found = await ask("PATCH", "/twins/v1/devices/pump-1/desired", {"run": True, **asked})

        assert found.status == 422, found.content
        assert found.headers["Content-Type"] == "application/problem+json"
        assert found.content["field"] == field
        assert found.content["allowed"]
        resource = (await ask("GET", f"{OURS}/devices/pump-1")).content
        assert "desired" not in resource["spec"]
        assert resource["metadata"]["generation"] == 1

    on_a_hub(tmp_path, story, "", device("pump-1"))


def test_a_trip_a_stale_tag_and_an_unknown_name_are_told_apart(tmp_path: Path) -> None:
    async def story(ask: Asking) -> None:
        path = "/twins/v1/devices/pump-1"
        old = (await ask("GET", path)).headers["ETag"]
        await ask.status("pump-1", conditions=connected())
        fresh = await ask("PATCH", f"{path}/desired", {"speed": 1}, If_Match=old)
        assert fresh.status == 202, "a status is no change of what is desired"
        stale = await ask("PATCH", f"{path}/desired", {"speed": 2}, If_Match=old)
        assert stale.status == 412
        again = await ask("PATCH", f"{path}/desired", {"speed": 2}, If_Match=fresh.headers["ETag"])
        assert again.status == 202

        said = "too-hot: 91 (alarm 01HZ)"
        tripped = {"type": "Tripped", "status": "True", "reason": "Tripped", "message": said}
        await ask.status("pump-1", conditions=connected(tripped))
        assert (await ask("POST", f"{OURS}/rules", STOPS_RUN)).status == 201
        held = await ask("PATCH", f"{path}/desired", {"run": True, "speed": 3})
        assert (held.status, "trip holds run" in held.content["detail"]) == (409, True)
        for passes in ({"run": False}, {"speed": 3}):  # as the trip does; and what no trip holds
            assert (await ask("PATCH", f"{path}/desired", passes)).status == 202
        assert (await ask("GET", path)).content["trips"] == ["01HZ"]
        assert (await ask("PATCH", f"{path}/desired", {"speed": None})).status == 202

        assert (await ask("GET", "/twins/v1/devices/none")).status == 404
        assert (await ask("PATCH", "/twins/v1/devices/none/desired", {})).status == 404
        assert (await ask("PATCH", f"{path}/desired", [])).status == 400
        media = await ask("PATCH", f"{path}/desired", {}, Content_Type="text/plain")
        assert media.status == 415
        for query in ("label=x", "connected=maybe", "limit=5000"):
            assert (await ask("GET", f"/twins/v1/devices?{query}")).status == 422

    on_a_hub(tmp_path, story, "", device("pump-1"))


def test_a_device_whose_model_is_missing_is_shown_and_cannot_be_desired(tmp_path: Path) -> None:
    async def story(ask: Asking) -> None:
        lost = device("lost")
        lost["spec"]["modelRef"]["name"] = "nowhere"
        assert (await ask("POST", f"{OURS}/devices", lost)).status == 201

        assert (await ask("GET", "/twins/v1/devices/lost")).content["properties"] == {}
        found = await ask("PATCH", "/twins/v1/devices/lost/desired", {"run": True})
        assert (found.status, "DeviceModel" in found.content["detail"]) == (409, True)

    on_a_hub(tmp_path, story)


def test_what_an_edge_said_that_is_heard_no_more_is_never_shown_as_good(tmp_path: Path) -> None:
    async def story(ask: Asking) -> None:
        reported = {"value": 1.0, "quality": "good", "timestamp": "2026-01-31T08:00:00.000Z"}
        await ask.status(
            "pump-1",
            conditions=connected(),
            twins=[{"name": "temperature", "reported": reported}],
        )
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": "twinbridge-edge-1"},
            "spec": {
                "holderIdentity": "x",
                "leaseDurationSeconds": 15,
                "renewTime": "2026-01-31T08:00:00.000000Z",
            },
        }
        assert (await ask("POST", LEASES, lease)).status == 201
        view = (await ask("GET", "/twins/v1/devices/pump-1")).content

        assert view["connected"] is False
        assert "edge-1 was last heard at 2026-01-31T08:00:00" in view["message"]
        shown = view["properties"]["temperature"]["reported"]
        assert (shown["quality"], shown["reason"], shown["value"]) == ("uncertain", "stale", 1.0)
        assert (await ask("GET", "/twins/v1/devices?connected=true")).content["items"] == []

    on_a_hub(tmp_path, story, "", device("pump-1"))


def test_events_carry_each_change_and_resume_where_they_broke_off(tmp_path: Path) -> None:
    async def story(ask: Asking) -> None:
        host, _, port = ask.url.removeprefix("http://").rpartition(":")

        @asynccontextmanager
        async def events(query: str = "", last: str = "") -> AsyncIterator[Callable[[], Any]]:
            reader, writer = await asyncio.open_connection(host, int(port))
            resume = f"Last-Event-ID: {last}\r\n" if last else ""
            head = f"GET /twins/v1/events{query} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{resume}\r\n"
            writer.write(head.encode())

            async def following() -> tuple[str, str, Any]:
                kind = number = ""
                while True:
                    line = (await reader.readline()).decode().rstrip()
                    name, _, value = line.partition(": ")
                    if name == "event":
                        kind = value
                    elif name == "id":
                        number = value
                    elif name == "data":
                        return kind, number, json.loads(value)

            while not (await reader.readline()).startswith(b"retry"):
                pass
            try:
                yield following
            finally:
                writer.close()

        async with events("?node=edge-1") as following:
            await ask("PATCH", "/twins/v1/devices/other/desired", {"speed": 5})
            await ask("PATCH", "/twins/v1/devices/pump-1/desired", {"speed": 5})
            kind, seen, view = await following()
            assert (kind, view["name"]) == ("twin", "pump-1")
            assert view["properties"]["speed"]["desired"]["state"] == "pending"
        await ask("PATCH", "/twins/v1/devices/pump-1/desired", {"speed": 6})
        await ask("DELETE", f"{OURS}/devices/pump-1")
        async with events("?node=edge-1", last=seen) as following:
            kind, _, view = await following()
            assert (kind, view["properties"]["speed"]["desired"]["value"]) == ("twin", 6)
            kind, _, gone = await following()
            assert (kind, gone) == ("gone", {"name": "pump-1", "namespace": "default"})

    on_a_hub(tmp_path, story, "", device("pump-1"), device("other", "edge-2"))


def test_a_viewer_reads_an_edge_sees_its_own_and_only_an_admin_desires(tmp_path: Path) -> None:
    async def story(ask: Asking) -> None:
        path = "/twins/v1/devices"

        assert (await ask("GET", path)).status == 401
        assert len((await ask("GET", path, token=VIEWER)).content["items"]) == 2
        own = (await ask("GET", path, token=EDGE)).content["items"]
        assert [item["name"] for item in own] == ["pump-1"]
        assert (await ask("GET", f"{path}/other", token=EDGE)).status == 404
        for token, status in ((VIEWER, 403), (EDGE, 403), (OPERATOR, 202), (ADMIN, 202)):
            found = await ask("PATCH", f"{path}/pump-1/desired", {"speed": 5}, token=token)
            assert found.status == status, found.content

    on_a_hub(tmp_path, story, TOKENS, device("pump-1"), device("other", "edge-2"))


def test_without_tokens_no_page_of_another_origin_is_answered(tmp_path: Path) -> None:
    async def story(ask: Asking) -> None:
        foreign = await ask("GET", "/twins/v1/devices", Origin="http://evil.example")
        rebound = await ask("GET", "/twins/v1/devices", Host="evil.example")

        assert (foreign.status, rebound.status) == (403, 403)

    on_a_hub(tmp_path, story)
