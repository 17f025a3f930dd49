import asyncio
from dataclasses import replace
from typing import Any

import httpx
import pytest
from agent_rig import Edge, device, good, overheat, running_api, trip_alarm, until
from fastapi import FastAPI

from twinbridge.core.messages import Samples
from twinbridge.core.model import SECOND, Quality, Reason
from twinbridge.errors import InvalidInput
from twinbridge.rest.server import serve

PROBLEM = "application/problem+json"


def is_problem(answer: httpx.Response, status: int) -> dict:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    body = answer.json()
    assert body["status"] == status
    assert body["detail"]
    return body


async def patch(edge: Edge, body: object, **more: Any) -> httpx.Response:
    return await edge.http.patch("/devices/pump-1/desired", json=body, **more)


def test_a_device_is_shown_with_its_twin_and_an_etag() -> None:
    async def story() -> None:
        async with running_api() as edge:
            edge.machines.contact("pump-1", connected=True)
            edge.machines.bus.publish(
                Samples("pump-1", (("temperature", good(71.5, at=1_700_000_000_123_456_789)),))
            )
            await until(lambda: edge.agent.twin("pump-1").reported["temperature"].good)
            answer = await edge.http.get("/devices/pump-1")
            assert answer.headers["etag"] == '"0-d1"'
            view = answer.json()
            assert (view["name"], view["model"], view["node"]) == (
                "pump-1",
                "pump-drive",
                "edge-1",
            )
            assert view["connected"] is True
            assert view["tripped"] is False
            assert view["properties"]["temperature"] == {
                "reported": {
                    "value": 71.5,
                    "quality": "good",
                    "timestamp": "2023-11-14T22:13:20.123Z",
                },
                "desired": None,
                "type": "float",
                "access": "ReadOnly",
                "unit": "Cel",
            }
            assert view["properties"]["run"]["reported"]["reason"] == "not_read"
            assert view["properties"]["start"]["reported"] is None

    asyncio.run(story())


def test_devices_are_paged_and_selected_by_label_and_connection() -> None:
    async def story() -> None:
        devices = [device(f"p{n}", labels=(("odd", str(n % 2)),)) for n in range(5)]
        async with running_api(*devices) as edge:
            edge.machines.contact("p3", connected=True)
            await until(lambda: edge.agent.twin("p3").connected)
            names, token = [], None
            while token != "":
                more = {"continue": token} if token else {}
                page = (await edge.http.get("/devices", params={"limit": 2} | more)).json()
                names.append([item["name"] for item in page["items"]])
                token = page["continue"] or ""
            assert names == [["p0", "p1"], ["p2", "p3"], ["p4"]]
            odd = (await edge.http.get("/devices", params={"label": "odd=1"})).json()["items"]
            assert [item["name"] for item in odd] == ["p1", "p3"]
            there = (await edge.http.get("/devices?connected=true&label=odd=1")).json()["items"]
            assert [item["name"] for item in there] == ["p3"]
            assert is_problem(await edge.http.get("/devices?label=odd"), 422)["field"] == "label"
            assert (
                is_problem(await edge.http.get("/devices?continue=%21"), 422)["field"] == "continue"
            )
            assert is_problem(await edge.http.get("/devices?limit=0"), 422)["field"] == "limit"

    asyncio.run(story())


def test_a_desired_value_is_accepted_with_a_version_and_its_outcome_is_shown() -> None:
    async def story() -> None:
        async with running_api() as edge:
            answer = await patch(edge, {"run": True})
            assert (answer.status_code, answer.json()) == (202, {"version": 1})
            assert answer.headers["etag"] == '"1-d1"'
            await until(lambda: edge.state("run") == "applied")
            view = (await edge.http.get("/devices/pump-1")).json()
            desired = view["properties"]["run"]["desired"]
            assert (desired["value"], desired["state"], desired["origin"]) == (
                True,
                "applied",
                "rest",
            )

    asyncio.run(story())


