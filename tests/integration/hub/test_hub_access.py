"""Who may do what at the hub, and what an edge sees of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from edge_process import cli
from hub_server import APPLY, GROUP, MERGE, OURS, a_device, api_of, hub_on_a_thread

from twinbridge.errors import InvalidInput
from twinbridge.hub.tokens import Tokens

DEVICES = f"{OURS}/devices"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
EVENTS = "/api/v1/namespaces/default/events"
LINES = """# who
admin-token-0123456789,ann,admin
viewer-token-012345678,val,viewer
edge-1-token-012345678,agent-1,edge,edge-1
operator-token-0123456,otto,operator
"""


class Callers:
    def __init__(self, url: str, stack: ExitStack) -> None:
        self.admin, self.viewer, self.edge, self.operator, self.nobody = (
            stack.enter_context(api_of(url, token))
            for token in ("admin-token-0123456789", "viewer-token-012345678",
                          "edge-1-token-012345678", "operator-token-0123456",
                          "no-such-token-at-all")
        )  # fmt: skip


@pytest.fixture(scope="module")
def callers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callers]:
    with hub_on_a_thread(tmp_path_factory.mktemp("hub"), LINES) as hub, ExitStack() as stack:
        found = Callers(hub.url, stack)
        for name, node in (("mine", "edge-1"), ("other", "edge-2")):
            found.admin.do("POST", DEVICES, a_device(name, node))
        yield found


def test_without_a_known_token_nothing_is_told_but_health(callers: Callers) -> None:
    status = callers.nobody.refused(401, "GET", DEVICES)
    assert (status["reason"], status["message"]) == ("Unauthorized", "Unauthorized")
    assert callers.nobody.raw("GET", "/healthz").text == "ok"
    assert callers.nobody.raw("GET", "/apis").status_code == 401


def test_an_operator_desires_and_defines_nothing(callers: Callers) -> None:
    otto, pump = callers.operator, f"{DEVICES}/mine"
    assert len(otto.do("GET", DEVICES)["items"]) == 2
    wish = {"spec": {"desired": [{"name": "run", "value": False}]}}
    found = otto.do("PATCH", pump, wish, type=MERGE)
    assert found["spec"]["desired"] == wish["spec"]["desired"]
    otto.do("PATCH", pump, {"spec": {"desired": None}}, type=MERGE)
    for more in ({"spec": {"nodeName": "edge-2"}}, {"metadata": {"labels": {"a": "b"}}}):
        status = otto.refused(403, "PATCH", pump, more, type=MERGE)
        assert "cannot patch anything but spec.desired of" in status["message"]
    otto.refused(403, "POST", DEVICES, a_device("anew"))
    otto.refused(403, "DELETE", pump)
    otto.refused(403, "PATCH", f"{pump}/status", {"status": {}}, type=MERGE)
    anew = {k: a_device("anew")[k] for k in ("apiVersion", "kind", "spec")}
    query = {"fieldManager": "otto", "type": APPLY}
    otto.refused(403, "PATCH", f"{DEVICES}/anew", anew, **query)


def test_a_viewer_looks_and_touches_nothing(callers: Callers) -> None:
    assert len(callers.viewer.do("GET", DEVICES)["items"]) == 2
    status = callers.viewer.refused(403, "DELETE", f"{DEVICES}/mine")
    assert status["reason"] == "Forbidden"
    assert status["message"] == (
        f'devices.{GROUP} "mine" is forbidden: User "val" cannot delete resource "devices" '
        f'in API group "{GROUP}" in the namespace "default"'
    )


def test_an_edge_sees_the_devices_of_its_node_alone(callers: Callers) -> None:
    listed = callers.edge.do("GET", DEVICES)["items"]
    assert [item["metadata"]["name"] for item in listed] == ["mine"]
    assert callers.edge.do("GET", f"{DEVICES}/mine")
    callers.edge.refused(403, "GET", f"{DEVICES}/other")
    callers.edge.refused(404, "GET", f"{DEVICES}/not-there")
    others = callers.edge.do("GET", DEVICES, fieldSelector="spec.nodeName=edge-2")
    assert others["items"] == []


def test_an_edge_watches_what_comes_to_its_node_and_goes(callers: Callers) -> None:
    before = callers.admin.do("GET", DEVICES)["metadata"]["resourceVersion"]
    with callers.edge.watch(DEVICES, resourceVersion=before) as events:
        callers.admin.do("POST", DEVICES, a_device("unseen", "edge-2"))
        callers.admin.do("POST", DEVICES, a_device("seen", "edge-1"))
        moved = {"spec": {"nodeName": "edge-2"}}
        callers.admin.do("PATCH", f"{DEVICES}/seen", moved, type=MERGE)
        told = [next(events) for _ in range(2)]
    assert [(e["type"], e["object"]["metadata"]["name"]) for e in told] == [
        ("ADDED", "seen"),
        ("DELETED", "seen"),
    ]
    for name in ("seen", "unseen"):
        callers.admin.do("DELETE", f"{DEVICES}/{name}")


def test_an_edge_writes_the_status_of_its_own_and_no_spec(callers: Callers) -> None:
    status = {"status": {"observedGeneration": 1}}
    told = callers.edge.do("PATCH", f"{DEVICES}/mine/status", status, type=MERGE)
    assert told["status"] == {"observedGeneration": 1}
    callers.edge.refused(403, "PATCH", f"{DEVICES}/other/status", status, type=MERGE)
    spec = {"spec": {"nodeName": "edge-1"}}
    refused = callers.edge.refused(403, "PATCH", f"{DEVICES}/mine", spec, type=MERGE)
    assert 'User "agent-1" cannot patch resource "devices"' in refused["message"]
    refused = callers.edge.refused(403, "PATCH", f"{DEVICES}/other/status", status, type=MERGE)
    assert 'cannot patch resource "devices/status"' in refused["message"]


def test_an_edge_renews_its_own_lease_alone(callers: Callers) -> None:
    def lease(name: str) -> dict[str, object]:
        head = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
        return {**head, "metadata": {"name": name}, "spec": {"holderIdentity": "a"}}

    callers.edge.do("POST", LEASES, lease("twinbridge-edge-1"))
    callers.edge.do(
        "PATCH", f"{LEASES}/twinbridge-edge-1", {"spec": {"holderIdentity": "b"}}, type=MERGE
    )
    callers.edge.refused(403, "POST", LEASES, lease("twinbridge-edge-2"))
    callers.edge.refused(403, "GET", LEASES)
    callers.edge.refused(404, "GET", f"{OURS}/edgenodes/edge-1")


def test_an_edge_tells_events_and_reads_none(callers: Callers) -> None:
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "mine.1"},
        "involvedObject": {"kind": "Device", "name": "mine", "namespace": "default"},
        "reason": "Tripped",
    }
    callers.edge.do("POST", EVENTS, event)
    callers.edge.do("PATCH", f"{EVENTS}/mine.1", {"count": 2}, type=MERGE)
    callers.edge.refused(403, "GET", EVENTS)


@pytest.mark.parametrize(
    "nonsense",
    [
        [],
        {"spec": 3},
        {"spec": {"resourceAttributes": "pods"}},
        {"spec": {"nonResourceAttributes": 1}},
    ],
)
def test_a_question_of_access_that_is_none_is_refused(callers: Callers, nonsense: object) -> None:
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    assert "is no object" in callers.viewer.refused(400, "POST", path, nonsense)["message"]


def test_a_token_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    new = "a-new-token-0123456789"
    with hub_on_a_thread(tmp_path, LINES) as hub, api_of(hub.url, new) as later:
        later.refused(401, "GET", DEVICES)
        (tmp_path / "tokens").write_text(f"{LINES}{new},new,viewer\n")
        assert later.do("GET", DEVICES)["items"] == []
        (tmp_path / "tokens").write_text("nonsense\n")
        assert later.do("GET", DEVICES)["items"] == []


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        (LINES, 0o644, "others may read it (mode 0644); do: chmod 600"),
        ("admin-token-0123456789,ann\n", 0o600, "tokens:1: a line is: TOKEN,NAME,ROLE[,NODE]"),
        ("admin-token-0123456789,ann,boss\n", 0o600, "tokens:1: the role is none of: admin"),
        ("admin-token-0123456789,ann,edge\n", 0o600, "tokens:1: an edge needs its node"),
        ("admin-token-0123456789,ann,admin,n\n", 0o600, "tokens:1: only an edge has a node"),
        ("short,ann,admin\n", 0o600, "tokens:1: the token is shorter than 16 characters"),
        ("# nobody\n", 0o600, "holds no token"),
    ],
)
def test_a_bad_token_file_is_refused_by_its_line(
    tmp_path: Path, text: str, mode: int, why: str
) -> None:
    path = tmp_path / "tokens"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(InvalidInput) as refused:
        Tokens(path)
    assert why in str(refused.value)
    assert "0123456789" not in str(refused.value)


def test_without_tokens_the_hub_listens_on_loopback_alone(tmp_path: Path) -> None:
    done = cli("hub", "--listen", "0.0.0.0:0", "--state-dir", str(tmp_path))
    assert done.returncode == 1
    assert "beyond loopback the hub needs tokens" in done.stderr
