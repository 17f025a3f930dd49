"""The real `kubectl` on the embedded hub: it must not be able to tell the difference."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from edge_process import until
from hub_server import GROUP, hub_process, self_signed

from twinbridge.testing.hub import kubeconfig

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl is not on this machine's PATH"
)

MODEL = """
apiVersion: devices.twinbridge.io/v1alpha1
kind: DeviceModel
metadata: {name: pump-drive}
spec:
  properties:
  - name: run
    type: bool
    access: ReadWrite
    modbus: {table: coil, address: 0}
"""
DEVICE = """
apiVersion: devices.twinbridge.io/v1alpha1
kind: Device
metadata: {name: NAME, labels: {line: bottling}}
spec:
  modelRef: {name: pump-drive}
  nodeName: edge-1
  connection:
    modbus: {host: 127.0.0.1, port: 5020, unit: 1}
  poll: {interval: 500ms}
"""
CONNECTED = {
    "type": "Connected",
    "status": "True",
    "reason": "Answered",
    "message": "",
    "lastTransitionTime": "2026-01-31T08:00:00Z",
}


class Kubectl:
    def __init__(self, config: Path, home: Path) -> None:
        self._config = config
        self._home = home

    def run(
        self, *arguments: str, given: str = "", env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["kubectl", *arguments],
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=self._env(env),
        )

    def __call__(
        self, *arguments: str, given: str = "", env: Mapping[str, str] | None = None
    ) -> str:
        """What it prints; it must succeed."""
        done = self.run(*arguments, given=given, env=env)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    def fails(self, *arguments: str, given: str = "") -> str:
        """What it says when it is refused."""
        done = self.run(*arguments, given=given)
        assert done.returncode != 0, (arguments, done.stdout)
        return done.stderr

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["kubectl", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._env(None),
        )

    def _env(self, more: Mapping[str, str] | None) -> dict[str, str]:
        own = {"KUBECONFIG": str(self._config), "HOME": str(self._home)}
        return {**os.environ, **own, **(more or {})}


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    folder = tmp_path_factory.mktemp("kubectl")
    with hub_process(folder / "state") as hub:
        config = folder / "config"
        config.write_text(kubeconfig(hub.url))
        found = Kubectl(config, folder)
        found("apply", "-f", "-", given=MODEL)
        yield found


@pytest.fixture(scope="module")
def kubectls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Kubectl]]:
    """By role, on a hub with tokens: `kubectl` sends a token over TLS alone."""
    folder = tmp_path_factory.mktemp("kubectls")
    roles = {role: f"token-of-the-{role}" for role in ("admin", "operator", "viewer", "edge")}
    tokens = folder / "tokens"
    tokens.touch(mode=0o600)
    tokens.write_text(
        "".join(f"{roles[role]},my-{role},{role}{',edge-1' * (role == 'edge')}\n" for role in roles)
    )
    tls = self_signed(folder)
    with hub_process(folder / "state", "--token-file", str(tokens), tls=tls) as hub:
        found = {}
        for role, token in roles.items():
            config = folder / role
            config.write_text(kubeconfig(hub.url, token, ca=tls[0]))
            found[role] = Kubectl(config, folder)
        yield found


@pytest.fixture
def pump(kubectl: Kubectl, request: pytest.FixtureRequest) -> Iterator[str]:
    """A device of this test, applied."""
    name = "pump-" + request.node.name.replace("_", "-")[-40:].strip("-")
    kubectl("apply", "-f", "-", given=DEVICE.replace("NAME", name))
    yield name
    kubectl("delete", "device", name, "--ignore-not-found", "--wait=false")


def told(kubectl: Kubectl, pump: str, path: str) -> str:
    return kubectl("get", "device", pump, "-o", f"jsonpath={{{path}}}")


def test_api_resources_lists_our_kinds(kubectl: Kubectl) -> None:
    listed = kubectl("api-resources", "--api-group=devices.twinbridge.io")
    rows = [line.split() for line in listed.splitlines()[1:]]
    assert ["devices", "dev", "devices.twinbridge.io/v1alpha1", "true", "Device"] in rows
    assert len(rows) == 4


def test_apply_creates_leaves_and_configures(kubectl: Kubectl) -> None:
    text = DEVICE.replace("NAME", "applied")
    assert kubectl("apply", "-f", "-", given=text).endswith("/applied created\n")
    assert kubectl("apply", "-f", "-", given=text).endswith("/applied unchanged\n")
    moved = text.replace("edge-1", "edge-2")
    assert kubectl("apply", "-f", "-", given=moved).endswith("/applied configured\n")
    assert kubectl("get", "dev", "applied", "-o", "jsonpath={.spec.nodeName}") == "edge-2"
    assert kubectl("delete", "-f", "-", given=moved).endswith('"applied" deleted\n')
    assert "not found" in kubectl.fails("get", "device", "applied")


def test_get_shows_the_printer_columns(kubectl: Kubectl, pump: str) -> None:
    head, row = kubectl("get", "devices", pump).splitlines()
    assert head.split() == ["NAME", "MODEL", "NODE", "CONNECTED", "SYNCED", "TRIPPED", "AGE"]
    assert row.split()[:3] == [pump, "pump-drive", "edge-1"]
    assert pump in kubectl("get", "twinbridge", "-o", "wide")
    assert kubectl("get", "device", pump, "-o", "name") == f"device.devices.twinbridge.io/{pump}\n"
    assert f"  name: {pump}\n" in kubectl("get", "device", pump, "-o", "yaml")


def test_get_selects_by_label_and_field(kubectl: Kubectl, pump: str) -> None:
    def names(*selectors: str) -> list[str]:
        return kubectl("get", "devices", "-o", "name", *selectors).split()

    named = f"device.devices.twinbridge.io/{pump}"
    assert named in names("-l", "line=bottling")
    assert names("-l", "line=packing") == []
    assert named in names("--field-selector", "spec.nodeName=edge-1")
    assert names("--field-selector", "spec.nodeName=edge-9") == []
    assert pump in kubectl("get", "devices", "--all-namespaces")


def test_a_watch_shows_what_changes(kubectl: Kubectl, pump: str) -> None:
    lines: list[str] = []
    watching = kubectl.start("get", "device", pump, "-w")

    def read() -> None:
        assert watching.stdout is not None
        lines.extend(iter(watching.stdout.readline, ""))

    reading = threading.Thread(target=read)
    reading.start()
    try:
        until(lambda: len(lines) == 2, "the device as it is")
        status = json.dumps({"status": {"conditions": [CONNECTED]}})
        kubectl("patch", "device", pump, "--subresource=status", "--type=merge", "-p", status)
        until(lambda: len(lines) == 3, "its new state")
        assert lines[2].split()[:4] == [pump, "pump-drive", "edge-1", "True"]
    finally:
        watching.kill()
        watching.communicate()
        reading.join(10)


def test_wait_sees_a_condition_come(kubectl: Kubectl, pump: str) -> None:
    waiting = kubectl.start("wait", "--for=condition=Connected", f"device/{pump}", "--timeout=30s")
    status = json.dumps({"status": {"conditions": [CONNECTED]}})
    kubectl("patch", "device", pump, "--subresource=status", "--type=merge", "-p", status)
    said, _ = waiting.communicate(timeout=40)
    assert said == f"device.devices.twinbridge.io/{pump} condition met\n"


def test_wait_sees_a_deletion(kubectl: Kubectl, pump: str) -> None:
    waiting = kubectl.start("wait", "--for=delete", f"device/{pump}", "--timeout=30s")
    kubectl("delete", "device", pump)
    said, problem = waiting.communicate(timeout=40)
    assert waiting.returncode == 0, (said, problem)


def test_patch_takes_merges_and_operations(kubectl: Kubectl, pump: str) -> None:
    kubectl("patch", "device", pump, "--type=merge", "-p", '{"spec":{"nodeName":"edge-3"}}')
    assert told(kubectl, pump, ".spec.nodeName") == "edge-3"
    operations = '[{"op":"replace","path":"/spec/nodeName","value":"edge-4"}]'
    kubectl("patch", "device", pump, "--type=json", "-p", operations)
    assert told(kubectl, pump, ".spec.nodeName") == "edge-4"


def test_label_and_annotate(kubectl: Kubectl, pump: str) -> None:
    kubectl("label", "device", pump, "hall=north")
    kubectl("annotate", "device", pump, "twinbridge.io/note=by the door")
    assert told(kubectl, pump, ".metadata.labels.hall") == "north"
    kubectl("label", "device", pump, "hall-")
    assert told(kubectl, pump, ".metadata.labels.hall") == ""
    assert "must be" in kubectl.fails("label", "device", pump, "hall=a b")


def test_edit_writes_back_what_the_editor_left(kubectl: Kubectl, pump: str, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i "s/nodeName: .*/nodeName: edge-5/" "$1"\n')
    editor.chmod(0o755)
    said = kubectl("edit", "device", pump, env={"KUBE_EDITOR": str(editor)})
    assert said == f"device.devices.twinbridge.io/{pump} edited\n"
    assert told(kubectl, pump, ".spec.nodeName") == "edge-5"


def test_server_side_apply_and_its_conflict(kubectl: Kubectl) -> None:
    text = DEVICE.replace("NAME", "served")
    apply = ("apply", "--server-side", "-f", "-")
    said = kubectl(*apply, "--field-manager=first", given=text)
    assert said.endswith("/served serverside-applied\n")
    moved = text.replace("edge-1", "edge-2")
    refused = kubectl.fails(*apply, "--field-manager=second", given=moved)
    assert 'Apply failed with 1 conflict: conflict with "first" using' in refused
    assert ": .spec.nodeName" in refused
    kubectl(*apply, "--field-manager=second", "--force-conflicts", given=moved)
    assert kubectl("get", "device", "served", "-o", "jsonpath={.spec.nodeName}") == "edge-2"
    owners = kubectl("get", "device", "served", "--show-managed-fields", "-o", "yaml")
    assert "manager: second" in owners
    kubectl("delete", "device", "served")


def test_diff_shows_what_apply_would_change(kubectl: Kubectl, pump: str) -> None:
    moved = DEVICE.replace("NAME", pump).replace("edge-1", "edge-6")
    done = kubectl.run("diff", "-f", "-", given=moved)
    assert done.returncode == 1, done.stderr
    assert "-  nodeName: edge-1" in done.stdout
    assert "+  nodeName: edge-6" in done.stdout
    assert told(kubectl, pump, ".spec.nodeName") == "edge-1"


def test_nonsense_is_refused_with_its_place(kubectl: Kubectl) -> None:
    text = DEVICE.replace("NAME", "wrong")
    unknown = kubectl.fails("apply", "-f", "-", given=text.replace("poll:", "pol:"))
    assert 'unknown field "spec.pol"' in unknown
    wrong = kubectl.fails("apply", "-f", "-", given=text.replace("unit: 1", "unit: 999"))
    assert "spec.connection.modbus.unit" in wrong
    assert "should be less than or equal to" in wrong
    missing = text.replace("  modelRef: {name: pump-drive}\n", "")
    assert "spec.modelRef: Required value" in kubectl.fails("apply", "-f", "-", given=missing)


def test_explain_knows_every_field(kubectl: Kubectl) -> None:
    said = kubectl("explain", "device.spec.nodeName")
    assert "GROUP:      devices.twinbridge.io" in said
    assert "FIELD: nodeName <string>" in said
    assert "modbus" in kubectl("explain", "device.spec.connection")


def test_describe_shows_the_device_with_its_events(kubectl: Kubectl, pump: str) -> None:
    uid = told(kubectl, pump, ".metadata.uid")
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{pump}.1", "namespace": "default"},
        "involvedObject": {
            "apiVersion": "devices.twinbridge.io/v1alpha1",
            "kind": "Device",
            "name": pump,
            "namespace": "default",
            "uid": uid,
        },
        "reason": "Tripped",
        "message": "overheat stopped it",
        "type": "Warning",
        "firstTimestamp": "2026-01-31T08:00:00Z",
        "lastTimestamp": "2026-01-31T08:00:00Z",
        "count": 1,
    }
    kubectl("create", "-f", "-", given=json.dumps(event))
    described = kubectl("describe", "device", pump)
    assert "Node Name:  edge-1" in described
    assert "overheat stopped it" in described
    row = kubectl("get", "events", "--field-selector", f"involvedObject.name={pump}")
    assert f"device/{pump}" in row


def test_our_definitions_are_there_already(kubectl: Kubectl) -> None:
    crds = str(Path(__file__).parents[2] / "crds")
    said = kubectl("apply", "--server-side", "-f", crds)
    assert len(said.splitlines()) == 4
    kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=10s")
    kubectl("apply", "-f", crds)
    again = kubectl("apply", "-f", crds)
    assert all(line.endswith(" unchanged") for line in again.splitlines())


def test_delete_takes_all_that_a_label_selects(kubectl: Kubectl) -> None:
    for name in ("one", "two"):
        kubectl("apply", "-f", "-", given=DEVICE.replace("NAME", name).replace("bottling", "gone"))
    said = kubectl("delete", "devices", "-l", "line=gone")
    assert said.count("deleted") == 2
    assert kubectl("get", "devices", "-l", "line=gone", "-o", "name") == ""


def test_a_namespace_is_created_by_name(kubectl: Kubectl) -> None:
    assert kubectl("create", "namespace", "hall-2") == "namespace/hall-2 created\n"
    assert re.search(r"^hall-2 +Active ", kubectl("get", "namespaces"), re.MULTILINE)
    assert kubectl("delete", "namespace", "hall-2") == 'namespace "hall-2" deleted\n'


@pytest.mark.parametrize(
    ("role", "groups", "may"),
    [
        ("admin", "twinbridge:admin", ("patch devices", "create rules", "delete namespaces")),
        ("operator", "twinbridge:operator", ("get rules", "patch devices")),
        ("viewer", "twinbridge:viewer", ("get rules", "list events")),
        ("edge", "twinbridge:edge", ("get rules", "update devices --subresource=status")),
    ],
)
def test_everyone_is_told_who_they_are_and_what_they_may(
    kubectls: Mapping[str, Kubectl], role: str, groups: str, may: tuple[str, ...]
) -> None:
    kubectl = kubectls[role]
    me = kubectl("auth", "whoami")
    assert f"my-{role}" in me
    assert groups in me
    asked = {"get rules", "list events", "patch devices", "create rules", "delete namespaces",
             "update devices --subresource=status", *may}  # fmt: skip
    answers = {
        question: kubectl.run("auth", "can-i", *question.split()).stdout for question in asked
    }
    everything = role == "admin"
    reads = {"get rules", "list events"} if role in ("admin", "operator", "viewer") else set()
    assert {question for question, said in answers.items() if said == "yes\n"} == (
        asked if everything else {*may, *reads}
    )
    assert {answers[question] for question in asked} <= {"yes\n", "no\n"}


def test_can_i_lists_what_a_role_may(kubectls: Mapping[str, Kubectl]) -> None:
    told = [line.split() for line in kubectls["operator"]("auth", "can-i", "--list").splitlines()]
    verbs = {line[0]: " ".join(line[3:]) for line in told[1:]}
    assert verbs[f"devices.{GROUP}"] == "[get list patch update watch]"
    assert verbs[f"rules.{GROUP}"] == "[get list watch]"
    assert verbs[f"devices.{GROUP}/status"] == "[get]"


def test_what_one_may_not_is_refused_as_rbac_refuses_it(kubectls: Mapping[str, Kubectl]) -> None:
    assert kubectls["viewer"].fails("create", "namespace", "hall-3") == (
        'Error from server (Forbidden): namespaces is forbidden: User "my-viewer" cannot create '
        'resource "namespaces" in API group "" at the cluster scope\n'
    )
