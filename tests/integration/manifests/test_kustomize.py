"""The manifests build, and what they say fits the program: options, ports, names, rights."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from twinbridge import __version__
from twinbridge.api.broker import parse_url
from twinbridge.api.crds import crds, dump
from twinbridge.cli.drivers import installed_drivers
from twinbridge.cli.main import app

ROOT = Path(__file__).parents[3]
OVERLAYS = ("edge", "single-process", "hub-only")
NODE = "edge-1"
VERBS = {"get", "list", "watch", "create", "update", "patch", "delete"}
Json = dict[str, Any]


@cache
def built(folder: str) -> list[Json]:
    """What `kubectl kustomize` makes of a folder below manifests."""
    kubectl = shutil.which("kubectl")
    assert kubectl, "kubectl is needed"
    command = [kubectl, "kustomize", str(ROOT / "manifests" / folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of(overlay: str, *kinds: str) -> list[Json]:
    return [found for found in built(f"overlays/{overlay}") if found["kind"] in kinds]


def pods(overlay: str) -> Iterator[tuple[str, Json]]:
    for workload in of(overlay, "StatefulSet", "Deployment"):
        yield workload["metadata"]["name"], workload["spec"]["template"]["spec"]


def containers(overlay: str) -> Iterator[tuple[str, Json]]:
    for name, pod in pods(overlay):
        yield from ((name, container) for container in pod["containers"])


def ours() -> list[tuple[str, str, Json]]:
    return [
        (overlay, name, container)
        for overlay in OVERLAYS
        for name, container in containers(overlay)
        if container["image"].startswith("twinbridge")
    ]


def command(name: str) -> Any:
    return typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]  # a group


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_is_named_once_and_lies_in_the_namespace(overlay: str) -> None:
    found = built(f"overlays/{overlay}")
    names = [(o["apiVersion"], o["kind"], o["metadata"]["name"]) for o in found]
    cluster = {
        "Namespace",
        "CustomResourceDefinition",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    }

    assert len(names) == len(set(names))
    for item in found:
        inside = item["metadata"].get("namespace") == "twinbridge"
        assert inside != (item["kind"] in cluster), item["metadata"]["name"]


def test_the_crds_are_those_of_this_version() -> None:
    made = {name: dump(crd) for name, crd in crds(installed_drivers()).items()}
    there = ROOT / "manifests" / "crds"

    assert {name: (there / name).read_text("utf-8") for name in made} == made


def test_every_command_line_is_one_that_the_program_takes() -> None:
    for _, name, container in ours():
        verb, *args = [text.replace("$(TWINBRIDGE_NODE)", NODE) for text in container["args"]]

        with command(verb).make_context(verb, args):
            assert verb in container["args"], name


def test_what_a_command_line_takes_from_the_environment_is_there() -> None:
    for _, name, container in ours():
        given = {variable["name"] for variable in container.get("env", ())}
        wanted = set(re.findall(r"\$\((\w+)\)", " ".join(container["args"])))

        assert wanted <= given, name


def test_the_bus_of_every_process_is_the_broker_of_its_node() -> None:
    (service,) = [s for s in of("edge", "Service") if "mosquitto" in s["metadata"]["name"]]
    urls = [
        argument.removeprefix("--bus=").replace("$(TWINBRIDGE_NODE)", NODE)
        for _, container in containers("edge")
        for argument in container.get("args", ())
        if argument.startswith("--bus=")
    ]

    assert len(urls) == 4
    for broker in map(parse_url, urls):
        assert (broker.host, broker.port) == (
            service["metadata"]["name"],
            service["spec"]["ports"][0]["port"],
        )


def test_probes_ask_where_the_process_answers() -> None:
    for overlay, name, container in ours():
        listening = [
            int(argument.rpartition(":")[2])
            for argument in container["args"]
            if argument.startswith(("--api=", "--probes=", "--listen="))
        ]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}

        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container[probe]["httpGet"]
            assert [ports[asked["port"]]] == listening, (overlay, name)
            assert asked["path"] in ("/healthz", "/readyz")


def test_images_are_targets_of_the_dockerfile_in_this_version() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")

    for _, name, container in ours():
        image, tag = container["image"].split(":")
        target = image.removeprefix("twinbridge").removeprefix("-") or "run"
        assert f" AS {target}\n" in dockerfile, name
        assert tag == __version__, name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_pod_is_root_or_writes_its_image_or_takes_more_than_its_share(overlay: str) -> None:
    for name, pod in pods(overlay):
        security = pod["securityContext"]
        assert security["runAsNonRoot"], name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["terminationGracePeriodSeconds"] >= 15, name
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert container["resources"]["limits"]["memory"] == "256Mi", name


def test_only_the_agent_has_credentials_of_the_cluster() -> None:
    for overlay in OVERLAYS:
        for name, pod in pods(overlay):
            speaks = any("--hub=in-cluster" in c.get("args", ()) for c in pod["containers"])
            assert pod["automountServiceAccountToken"] == speaks, name
            assert ("serviceAccountName" in pod) == speaks, name


def test_every_mount_has_its_volume_and_state_outlives_the_pod() -> None:
    for overlay in OVERLAYS:
        for workload in of(overlay, "StatefulSet", "Deployment"):
            spec, pod = workload["spec"], workload["spec"]["template"]["spec"]
            claims = {c["metadata"]["name"] for c in spec.get("volumeClaimTemplates", ())}
            volumes = {v["name"] for v in pod["volumes"]}
            lasting = claims | {v["name"] for v in pod["volumes"] if "persistentVolumeClaim" in v}
            for container in pod["containers"]:
                mounts = {mount["name"] for mount in container["volumeMounts"]}
                assert mounts == volumes | claims
                assert "state" in lasting or container["image"].startswith("eclipse-mosquitto")


def named(tree: object, kind: str) -> Iterator[str]:
    """The names by which a pod asks for config maps (`configMap`) or secrets (`secret`)."""
    if isinstance(tree, list):
        for item in tree:
            yield from named(item, kind)
    if isinstance(tree, dict):
        for key, inner in tree.items():
            if key in (kind, f"{kind}KeyRef"):
                yield inner.get("name") or inner["secretName"]
            else:
                yield from named(inner, kind)


def test_every_config_map_is_there_and_every_secret_is_told_how_to_make() -> None:
    page = (ROOT / "docs" / "how-to" / "run-in-kubernetes.md").read_text("utf-8")

    for overlay in OVERLAYS:
        maps = {found["metadata"]["name"] for found in of(overlay, "ConfigMap")}
        for name, pod in pods(overlay):
            assert set(named(pod, "configMap")) <= maps, name
            for secret in named(pod, "secret"):
                assert f"secret generic {secret} " in page or f"`{secret}`" in page, secret


def test_selectors_find_their_pods_and_nobody_elses() -> None:
    for overlay in OVERLAYS:
        labels = {
            w["metadata"]["name"]: w["spec"]["template"]["metadata"]["labels"].items()
            for w in of(overlay, "StatefulSet", "Deployment")
        }
        for service in of(overlay, "Service"):
            wanted = service["spec"]["selector"].items()
            found = [name for name, own in labels.items() if wanted <= own]
            assert found == [service["metadata"]["name"]]


def said_of_the_client() -> Iterator[tuple[tuple[str, str], list[str]]]:
    """What the reference of the hub's client says that it asks: (group, resource) and verbs."""
    page = (ROOT / "docs" / "reference" / "hub-client.md").read_text("utf-8")
    for line in page.splitlines():
        group, resources, verbs = (*(cell.strip() for cell in line.split("|")[1:4]), "", "", "")[:3]
        if "`" in resources and set(verbs.split(", ")) <= VERBS:
            plain = group.strip("`") if "`" in group else ""
            for resource in re.findall(r"`([^`]+)`", resources):
                yield (plain, resource), sorted(verbs.split(", "))