def test_a_value_with_a_validity_expires_and_a_null_withdraws() -> None:
    async def story() -> None:
        async with running_api() as edge:
            edge.machines.answer = lambda _: None
            await patch(edge, {"run": {"value": True, "validFor": "50ms"}})
            await until(lambda: edge.state("run") == "expired")
            assert (await patch(edge, {"run": None})).status_code == 202
            view = (await edge.http.get("/devices/pump-1")).json()
            assert view["properties"]["run"]["desired"] is None

    asyncio.run(story())


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"speed": 9999}, "speed"),
        ({"speed": "fast"}, "speed"),
        ({"speed": True}, "speed"),
        ({"temperature": 20}, "temperature"),
        ({"nosuch": 1}, "nosuch"),
        ({"run": [True]}, "run"),
        ({"run": {}}, "run.value"),
        ({"run": {"value": True, "validfor": "1s"}}, "run.validfor"),
        ({"run": {"value": True, "validFor": "1 s"}}, "run.validFor"),
        ({"run": {"value": True, "validFor": 5}}, "run.validFor"),
        ({"run": {"value": True, "validUntil": "2001-01-01T00:00:00Z"}}, "run.validUntil"),
        ({"run": {"value": True, "validUntil": "tomorrow"}}, "run.validUntil"),
        ({"run": {"value": None}}, "run.value"),
    ],
)
def test_a_wrong_desired_value_is_refused_with_its_field_and_what_is_allowed(
    body: dict[str, object], field: str
) -> None:
    async def story() -> None:
        async with running_api() as edge:
            told = is_problem(await patch(edge, body | {"label": "x"}), 422)
            assert told["field"] == field
            assert told["allowed"]
            assert edge.state("label") is None
            assert edge.machines.asked == []

    asyncio.run(story())


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"", 400),
        (b"[]", 400),
        (b'{"speed": NaN}', 400),
        (b'{"setpoint": 1e999}', 400),
        (b'{"speed": 1, "speed": 2}', 400),
        (b'{"run": {"value": true, "value": false}}', 400),
        (b'{"label": "\\ud800"}', 400),
        (b'{"label": "\xff"}', 400),
        (b'{"speed": 1' + b"0" * 30 + b"}", 400),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, 400),
        (b'{"label": "' + b"x" * 300_000 + b'"}', 413),
    ],
)
def test_a_bad_body_is_refused_and_nothing_is_applied(body: bytes, status: int) -> None:
    async def story() -> None:
        async with running_api() as edge:
            answer = await edge.http.patch(
                "/devices/pump-1/desired",
                content=body,
                headers={"Content-Type": "application/merge-patch+json"},
            )
            is_problem(answer, status)
            assert edge.agent.desired.version("pump-1") == 0
            assert (await edge.http.get("/healthz")).status_code == 200

    asyncio.run(story())


def test_if_match_lets_only_the_present_state_pass() -> None:
    async def story() -> None:
        async with running_api() as edge:
            etag = (await edge.http.get("/devices/pump-1")).headers["etag"]
            first = await patch(edge, {"speed": 1}, headers={"If-Match": etag})
            assert first.status_code == 202
            is_problem(await patch(edge, {"speed": 2}, headers={"If-Match": etag}), 412)
            both = f'"x", {first.headers["etag"]}'
            assert (await patch(edge, {"speed": 2}, headers={"If-Match": both})).status_code == 202
            anything = await patch(edge, {"speed": 3}, headers={"If-Match": "*"})
            assert anything.status_code == 202

    asyncio.run(story())


def test_errors_are_problems_that_name_what_is_missing() -> None:
    async def story() -> None:
        async with running_api() as edge:
            is_problem(await edge.http.get("/devices/nobody"), 404)
            is_problem(await edge.http.patch("/devices/nobody/desired", json={"run": True}), 404)
            is_problem(await edge.http.get("/nothing"), 404)
            wrong = await edge.http.delete("/devices/pump-1")
            is_problem(wrong, 405)
            assert "GET" in wrong.headers["allow"]
            is_problem(await edge.http.patch("/devices/pump-1/desired", content=b"{}"), 415)
            is_problem(await edge.http.post("/alarms/none/ack", json={}), 404)
            is_problem(await edge.http.patch("/rules/none", json={"mode": "Armed"}), 404)

    asyncio.run(story())


