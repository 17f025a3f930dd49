"""The hub's client against a hub that misbehaves."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from aiohttp import web
from hub_stage import condition, device, listening, model, node, until
from scripted_hub import ScriptedHub, status

from twinbridge.adapters.hub_kube import open_hub
from twinbridge.adapters.hub_kube.limits import Limits
from twinbridge.errors import HubRefused, HubUnavailable, UnknownName
from twinbridge.ports import HubEvent, Ref
from twinbridge.testing.proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from hub_stage import Heard
    from scripted_hub import Asked

    from twinbridge.adapters.hub_kube import KubeHub

PUMP = Ref("Device", "pump-1")
SHORT = Limits(
    request=2.0,
    connect=1.0,
    watch=20,
    silence=25.0,
    first_wait=0.01,
    longest_wait=0.1,
    missing=0.05,
    unauthorized=0.02,
    forbidden=0.05,
)


def on_off(now: dict[Ref, Any]) -> bool | None:
    return now[PUMP]["spec"]["desired"][0]["value"] if PUMP in now else None


@asynccontextmanager
async def followed(
    there: ScriptedHub, *, url: str = "", limits: Limits = SHORT, **more: Any
) -> AsyncIterator[tuple[KubeHub, Heard]]:
    async with (
        open_hub(url or there.url, "edge-1", limits=limits, **more) as hub,
        listening(hub) as heard,
    ):
        yield hub, heard


def play(scene: Callable[[ScriptedHub], Awaitable[None]], *, pump: bool = True) -> None:
    async def played() -> None:
        async with asyncio.timeout(40), ScriptedHub().serving() as there:
            if pump:
                there.put(model("drive"))
                there.put(device("pump-1"))
            await scene(there)

    asyncio.run(played())


@pytest.mark.parametrize("by_event", [True, False])
def test_a_version_that_is_too_old_is_listed_anew_and_what_vanished_is_named(
    *, by_event: bool
) -> None:
    async def scene(there: ScriptedHub) -> None:
        there.watch_for = 0.1
        there.put(device("pump-2"))
        async with followed(there) as (_, heard):
            await heard.until(lambda now: Ref("Device", "pump-2") in now)
            told = len(heard.all)
            there.fault = lambda asked: status(503) if asked.is_watch else None
            await until(lambda: there.asked[-1].is_watch)
            there.delete("Device", "pump-2")
            there.forget_history()
            oldest = there.oldest
            there.fault = lambda asked: (
                status(410, "too old")
                if not by_event and int(asked.query.get("resourceVersion", oldest)) < oldest
                else None
            )
            await heard.until(lambda now: Ref("Device", "pump-2") not in now)
            assert heard.all[told].changed == {Ref("Device", "pump-2")}

    play(scene)


def test_watches_closed_at_once_are_resumed_without_listing_and_without_a_hot_loop() -> None:
    async def scene(there: ScriptedHub) -> None:
        there.watch_for = 0.0
        async with followed(there) as (hub, heard):
            await until(lambda: there.count(lambda one: one.is_watch) >= 20)
            there.put(device("pump-1", run=False))
            there.watch_for = 0.2
            await heard.until(lambda now: on_off(now) is False)
            assert hub.connected
        assert there.count(lambda one: one.is_list and one.plural == "devices") == 1

    play(scene)


def test_own_status_costs_no_fetch() -> None:
    async def scene(there: ScriptedHub) -> None:
        async with followed(there) as (_, heard):
            await heard.until(lambda now: PUMP in now)
            await until(lambda: there.count(lambda one: one.is_watch) >= 4)
            for _ in range(10):
                there.put(device("pump-1"), generation=False)
            there.put(device("pump-1", run=False))
            await heard.until(lambda now: on_off(now) is False)
        fetched = there.count(lambda one: one.verb == "GET" and one.path.endswith("/pump-1"))
        assert fetched == 1
        watch = next(one for one in there.asked if one.is_watch and one.plural == "devices")
        assert watch.headers["Accept"].startswith("application/json;as=PartialObjectMetadata")
        assert watch.query["fieldSelector"] == "spec.nodeName=edge-1"
        assert watch.query["allowWatchBookmarks"] == "true"

    play(scene)


def test_a_thousand_are_listed_in_pages_and_told_at_once() -> None:
    async def scene(there: ScriptedHub) -> None:
        for number in range(1001):
            there.put(device(f"pump-{number}"))
        async with followed(there) as (_, heard):
            await heard.until(lambda now: len(now) == 1002)
            assert len(heard.all) == 1
        assert there.count(lambda one: one.is_list and one.plural == "devices") == 3

    play(scene)


def test_many_changes_at_once_are_listed_instead_of_fetched_one_by_one() -> None:
    async def scene(there: ScriptedHub) -> None:
        async with followed(there) as (_, heard):
            await heard.until(lambda now: PUMP in now)
            await until(lambda: there.count(lambda one: one.is_watch) >= 4)
            for number in range(400):
                there.put(device(f"more-{number}"))
            await heard.until(lambda now: len(now) == 402)
        fetched = there.count(lambda one: "/devices/" in one.path)
        assert fetched < 200

    play(scene)


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_hub_in_trouble_is_asked_again_and_nothing_is_lost(code: int) -> None:
    async def scene(there: ScriptedHub) -> None:
        there.fault = lambda _: status(code, "in trouble")
        async with followed(there) as (hub, heard):
            await until(lambda: len(there.asked) >= 12)
            assert not hub.connected
            assert not heard.all
            there.fault = lambda _: None
            await heard.until(lambda now: on_off(now) is True)
            await until(lambda: hub.connected)

    play(scene)


def test_retry_after_is_kept() -> None:
    async def scene(there: ScriptedHub) -> None:
        def busy(_: Asked) -> web.Response:
            answer = status(429, "too many")
            answer.headers["Retry-After"] = "60"
            return answer

        there.fault = busy
        async with followed(there) as (hub, _):
            await until(lambda: len(there.asked) == 4)
            with pytest.raises(HubUnavailable) as caught:
                await hub.apply_status(PUMP, "u1", {})
            assert caught.value.retry_after == 60
            with pytest.raises(HubUnavailable):
                await hub.renew("a", 30)
            assert len(there.asked) == 6  # nobody else came meanwhile

    play(scene)


def test_a_hub_that_takes_its_time_is_no_outage() -> None:
    async def scene(there: ScriptedHub) -> None:
        there.delay = 0.6
        async with followed(there) as (hub, heard):
            await heard.until(lambda now: on_off(now) is True)
            await until(lambda: hub.connected)
            there.put(device("pump-1", run=False))
            await heard.until(lambda now: on_off(now) is False)
            assert hub.connected

    play(scene)


def test_a_request_that_hangs_ends_and_is_made_again() -> None:
    async def scene(there: ScriptedHub) -> None:
        there.delay = 30.0
        limits = Limits(request=0.2, silence=0.2, first_wait=0.01, longest_wait=0.05)
        async with followed(there, limits=limits) as (hub, heard):
            with pytest.raises(HubUnavailable, match=r"no answer in time|imeout"):
                await hub.renew("a", 30)
            there.delay = 0.0
            await heard.until(lambda now: PUMP in now)

    play(scene)


def test_a_token_that_was_changed_is_read_again_at_once(tmp_path: Path) -> None:
    async def scene(there: ScriptedHub) -> None:
        token = tmp_path / "token"
        token.write_text("first\n")
        wanted = "Bearer first"
        there.watch_for = 0.1
        there.fault = lambda asked: (
            None if asked.headers.get("Authorization") == wanted else status(401, "Unauthorized")
        )
        async with followed(there, token_file=token) as (hub, heard):
            await heard.until(lambda now: PUMP in now)
            wanted = "Bearer second"
            await until(lambda: not hub.connected)
            with pytest.raises(HubUnavailable, match="401"):
                await hub.renew("a", 30)
            token.write_text("second\n")
            assert await hub.renew("a", 30) == "a"
            there.put(device("pump-1", run=False))
            await heard.until(lambda now: on_off(now) is False)

    play(scene)


def test_a_kubeconfig_whose_token_was_changed_is_read_again(tmp_path: Path) -> None:
    async def scene(there: ScriptedHub) -> None:
        config = tmp_path / "config"

        def write(token: str) -> None:
            config.write_text(
                "apiVersion: v1\nkind: Config\ncurrent-context: a\n"
                "contexts: [{name: a, context: {cluster: a, user: a}}]\n"
                f"clusters: [{{name: a, cluster: {{server: '{there.url}'}}}}]\n"
                f"users: [{{name: a, user: {{token: {token}}}}}]\n"
            )

        write("first")
        wanted = "Bearer first"
        there.fault = lambda asked: (
            None if asked.headers.get("Authorization") == wanted else status(401, "Unauthorized")
        )
        async with followed(there, url=str(config)) as (hub, heard):
            await heard.until(lambda now: PUMP in now)
            wanted = "Bearer second"
            write("second")
            assert await hub.renew("a", 30) == "a"
            there.put(device("pump-1", run=False))
            await heard.until(lambda now: on_off(now) is False)

    play(scene)


def test_no_log_shows_a_token(tmp_path: Path) -> None:
    async def scene(there: ScriptedHub) -> None:
        token = tmp_path / "token"
        token.write_text("s3cret")
        there.fault = lambda _: status(401, "Unauthorized")
        async with followed(there, token_file=token):
            await until(lambda: len(there.asked) > 12)

    with structlog.testing.capture_logs() as logs:
        play(scene)
    assert logs
    assert "s3cret" not in str(logs)


def test_a_token_that_is_no_longer_taken_is_said_once_and_what_is_known_stays() -> None:
    async def scene(there: ScriptedHub) -> None:
        there.watch_for = 0.05
        async with followed(there) as (hub, heard):
            await heard.until(lambda now: PUMP in now)
            told = len(heard.all)
            there.fault = lambda asked: (
                status(401, "not allowed") if asked.plural == "devices" else None
            )
            await until(lambda: not hub.connected)
            so_far = len(there.asked)
            await until(lambda: len(there.asked) > so_far + 20)
            assert len(heard.all) == told
            there.fault = lambda _: None
            await until(lambda: hub.connected)

    with structlog.testing.capture_logs() as logs:
        play(scene)
    assert len([one for one in logs if "not allowed" in str(one)]) == 1


@pytest.mark.parametrize("code", [400, 403])
@pytest.mark.parametrize("begun", [True, False])
def test_a_kind_that_is_kept_from_us_is_named_as_such_and_keeps_the_others_from_nothing(
    code: int, *, begun: bool
) -> None:
    def no_devices(asked: Asked) -> web.Response | None:
        return status(code, "not allowed") if asked.plural == "devices" else None

    async def scene(there: ScriptedHub) -> None:
        there.watch_for = 0.05
        there.put(node())
        if not begun:
            there.fault = no_devices
        async with followed(there, limits=replace(SHORT, missing=0.05)) as (hub, heard):
            await heard.until(lambda now: Ref("EdgeNode", "edge-1") in now)
            there.fault = no_devices
            await until(lambda: heard.all[-1].missing == {"Device"})
            assert (PUMP in heard.now) is begun
            assert hub.connected
            there.put(device("pump-1", run=False))
            there.fault = lambda _: None
            await heard.until(lambda now: on_off(now) is False)
            assert not heard.all[-1].missing
            assert heard.all[-1].unheard > 0

    with structlog.testing.capture_logs() as logs:
        play(scene)
    assert len([one for one in logs if "not allowed" in str(one)]) == 1


def test_a_kind_that_the_hub_does_not_know_keeps_the_others_from_nothing() -> None:
    async def scene(there: ScriptedHub) -> None:
        there.fault = lambda asked: (
            status(404, "the server could not find it") if asked.plural == "rules" else None
        )
        async with followed(there) as (hub, heard):
            await heard.until(lambda now: PUMP in now)
            await until(lambda: hub.connected)
            looks = there.count(lambda one: one.plural == "rules")
            await until(lambda: there.count(lambda one: one.plural == "rules") > looks + 2)

    with structlog.testing.capture_logs() as logs:
        play(scene)
    said = [one for one in logs if "kubectl apply -f crds/" in str(one)]
    assert [one["kind"] for one in said] == ["Rule"]


def test_definitions_that_were_taken_from_under_us_do_not_stop_devices() -> None:
    async def scene(there: ScriptedHub) -> None:
        there.watch_for = 0.05
        async with followed(there) as (_, heard):
            await heard.until(lambda now: PUMP in now)
            there.fault = lambda _: status(404, "the server could not find it")
            so_far = len(there.asked)
            await until(lambda: len(there.asked) > so_far + 12)
            assert PUMP in heard.now

    play(scene)


@pytest.mark.parametrize(
    "answer",
    [
        lambda: web.Response(text="<html>please log in</html>", content_type="text/html"),
        lambda: web.Response(text="not here", status=404),
        lambda: web.json_response([1, 2]),
        lambda: web.json_response({"items": [{"spec": 1}], "metadata": {}}),
    ],
)
def test_what_is_no_kubernetes_api_defines_nothing(answer: Callable[[], web.Response]) -> None:
    async def scene(there: ScriptedHub) -> None:
        there.fault = lambda _: answer()
        async with followed(there) as (hub, heard):
            await until(lambda: len(there.asked) > 12)
            assert not heard.all
            assert not hub.connected
            there.fault = lambda _: None
            await heard.until(lambda now: PUMP in now)

    play(scene)


def test_a_line_that_goes_dead_without_a_word_is_noticed_and_all_comes_after_it() -> None:
    async def scene(there: ScriptedHub) -> None:
        limits = Limits(
            request=0.5, connect=0.5, watch=1, silence=1.5, first_wait=0.01, longest_wait=0.1
        )
        port = int(there.url.rpartition(":")[2])
        async with (
            FaultProxy("127.0.0.1", port) as proxy,
            followed(there, url=f"http://127.0.0.1:{proxy.port}", limits=limits) as (hub, heard),
        ):
            await heard.until(lambda now: PUMP in now)
            await until(lambda: hub.connected)
            proxy.faults.half_open = True
            there.put(device("pump-1", run=False))
            await until(lambda: not hub.connected)
            with pytest.raises(HubUnavailable):
                await hub.record(HubEvent("a", PUMP, "Normal", "Test", "", 1))
            proxy.faults.half_open = False
            await heard.until(lambda now: on_off(now) is False)
            assert heard.all[-1].unheard > 0
            await until(lambda: hub.connected)

    play(scene)


def test_a_list_that_takes_longer_than_an_answer_may_comes_through_while_it_moves() -> None:
    async def scene(there: ScriptedHub) -> None:
        for number in range(100):
            there.put(device(f"pump-{number}"))
        limits = Limits(request=0.5, connect=0.5, first_wait=0.01, longest_wait=0.1)
        port = int(there.url.rpartition(":")[2])
        async with FaultProxy("127.0.0.1", port) as proxy:
            proxy.faults.bandwidth = 30_000
            url = f"http://127.0.0.1:{proxy.port}"
            async with followed(there, url=url, limits=limits) as (_, heard):
                await heard.until(lambda now: Ref("Device", "pump-99") in now)

    play(scene)


def test_how_long_a_kind_was_not_heard_is_not_hidden_by_what_others_tell() -> None:
    async def scene(there: ScriptedHub) -> None:
        there.watch_for, there.mute = 0.1, "devices"
        limits = replace(SHORT, silence=1.0)
        async with followed(there, limits=limits) as (hub, heard):
            await heard.until(lambda now: PUMP in now)
            assert heard.all[0].unheard > 10**18  # before this life nobody knows
            await until(lambda: hub.connected)
            there.put(device("pump-1", run=False))
            await until(lambda: not hub.connected)
            there.mute = ""
            await heard.until(lambda now: on_off(now) is False)
            assert 10**9 <= heard.all[-1].unheard < 10**18

    play(scene)


def test_a_hub_that_is_slow_makes_what_it_tells_as_old_as_it_may_be() -> None:
    async def scene(there: ScriptedHub) -> None:
        async with followed(there) as (_, heard):
            await heard.until(lambda now: PUMP in now)
            there.delay = 0.3
            there.put(device("pump-1", run=False))
            await heard.until(lambda now: on_off(now) is False)
            assert heard.all[-1].unheard >= 3 * 10**8

    play(scene)


def test_a_status_that_alone_is_forbidden_is_refused_and_all_that_are_come_again() -> None:
    async def scene(there: ScriptedHub) -> None:
        there.fault = lambda asked: (
            status(403, "no rules") if "rules" in asked.path and asked.verb == "PATCH" else None
        )
        rule = Ref("Rule", "too-fast")
        async with followed(there) as (hub, _):
            for _ in range(2):
                with pytest.raises(HubUnavailable):
                    await hub.apply_status(rule, "", condition("One"))
            await hub.apply_status(PUMP, "", condition("One"))
            with pytest.raises(HubRefused):
                await hub.apply_status(rule, "", condition("One"))
            there.fault = lambda asked: status(403, "nothing") if asked.verb == "PATCH" else None
            for ref in (rule, PUMP, rule, PUMP):
                with pytest.raises(HubUnavailable):
                    await hub.apply_status(ref, "", condition("One"))

    play(scene)


def test_without_the_right_to_leases_there_is_no_rival_to_be_told_apart_from() -> None:
    async def scene(there: ScriptedHub) -> None:
        there.fault = lambda asked: status(403, "no leases") if "leases" in asked.path else None
        async with followed(there) as (hub, _):
            with pytest.raises(HubRefused, match="no leases"):
                await hub.renew("a", 30)

    play(scene)


def test_a_hub_that_is_away_at_the_start_is_awaited() -> None:
    async def scene(there: ScriptedHub) -> None:
        port = int(there.url.rpartition(":")[2])
        async with FaultProxy("127.0.0.1", port) as proxy:
            proxy.refuse()
            async with followed(there, url=f"http://127.0.0.1:{proxy.port}") as (hub, heard):
                with pytest.raises(HubUnavailable):
                    await hub.renew("a", 30)
                assert hub.last_contact == 0
                await proxy.listen()
                await heard.until(lambda now: PUMP in now)

    play(scene)


def _conflict(manager: str) -> web.Response:
    cause = {
        "reason": "FieldManagerConflict",
        "message": f'conflict with "{manager}" using {"devices.twinbridge.io/v1alpha1"}',
        "field": ".status.conditions",
    }
    message = f'Apply failed with 1 conflict: conflict with "{manager}": .status.conditions'
    return status(409, message, reason="Conflict", details={"causes": [cause]})


def _unless_forced(manager: str) -> Callable[[Asked], web.Response | None]:
    return lambda asked: (
        _conflict(manager)
        if asked.verb == "PATCH" and asked.query["force"] == "false"
        else web.json_response({})
        if asked.verb == "PATCH"
        else None
    )


def test_fields_of_a_former_name_of_ours_are_taken_over() -> None:
    async def scene(there: ScriptedHub) -> None:
        there.fault = _unless_forced("twinbridge/edge-old")
        async with followed(there) as (hub, _):
            await hub.apply_status(PUMP, "u1", condition("One"))
        forced = [one.query["force"] for one in there.asked if one.verb == "PATCH"]
        assert forced == ["false", "true"]
        last = next(one for one in there.asked if one.verb == "PATCH")
        assert last.query["fieldManager"] == "twinbridge/edge-1"
        assert last.headers["Content-Type"].startswith("application/apply-patch+yaml")
        assert last.body["metadata"]["uid"] == "u1"

    play(scene)


def test_fields_of_others_are_never_overwritten() -> None:
    async def scene(there: ScriptedHub) -> None:
        there.fault = _unless_forced("kubectl-edit")
        async with followed(there) as (hub, _):
            with pytest.raises(HubRefused, match=r"\.status\.conditions to 'kubectl-edit'"):
                await hub.apply_status(PUMP, "u1", condition("One"))
        assert there.count(lambda one: one.query.get("force") == "true") == 0

    play(scene)


def test_a_conflict_without_a_cause_is_looked_into() -> None:
    async def scene(there: ScriptedHub) -> None:
        there.fault = lambda asked: (
            status(409, "Precondition failed: UID") if asked.verb == "PATCH" else None
        )
        async with followed(there) as (hub, heard):
            await heard.until(lambda now: PUMP in now)
            uid = heard.now[PUMP]["metadata"]["uid"]
            with pytest.raises(HubUnavailable):
                await hub.apply_status(PUMP, uid, condition("One"))
            with pytest.raises(UnknownName):
                await hub.apply_status(PUMP, "another", condition("One"))

    play(scene)


def test_a_status_that_reached_a_namesake_is_taken_back() -> None:
    async def scene(there: ScriptedHub) -> None:
        there.fault = lambda asked: (
            web.json_response({"metadata": {"name": "pump-2", "uid": "new"}})
            if asked.verb == "PATCH"
            else None
        )
        async with followed(there) as (hub, _):
            with pytest.raises(UnknownName, match="new has its name"):
                await hub.apply_status(Ref("Device", "pump-2"), "old", condition("One"))
        first, second = (one.body for one in there.asked if one.verb == "PATCH")
        assert (first["metadata"]["uid"], first["status"]) == ("old", condition("One"))
        assert (second["metadata"]["uid"], second["status"]) == ("new", {})

    play(scene)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            500,
            "failed to create typed patch object (default/pump-1): errors:\n"  # noqa: ISC004 - one text
            "  .status.late: field not declared in schema\n"
            '  .status.conditions[type="Connected"].reason: field not declared in schema',
        ),
        (
            400,
            'strict decoding error: unknown field "status.late",'  # noqa: ISC004 - one text
            ' unknown field "status.conditions[0].reason"',
        ),
    ],
)
def test_a_status_goes_without_what_an_older_definition_does_not_know(
    code: int, message: str
) -> None:
    def strange(body: Any) -> bool:
        return "late" in body or any("reason" in one for one in body["conditions"])

    async def scene(there: ScriptedHub) -> None:
        there.fault = lambda asked: (
            status(code, message)
            if asked.verb == "PATCH" and strange(asked.body["status"])
            else None
        )
        async with followed(there) as (hub, _):
            for _ in range(2):
                await hub.apply_status(PUMP, "u1", {**condition("One"), "late": 1, "kept": 2})
        asked = [one.body["status"] for one in there.asked if one.verb == "PATCH"]
        assert [strange(one) for one in asked] == [True, False, False]
        assert asked[-1]["kept"] == 2
        assert asked[-1]["conditions"][0]["type"] == "Connected"

    with structlog.testing.capture_logs() as logs:
        play(scene)
    said = [one["fields"] for one in logs if "older" in one["event"]]
    assert said == ["conditions.reason, late"]


def test_a_device_of_nonsense_comes_as_it_is_and_disturbs_nobody() -> None:
    async def scene(there: ScriptedHub) -> None:
        there.put(node())
        async with followed(there) as (_, heard):
            await heard.until(lambda now: PUMP in now)
            odd = device("odd")
            odd["spec"]["modelRef"] = "drive"
            there.put(odd)
            await heard.until(lambda now: Ref("Device", "odd") in now)
            there.put(device("pump-1", run=False))
            await heard.until(lambda now: on_off(now) is False)

    play(scene)