@pytest.mark.parametrize("overlay", ["edge", "single-process"])
def test_an_edge_may_do_what_its_verbs_need_and_no_more(overlay: str) -> None:
    rules: dict[tuple[str, str, tuple[str, ...]], list[str]] = {
        (group, resource, tuple(rule.get("resourceNames", ()))): sorted(rule["verbs"])
        for role in of(overlay, "Role")
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    own = ("coordination.k8s.io", "leases", (f"twinbridge-{NODE}",))
    assert not of(overlay, "ClusterRole", "ClusterRoleBinding")
    # Nobody can be given the right to create by name, nor needs another one without it.
    assert sorted([*rules.pop(own), "create"]) == ["create", "get", "update"]
    assert rules.pop(("coordination.k8s.io", "leases", ())) == ["create"]
    granted = {(group, resource): verbs for (group, resource, _), verbs in rules.items()}
    asked = dict(said_of_the_client())
    assert asked.pop(("coordination.k8s.io", "leases")) == ["create", "get", "update"]
    assert granted == asked


@pytest.mark.parametrize("overlay", ["edge", "single-process"])
def test_the_account_is_named_as_the_admission_policy_expects(overlay: str) -> None:
    (account,) = of(overlay, "ServiceAccount")
    (policy,) = of(overlay, "ValidatingAdmissionPolicy")
    user = f"system:serviceaccount:twinbridge:{account['metadata']['name']}"
    prefix = user.removesuffix(NODE)

    assert f"'{prefix}'" in policy["spec"]["matchConditions"][0]["expression"]
    assert f"'{prefix}'" in policy["spec"]["variables"][0]["expression"]
    roles = {role["metadata"]["name"] for role in of(overlay, "Role")}
    for binding in of(overlay, "RoleBinding"):
        assert binding["roleRef"]["name"] in roles
        (subject,) = binding["subjects"]
        assert subject == {
            "kind": "ServiceAccount",
            "name": account["metadata"]["name"],
            "namespace": "twinbridge",
        }