def test_a_full_disk_is_said_and_nothing_is_accepted() -> None:
    async def story() -> None:
        async with running_api() as edge:
            assert (await edge.http.get("/readyz")).status_code == 200
            edge.store.disk.fault = "disk full: 0 bytes left"
            refused = await patch(edge, {"run": True})
            is_problem(refused, 503)
            assert "retry-after" in refused.headers
            ready = await edge.http.get("/readyz")
            assert ready.status_code == 503
            assert "disk full" in ready.json()["store"]
            assert (await edge.http.get("/healthz")).status_code == 200

    asyncio.run(story())


def test_a_trip_is_shown_holds_its_property_and_is_reset_by_a_person_with_a_reason() -> None:
    async def story() -> None:
        async with running_api(rules=(overheat(),)) as edge:
            edge.machines.tell(trip_alarm())
            await until(edge.agent.alarms.listed)
            (alarm,) = (await edge.http.get("/alarms")).json()["items"]
            assert alarm["state"] == "UnackActive"
            assert alarm["trip"]["state"] == "verified"
            assert alarm["trip"]["detectToAckMs"] == 3.0
            assert alarm["inputs"] == [
                {"property": "pump-1/temperature", "value": 91.5, "quality": "good"}
            ]
            assert (await edge.http.get("/devices/pump-1")).json()["tripped"] is True
            (rule,) = (await edge.http.get("/rules")).json()["items"]
            assert rule["instances"][0]["tripped"] is True
            assert rule["instances"][0]["alarm"] == alarm["id"]

            is_problem(await patch(edge, {"run": True, "speed": 3}), 409)
            # What is wrong in any case is told first, whatever the order.
            is_problem(await patch(edge, {"run": True, "sped": 3}), 422)
            assert edge.state("speed") is None
            where = f"/alarms/{alarm['id']}"
            is_problem(await edge.http.post(f"{where}/reset", json={}), 422)
            is_problem(await edge.http.post(f"{where}/reset", json={"reason": ""}), 422)
            is_problem(await edge.http.post(f"{where}/reset", json={"reason": "cool"}), 409)
            assert (await edge.http.post(f"{where}/ack", json={})).status_code == 204
            await until(lambda: edge.agent.alarms.listed()[0].acked)

            edge.machines.tell(replace(trip_alarm(), active=False))
            await until(lambda: not edge.agent.alarms.listed()[0].active)
            done = await edge.http.post(f"{where}/reset", json={"reason": "cool again"})
            assert done.status_code == 204
            await until(lambda: not edge.agent.alarms.listed())
            assert (await edge.http.get("/alarms")).json()["items"] == []
            (over,) = (await edge.http.get("/alarms?all=true")).json()["items"]
            assert over["id"] == alarm["id"]
            is_problem(await edge.http.post(f"{where}/reset", json={"reason": "again"}), 409)
            assert edge.state("run") is None

    asyncio.run(story())


def test_an_alarm_is_shelved_for_at_most_eight_hours() -> None:
    async def story() -> None:
        async with running_api() as edge:
            edge.machines.tell(trip_alarm())
            await until(edge.agent.alarms.listed)
            where = "/alarms/overheat-1/shelve"
            assert (await edge.http.post(where, json={"for": "10m"})).status_code == 204
            long = await edge.http.post(where, json={"for": "9h"})
            assert is_problem(long, 422)["field"] == "for"
            assert is_problem(await edge.http.post(where, json={"until": "9h"}), 422)["field"]

    asyncio.run(story())


