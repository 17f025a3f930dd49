"""What whoever is a hub must do: the embedded one, and any cluster by `--hub-kubeconfig FILE`.

A cluster must have our CustomResourceDefinitions, and let the caller do everything in `default`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_server import (
    APPLY,
    GROUP,
    JSON_PATCH,
    MERGE,
    OURS,
    Api,
    a_device,
    api_of,
    api_of_kubeconfig,
    hub_on_a_thread,
)

DEVICES = f"{OURS}/devices"
PARTIAL = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
PARTIAL_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
TABLE = "application/json;as=Table;g=meta.k8s.io;v=v1"
CONNECTED = {
    "type": "Connected",
    "status": "True",
    "reason": "Answered",
    "message": "",
    "lastTransitionTime": "2026-01-31T08:00:00Z",
}


@pytest.fixture(scope="module")
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    given = request.config.getoption("--hub-kubeconfig")
    if given:
        with api_of_kubeconfig(Path(given)) as cluster:
            yield cluster
        return
    with hub_on_a_thread(tmp_path_factory.mktemp("hub")) as hub, api_of(hub.url) as ours:
        yield ours


@pytest.fixture
def run(api: Api) -> Iterator[str]:
    """A label value of this test alone; what has it as `run` is deleted at its end."""
    mine = uuid.uuid4().hex[:10]
    yield mine
    api.ask("DELETE", DEVICES, labelSelector=f"run={mine}")


def device_of(run: str, name: str = "", node: str = "edge-1", **labels: str) -> dict[str, Any]:
    return a_device(f"{name}-{run}" if name else "", node, run=run, **labels)


def made(api: Api, device: dict[str, Any]) -> tuple[str, Any]:
    """Create it; gives its path and what was answered."""
    found = api.do("POST", DEVICES, device)
    return f"{DEVICES}/{found['metadata']['name']}", found


def test_a_created_object_gets_identity_and_its_first_generation(api: Api, run: str) -> None:
    path, found = made(api, device_of(run, "pump"))
    metadata = found["metadata"]
    assert metadata["generation"] == 1
    assert metadata["namespace"] == "default"
    assert uuid.UUID(metadata["uid"])
    assert metadata["creationTimestamp"].endswith("Z")
    assert metadata["managedFields"][0]["operation"] == "Update"
    assert api.do("GET", path) == found


def test_a_name_can_be_generated(api: Api, run: str) -> None:
    _, first = made(api, device_of(run))
    _, second = made(api, device_of(run))
    assert first["metadata"]["name"].startswith("pump-")
    assert first["metadata"]["name"] != second["metadata"]["name"]


def test_creating_twice_says_already_exists(api: Api, run: str) -> None:
    made(api, device_of(run, "pump"))
    status = api.refused(409, "POST", DEVICES, device_of(run, "pump"))
    assert status["reason"] == "AlreadyExists"
    assert status["message"] == f'devices.{GROUP} "pump-{run}" already exists'
    assert status["details"] == {"name": f"pump-{run}", "group": GROUP, "kind": "devices"}


def test_what_is_not_there_is_not_found(api: Api) -> None:
    status = api.refused(404, "GET", f"{DEVICES}/nobody")
    assert status["message"] == f'devices.{GROUP} "nobody" not found'
    assert status["reason"] == "NotFound"
    assert status["details"] == {"name": "nobody", "group": GROUP, "kind": "devices"}


def test_a_bad_name_is_refused_by_its_field(api: Api, run: str) -> None:
    bad = a_device("Pump_1", run=run)
    status = api.refused(422, "POST", DEVICES, bad)
    assert status["reason"] == "Invalid"
    assert status["details"]["causes"][0]["field"] == "metadata.name"
    assert "a lowercase RFC 1123 subdomain must consist of" in status["message"]


def test_another_kind_is_refused(api: Api, run: str) -> None:
    status = api.refused(400, "POST", DEVICES, {**device_of(run, "pump"), "kind": "Rule"})
    assert status["reason"] == "BadRequest"


def test_another_namespace_in_the_body_is_refused(api: Api, run: str) -> None:
    strange = device_of(run, "pump")
    strange["metadata"]["namespace"] = "elsewhere"
    status = api.refused(400, "POST", DEVICES, strange)
    assert "does not match the namespace" in status["message"]


def test_a_namespace_that_is_not_there_is_not_found(api: Api, run: str) -> None:
    path = DEVICES.replace("/default/", "/nowhere-at-all/")
    status = api.refused(404, "POST", path, device_of(run, "pump"))
    assert status["message"] == 'namespaces "nowhere-at-all" not found'


def test_a_replacement_needs_the_version_that_it_replaces(api: Api, run: str) -> None:
    path, first = made(api, device_of(run, "pump"))
    first["spec"]["nodeName"] = "edge-2"
    second = api.do("PUT", path, first)
    assert second["metadata"]["generation"] == 2
    status = api.refused(409, "PUT", path, first)
    assert status["reason"] == "Conflict"
    assert status["message"] == (
        f'Operation cannot be fulfilled on devices.{GROUP} "pump-{run}": the object has been '
        "modified; please apply your changes to the latest version and try again"
    )
    del first["metadata"]["resourceVersion"]
    status = api.refused(422, "PUT", path, first)
    assert "metadata.resourceVersion" in status["message"]
    assert "must be specified for an update" in status["message"]


def test_the_generation_counts_changes_of_the_spec_alone(api: Api, run: str) -> None:
    path, _ = made(api, device_of(run, "pump"))
    labelled = api.do("PATCH", path, {"metadata": {"labels": {"a": "b"}}}, type=MERGE)
    assert labelled["metadata"]["generation"] == 1
    moved = api.do("PATCH", path, {"spec": {"nodeName": "edge-2"}}, type=MERGE)
    assert moved["metadata"]["generation"] == 2
    status = {"status": {"observedGeneration": 2}}
    told = api.do("PATCH", f"{path}/status", status, type=MERGE)
    assert told["metadata"]["generation"] == 2
    assert told["status"] == {"observedGeneration": 2}


def test_a_write_that_changes_nothing_is_no_new_version(api: Api, run: str) -> None:
    path, first = made(api, device_of(run, "pump"))
    again = api.do("PATCH", path, {"spec": {"nodeName": "edge-1"}}, type=MERGE)
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    same = api.do("PUT", path, first)
    assert same["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def test_spec_and_status_are_written_each_by_its_own_verb(api: Api, run: str) -> None:
    device = device_of(run, "pump")
    path, first = made(api, {**device, "status": {"observedGeneration": 7}})
    assert "status" not in first
    both = {"spec": {"nodeName": "edge-2"}, "status": {"observedGeneration": 1}}
    by_status = api.do("PATCH", f"{path}/status", both, type=MERGE)
    assert by_status["spec"]["nodeName"] == "edge-1"
    assert by_status["status"] == {"observedGeneration": 1}
    by_main = api.do("PATCH", path, {**both, "status": {"observedGeneration": 9}}, type=MERGE)
    assert by_main["spec"]["nodeName"] == "edge-2"
    assert by_main["status"] == {"observedGeneration": 1}
    assert api.do("GET", f"{path}/status") == by_main


def test_a_json_patch_is_all_or_nothing(api: Api, run: str) -> None:
    path, first = made(api, device_of(run, "pump"))
    good = [{"op": "replace", "path": "/spec/nodeName", "value": "edge-2"}]
    bad = [*good, {"op": "test", "path": "/metadata/name", "value": "other"}]
    api.refused(422, "PATCH", path, bad, type=JSON_PATCH)
    assert api.do("GET", path) == first
    assert api.do("PATCH", path, good, type=JSON_PATCH)["spec"]["nodeName"] == "edge-2"


def test_a_patch_of_another_version_conflicts(api: Api, run: str) -> None:
    path, _ = made(api, device_of(run, "pump"))
    stale = {"metadata": {"resourceVersion": "1"}, "spec": {"nodeName": "edge-2"}}
    assert api.refused(409, "PATCH", path, stale, type=MERGE)["reason"] == "Conflict"


def test_a_strategic_merge_patch_is_refused_for_our_kinds(api: Api, run: str) -> None:
    path, _ = made(api, device_of(run, "pump"))
    strategic = "application/strategic-merge-patch+json"
    status = api.refused(415, "PATCH", path, {"spec": {}}, type=strategic)
    assert status["reason"] == "UnsupportedMediaType"


def test_a_wrong_type_is_refused_by_its_field(api: Api, run: str) -> None:
    bad = device_of(run, "pump")
    bad["spec"]["nodeName"] = 7
    status = api.refused(422, "POST", DEVICES, bad)
    assert status["reason"] == "Invalid"
    cause = status["details"]["causes"][0]
    assert cause["field"] == "spec.nodeName"
    assert cause["reason"] == "FieldValueTypeInvalid"
    assert status["details"]["kind"] == "Device"


def test_a_missing_field_is_refused_by_its_place(api: Api, run: str) -> None:
    bad = device_of(run, "pump")
    del bad["spec"]["modelRef"]
    status = api.refused(422, "POST", DEVICES, bad)
    assert "spec.modelRef: Required value" in status["message"]


def test_two_protocols_at_once_are_refused(api: Api, run: str) -> None:
    bad = device_of(run, "pump")
    bad["spec"]["connection"]["custom"] = {"driver": "x"}
    status = api.refused(422, "POST", DEVICES, bad)
    assert "give exactly one protocol" in status["message"]


def test_unknown_fields_are_refused_said_or_dropped(api: Api, run: str) -> None:
    strange = device_of(run, "pump")
    strange["spec"]["colour"] = "red"
    status = api.refused(400, "POST", DEVICES, strange, fieldValidation="Strict")
    assert 'strict decoding error: unknown field "spec.colour"' in status["message"]
    warned = api.raw("POST", DEVICES, strange, fieldValidation="Warn", dryRun="All")
    assert warned.headers["warning"] == '299 - "unknown field \\"spec.colour\\""'
    assert "colour" not in warned.json()["spec"]
    silent = api.raw("POST", DEVICES, strange, fieldValidation="Ignore", dryRun="All")
    assert "warning" not in silent.headers


def test_a_dry_run_answers_and_keeps_nothing(api: Api, run: str) -> None:
    dry = api.do("POST", DEVICES, device_of(run, "pump"), dryRun="All")
    assert dry["metadata"]["uid"]
    api.refused(404, "GET", f"{DEVICES}/pump-{run}")
    path, first = made(api, device_of(run, "pump"))
    moved = {"spec": {"nodeName": "edge-2"}}
    would = api.do("PATCH", path, moved, type=MERGE, dryRun="All")
    assert would["spec"]["nodeName"] == "edge-2"
    api.do("DELETE", path, dryRun="All")
    assert api.do("GET", path) == first


def test_deleting_minds_its_preconditions(api: Api, run: str) -> None:
    path, first = made(api, device_of(run, "pump"))
    for wrong in ({"uid": str(uuid.uuid4())}, {"resourceVersion": "1"}):
        api.refused(409, "DELETE", path, {"preconditions": wrong})
    status = api.do("DELETE", path, {"preconditions": {"uid": first["metadata"]["uid"]}})
    assert status["status"] == "Success"
    assert status["details"]["uid"] == first["metadata"]["uid"]
    api.refused(404, "DELETE", path)


def test_a_finalizer_holds_a_deleted_object_until_it_is_taken_away(api: Api, run: str) -> None:
    device = device_of(run, "pump")
    device["metadata"]["finalizers"] = ["twinbridge.io/test"]
    path, _ = made(api, device)
    going = api.do("DELETE", path)
    assert going["metadata"]["deletionTimestamp"]
    assert going["metadata"]["generation"] == 2
    assert api.do("GET", path)["metadata"]["deletionTimestamp"]
    api.do("PATCH", path, {"metadata": {"finalizers": None}}, type=MERGE)
    api.refused(404, "GET", path)


def test_a_collection_can_be_deleted_by_its_label(api: Api, run: str) -> None:
    for name in ("a", "b"):
        made(api, device_of(run, name))
    path, _ = made(api, device_of(run, "c", line="other"))
    api.do("DELETE", DEVICES, labelSelector=f"run={run},line!=other")
    left = api.do("GET", DEVICES, labelSelector=f"run={run}")["items"]
    assert [item["metadata"]["name"] for item in left] == [f"c-{run}"]
    assert api.do("GET", path)


def names(listed: dict[str, Any], run: str) -> list[str]:
    return [item["metadata"]["name"].removesuffix(f"-{run}") for item in listed["items"]]


def test_selectors_choose_by_label_and_by_field(api: Api, run: str) -> None:
    made(api, device_of(run, "a", "edge-1", line="bottling"))
    made(api, device_of(run, "b", "edge-2", line="bottling"))
    made(api, device_of(run, "c", "edge-1"))
    mine = f"run={run}"

    def chosen(labels: str, fields: str = "") -> list[str]:
        query = {"labelSelector": f"{mine},{labels}".rstrip(","), "fieldSelector": fields}
        return names(api.do("GET", DEVICES, **{k: v for k, v in query.items() if v}), run)

    assert chosen("line=bottling") == ["a", "b"]
    assert chosen("line in (bottling, packing)") == ["a", "b"]
    assert chosen("!line") == ["c"]
    assert chosen("", "spec.nodeName=edge-1") == ["a", "c"]
    assert chosen("line", "spec.nodeName!=edge-1") == ["b"]
    assert chosen("", f"metadata.name=c-{run}") == ["c"]


def test_a_selector_that_is_none_is_refused(api: Api) -> None:
    bad = api.refused(400, "GET", DEVICES, labelSelector="a in (b")
    assert bad["reason"] == "BadRequest"
    unknown = api.refused(400, "GET", DEVICES, fieldSelector="spec.modelRef.name=x")
    assert "field label not supported: spec.modelRef.name" in unknown["message"]


def test_pages_show_what_was_there_when_the_first_was_read(api: Api, run: str) -> None:
    for name in "abcd":
        made(api, device_of(run, name))
    query = {"labelSelector": f"run={run}", "limit": "2"}
    first = api.do("GET", DEVICES, **query)
    assert names(first, run) == ["a", "b"]
    api.do("DELETE", f"{DEVICES}/c-{run}")
    made(api, device_of(run, "e"))
    token = first["metadata"]["continue"]
    second = api.do("GET", DEVICES, **query, **{"continue": token})
    assert names(second, run) == ["c", "d"]
    assert "continue" not in second["metadata"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def test_a_list_can_be_had_as_of_a_version(api: Api, run: str) -> None:
    made(api, device_of(run, "a"))
    query = {"labelSelector": f"run={run}"}
    then = api.do("GET", DEVICES, **query)["metadata"]["resourceVersion"]
    made(api, device_of(run, "b"))
    exact = {"resourceVersion": then, "resourceVersionMatch": "Exact"}
    assert names(api.do("GET", DEVICES, **query, **exact), run) == ["a"]
    newer = {"resourceVersion": then, "resourceVersionMatch": "NotOlderThan"}
    assert names(api.do("GET", DEVICES, **query, **newer), run) == ["a", "b"]
    api.refused(422, "GET", DEVICES, resourceVersionMatch="Exact")


def test_a_version_long_gone_is_410(api: Api) -> None:
    query = {"resourceVersion": "1", "resourceVersionMatch": "Exact"}
    assert api.refused(410, "GET", DEVICES, **query)["reason"] == "Expired"
    with api.watch(DEVICES, resourceVersion="1") as events:
        event = next(events)
    assert event["type"] == "ERROR"
    assert event["object"]["kind"] == "Status"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")


def version(api: Api) -> str:
    found: str = api.do("GET", DEVICES, limit="1")["metadata"]["resourceVersion"]
    return found


def test_a_watch_tells_everything_after_its_version_in_order(api: Api, run: str) -> None:
    before = version(api)
    path, first = made(api, device_of(run, "pump"))
    with api.watch(DEVICES, resourceVersion=before, labelSelector=f"run={run}") as events:
        assert next(events) == {"type": "ADDED", "object": first}
        moved = api.do("PATCH", path, {"spec": {"nodeName": "edge-2"}}, type=MERGE)
        assert next(events) == {"type": "MODIFIED", "object": moved}
        api.do("DELETE", path)
        last = next(events)
    assert last["type"] == "DELETED"
    assert last["object"]["metadata"]["uid"] == first["metadata"]["uid"]
    assert int(last["object"]["metadata"]["resourceVersion"]) > int(
        moved["metadata"]["resourceVersion"]
    )


def test_a_watch_that_is_resumed_tells_of_its_own_kind_only(api: Api, run: str) -> None:
    before = version(api)
    made(api, device_of(run, "pump"))
    _, last = made(api, device_of(run, "fan"))
    everything = {"resourceVersion": before, "allowWatchBookmarks": "true", "timeoutSeconds": "1"}
    for plural in ("devicemodels", "rules", "edgenodes"):
        with api.watch(f"{OURS}/{plural}", **everything) as events:
            told = [one for one in events if one["type"] != "BOOKMARK"]
        assert [one for one in told if one["object"]["kind"] == "Device"] == []
    with api.watch(DEVICES, **everything) as events:
        assert last in [one["object"] for one in events]


def test_a_watch_without_a_version_begins_with_what_is_there(api: Api, run: str) -> None:
    _, first = made(api, device_of(run, "a"))
    with api.watch(DEVICES, labelSelector=f"run={run}") as events:
        assert next(events) == {"type": "ADDED", "object": first}
        _, second = made(api, device_of(run, "b"))
        assert next(events) == {"type": "ADDED", "object": second}


def test_what_enters_or_leaves_a_selection_is_added_or_deleted(api: Api, run: str) -> None:
    query = {"fieldSelector": "spec.nodeName=edge-1", "labelSelector": f"run={run}"}
    path, first = made(api, device_of(run, "pump", "edge-2"))
    start = first["metadata"]["resourceVersion"]
    with api.watch(DEVICES, resourceVersion=start, **query) as events:
        moved = api.do("PATCH", path, {"spec": {"nodeName": "edge-1"}}, type=MERGE)
        assert next(events) == {"type": "ADDED", "object": moved}
        away = api.do("PATCH", path, {"spec": {"nodeName": "edge-3"}}, type=MERGE)
        left = next(events)
    assert left["type"] == "DELETED"
    assert left["object"]["metadata"]["resourceVersion"] == away["metadata"]["resourceVersion"]
    assert left["object"]["spec"]["nodeName"] == "edge-1"


def test_a_watch_can_say_where_its_first_events_end(api: Api, run: str) -> None:
    made(api, device_of(run, "pump"))
    query = {
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
        "labelSelector": f"run={run}",
    }
    with api.watch(DEVICES, **query) as events:
        assert next(events)["type"] == "ADDED"
        mark = next(events)
    assert mark["type"] == "BOOKMARK"
    assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert mark["object"]["kind"] == "Device"


def test_a_watch_ends_when_its_time_is_over(api: Api) -> None:
    started = time.monotonic()
    with api.watch(DEVICES, resourceVersion=version(api), timeoutSeconds="1") as events:
        assert list(events) == []
    assert time.monotonic() - started >= 0.9


def test_metadata_alone_can_be_read_listed_and_watched(api: Api, run: str) -> None:
    before = version(api)
    path, first = made(api, device_of(run, "pump"))
    query = {"labelSelector": f"run={run}"}
    one = api.do("GET", path, accept=PARTIAL)
    assert one == {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": first["metadata"],
    }
    listed = api.do("GET", DEVICES, accept=PARTIAL_LIST, **query)
    assert listed["kind"] == "PartialObjectMetadataList"
    assert [item["metadata"] for item in listed["items"]] == [first["metadata"]]
    with api.watch(DEVICES, PARTIAL, resourceVersion=before, **query) as events:
        assert next(events) == {"type": "ADDED", "object": one}


def test_a_table_has_the_printer_columns(api: Api, run: str) -> None:
    path, _ = made(api, device_of(run, "pump"))
    api.do("PATCH", f"{path}/status", {"status": {"conditions": [CONNECTED]}}, type=MERGE)
    table = api.do("GET", DEVICES, accept=TABLE, labelSelector=f"run={run}")
    assert table["kind"] == "Table"
    columns = [column["name"] for column in table["columnDefinitions"]]
    assert columns == ["Name", "Model", "Node", "Connected", "Synced", "Tripped", "Age"]
    [row] = table["rows"]
    assert row["cells"][:6] == [f"pump-{run}", "pump-drive", "edge-1", "True", None, None]
    assert row["object"]["kind"] == "PartialObjectMetadata"


def applied(api: Api, path: str, body: object, manager: str, **more: Any) -> tuple[int, Any]:
    return api.ask("PATCH", path, body, type=APPLY, fieldManager=manager, **more)


def test_server_side_apply_creates_owns_and_takes_away(api: Api, run: str) -> None:
    path = f"{DEVICES}/pump-{run}"
    device = device_of(run, "pump", colour="red")
    code, first = applied(api, path, device, "me")
    assert code == 201, first
    [entry] = first["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"]) == ("me", "Apply")
    code, again = applied(api, path, device, "me")
    assert code == 200
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    _, without = applied(api, path, device_of(run, "pump"), "me")
    assert without["metadata"]["labels"] == {"run": run}


def test_server_side_apply_conflicts_with_another_owner_unless_forced(api: Api, run: str) -> None:
    path = f"{DEVICES}/pump-{run}"
    applied(api, path, device_of(run, "pump"), "first")
    theirs = device_of(run, "pump", "edge-2")
    code, status = applied(api, path, theirs, "second")
    assert (code, status["reason"]) == (409, "Conflict")
    cause = status["details"]["causes"][0]
    assert cause["reason"] == "FieldManagerConflict"
    assert cause["field"] == ".spec.nodeName"
    assert cause["message"].startswith('conflict with "first"')
    assert status["message"].startswith('Apply failed with 1 conflict: conflict with "first"')
    code, found = applied(api, path, theirs, "second", force="true")
    assert (code, found["spec"]["nodeName"]) == (200, "edge-2")


def test_status_is_applied_by_its_owner_beside_the_spec(api: Api, run: str) -> None:
    path, _ = made(api, device_of(run, "pump"))
    head = {"apiVersion": f"{GROUP}/v1alpha1", "kind": "Device"}
    named = {**head, "metadata": {"name": f"pump-{run}"}}
    full = {**named, "status": {"conditions": [CONNECTED], "lastContact": "2026-01-31T08:00:00Z"}}
    code, told = applied(api, f"{path}/status", full, "twinbridge/edge-1", force="true")
    assert code == 200, told
    assert told["status"] == full["status"]
    less = {**named, "status": {"conditions": [CONNECTED]}}
    _, told = applied(api, f"{path}/status", less, "twinbridge/edge-1", force="true")
    assert told["status"] == less["status"]
    assert told["metadata"]["generation"] == 1
    owners = {m["manager"]: m.get("subresource") for m in told["metadata"]["managedFields"]}
    assert owners["twinbridge/edge-1"] == "status"


def test_server_side_apply_needs_a_field_manager(api: Api, run: str) -> None:
    path = f"{DEVICES}/pump-{run}"
    status = api.refused(422, "PATCH", path, device_of(run, "pump"), type=APPLY)
    assert "fieldManager" in status["message"]


def test_an_event_can_be_read_in_both_its_groups(api: Api, run: str) -> None:
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"pump.{run}"},
        "involvedObject": {"kind": "Device", "name": f"pump-{run}", "namespace": "default"},
        "reason": "Tripped",
        "message": "overheat stopped it",
        "type": "Warning",
        "firstTimestamp": "2026-01-31T08:00:00Z",
        "lastTimestamp": "2026-01-31T08:00:00Z",
        "count": 1,
    }
    path = "/api/v1/namespaces/default/events"
    api.do("POST", path, event)
    of_it = f"involvedObject.name=pump-{run},reason=Tripped"
    [found] = api.do("GET", path, fieldSelector=of_it)["items"]
    assert found["message"] == "overheat stopped it"
    newer = "/apis/events.k8s.io/v1/namespaces/default/events"
    shown = api.do("GET", f"{newer}/pump.{run}")
    assert shown["apiVersion"] == "events.k8s.io/v1"
    assert shown["note"] == "overheat stopped it"
    assert shown["regarding"]["name"] == f"pump-{run}"
    api.do("DELETE", f"{path}/pump.{run}")


def test_a_lease_is_taken_and_renewed_under_its_version(api: Api, run: str) -> None:
    path = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": f"edge-{run}"},
        "spec": {
            "holderIdentity": "a",
            "leaseDurationSeconds": 40,
            "renewTime": "2026-01-31T08:00:00.000000Z",
        },
    }
    taken = api.do("POST", path, lease)
    assert "generation" not in taken["metadata"]
    renewed = {**taken, "spec": {**taken["spec"], "holderIdentity": "b"}}
    assert api.do("PUT", f"{path}/edge-{run}", renewed)["spec"]["holderIdentity"] == "b"
    api.refused(409, "PUT", f"{path}/edge-{run}", taken)
    api.do("DELETE", f"{path}/edge-{run}")


def test_discovery_names_our_kinds_both_ways(api: Api) -> None:
    listed = api.do("GET", f"/apis/{GROUP}/v1alpha1")
    found = {resource["name"]: resource for resource in listed["resources"]}
    assert set(found) >= {"devices", "devices/status", "devicemodels", "rules", "edgenodes"}
    assert found["devices"]["shortNames"] == ["dev"]
    assert found["devices"]["categories"] == ["twinbridge"]
    assert {"get", "list", "watch", "create", "patch"} <= set(found["devices"]["verbs"])
    aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    groups = api.do("GET", "/apis", accept=f"{aggregated},application/json")
    assert groups["kind"] == "APIGroupDiscoveryList"
    [ours] = [item for item in groups["items"] if item["metadata"]["name"] == GROUP]
    assert [v["version"] for v in ours["versions"]] == ["v1alpha1"]


def test_openapi_describes_our_kinds(api: Api) -> None:
    index = api.do("GET", "/openapi/v3")["paths"]
    document = api.do("GET", index[f"apis/{GROUP}/v1alpha1"]["serverRelativeURL"].split("?")[0])
    kinds = {
        gvk["kind"]
        for schema in document["components"]["schemas"].values()
        for gvk in schema.get("x-kubernetes-group-version-kind", ())
    }
    assert {"Device", "DeviceModel", "Rule", "EdgeNode"} <= kinds


def test_the_definitions_can_be_read(api: Api) -> None:
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/devices.{GROUP}"
    crd = api.do("GET", path)
    states = {c["type"]: c["status"] for c in crd["status"]["conditions"]}
    assert states["Established"] == "True"


def test_a_body_too_large_is_refused(api: Api) -> None:
    body = b'{"x":"' + b"y" * (3 << 20) + b'"}'
    assert api.ask("POST", DEVICES, body)[0] == 413


def test_a_path_that_is_none_is_not_found(api: Api) -> None:
    for path in (f"/apis/{GROUP}/v1alpha1/pumps", "/apis/nowhere.io/v1", f"{DEVICES}/a/b/c"):
        assert api.raw("GET", path).status_code == 404