def test_a_rules_mode_is_changed_and_shown() -> None:
    async def story() -> None:
        async with running_api(rules=(overheat(),)) as edge:
            answer = await edge.http.patch("/rules/overheat", json={"mode": "DryRun"})
            assert answer.json()["mode"] == "DryRun"
            (rule,) = (await edge.http.get("/rules")).json()["items"]
            assert rule["instances"][0]["mode"] == "DryRun"
            told = is_problem(await edge.http.patch("/rules/overheat", json={"mode": "Off"}), 422)
            assert told["field"] == "mode"

    asyncio.run(story())


def test_history_gives_samples_and_steps() -> None:
    async def story() -> None:
        async with running_api() as edge:
            start = 1_700_000_000 * SECOND
            for n in range(4):
                sample = good(float(n * 10), at=start + n * SECOND)
                edge.machines.bus.publish(Samples("pump-1", (("temperature", sample),)))
            await until(lambda: len(edge.store.disk.history) == 4)
            span = {"from": "2023-11-14T22:13:20Z", "to": "2023-11-14T23:13:20+00:00"}
            where = "/devices/pump-1/history"
            ask = {"property": "temperature"} | span
            raw = (await edge.http.get(where, params=ask)).json()
            assert [item["value"] for item in raw["items"]] == [0.0, 10.0, 20.0, 30.0]
            assert raw["items"][1]["timestamp"] == "2023-11-14T22:13:21.000Z"
            steps = (await edge.http.get(where, params=ask | {"step": "2s"})).json()["items"]
            assert [(i["min"], i["avg"], i["max"]) for i in steps] == [(0, 5, 10), (20, 25, 30)]
            is_problem(await edge.http.get(where, params={"property": "none"}), 404)
            is_problem(await edge.http.get(where), 422)
            for wrong in ({"from": "noon"}, {"step": "0s"}, {"to": "1999-01-01T00:00:00"}):
                told = is_problem(await edge.http.get(where, params=ask | wrong), 422)
                assert told["field"] in wrong

    asyncio.run(story())


def test_a_bad_sample_keeps_its_value_and_says_why() -> None:
    async def story() -> None:
        async with running_api() as edge:
            lost = good(5.0)._replace(quality=Quality.BAD, reason=Reason.COMM_LOST)
            edge.machines.bus.publish(Samples("pump-1", (("temperature", lost),)))
            await until(lambda: edge.agent.twin("pump-1").reported["temperature"].value == 5.0)
            view = (await edge.http.get("/devices/pump-1")).json()
            reported = view["properties"]["temperature"]["reported"]
            assert (reported["value"], reported["quality"], reported["reason"]) == (
                5.0,
                "bad",
                "comm_lost",
            )

    asyncio.run(story())


def test_probes_metrics_and_openapi_are_at_the_root_and_under_the_api() -> None:
    async def story() -> None:
        async with running_api() as edge, httpx.AsyncClient(base_url=edge.url) as root:
            for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
                assert (await root.get(path)).status_code == 200, path
            for path in ("/healthz", "/readyz", "/metrics"):
                assert (await edge.http.get(path)).status_code == 200, path
            document = (await root.get("/openapi.json")).json()
            told = document["paths"]["/api/v1/devices/{name}/desired"]["patch"]["responses"]
            assert set(told) >= {
                "202", "400", "401", "403", "404", "409", "412", "413", "415", "422", "503",
            }  # fmt: skip
            for operations in document["paths"].values():
                for operation in operations.values():
                    assert "HTTPValidationError" not in str(operation)

    asyncio.run(story())


def test_a_port_in_use_is_said_plainly() -> None:
    async def story() -> None:
        async with running_api() as edge:
            port = int(edge.url.rsplit(":", 1)[1])
            app = FastAPI()
            app.state.tokens = None
            with pytest.raises(InvalidInput, match="in use"):
                async with serve(app, "127.0.0.1", port):
                    pass
            with pytest.raises(InvalidInput, match="token"):
                async with serve(app, "0.0.0.0", 0):
                    pass

    asyncio.run(story())
