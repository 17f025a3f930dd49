"""What the Dockerfile promises of each image, and that its own lines install just that."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from dockerfile import DOCKERFILE, ROOT, TARGETS, install_line

HOLDS = {
    "driver-modbus": {"pymodbus", "pyserial", "paho-mqtt"},
    "driver-opcua": {"asyncua", "cryptography", "paho-mqtt"},
    "agent": {"paho-mqtt", "protobuf"},
}
"""Of what only some roles need; the bus takes paho-mqtt to every pod."""
pytestmark = pytest.mark.timeout(300)


def test_every_role_and_protocol_is_a_target_and_the_last_is_all_in_one() -> None:
    assert set(TARGETS) <= DOCKERFILE.stages.keys()
    assert list(DOCKERFILE.stages)[-1] == "run"


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_without_rights_and_is_told_to_stop_by_sigterm(target: str) -> None:
    user, group = DOCKERFILE.last(target, "USER").said.split(":")
    assert int(user) > 0, "numeric, so that a cluster can tell that it is not root"
    assert int(group) > 0
    assert DOCKERFILE.last(target, "STOPSIGNAL").said == "SIGTERM"
    assert DOCKERFILE.last(target, "VOLUME").said == "/var/lib/twinbridge"
    assert DOCKERFILE.last(target, "WORKDIR").said == "/var/lib/twinbridge"


@pytest.mark.parametrize("target", TARGETS)
def test_the_process_is_the_command_itself_and_a_signal_reaches_it(target: str) -> None:
    entry = DOCKERFILE.last(target, "ENTRYPOINT")
    assert (entry.said[0], entry.words) == ("[", ["twinbridge"])
    command = DOCKERFILE.last(target, "CMD")
    assert command.said[0] == "["
    role, *_ = target.split("-")
    assert command.words[0] == {"simulator": "simulate"}.get(role, role)


@pytest.mark.parametrize("target", TARGETS)
def test_its_own_health_is_asked_without_a_shell(target: str) -> None:
    check = DOCKERFILE.last(target, "HEALTHCHECK").said.partition("CMD ")[2]
    command = json.loads(check)
    assert command[0] == "python"
    compile(command[2], "HEALTHCHECK", "exec")
    assert "TWINBRIDGE_HEALTH" in command[2]
    port = re.search(r":(\d+)/", DOCKERFILE.last(target, "ENV").said)
    assert port
    command = DOCKERFILE.last(target, "CMD").words
    assert port[1] in ("8470", *(word.rpartition(":")[2] for word in command)), "or the default"


def test_bases_are_tagged_and_nothing_names_a_registry() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert "latest" not in text
    outer = {s.base for s in DOCKERFILE.stages.values()} - DOCKERFILE.stages.keys()
    assert outer == {"python:3.13-slim"}
    assert "index-url" not in text


def test_what_is_copied_exists_and_reaches_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for instruction in (i for stage in DOCKERFILE.stages.values() for i in stage.own):
        sources = instruction.words[:-1] if instruction.name == "COPY" else []
        if sources and sources[0].startswith("--from="):
            assert sources[0].removeprefix("--from=") in DOCKERFILE.stages
            continue
        for source in sources:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignored, source


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_asks_for_the_extras_of_its_role(target: str) -> None:
    protocol = target.removeprefix("driver-")
    wanted = {"agent": {"mqtt", "scada", "hub", "telemetry"}, "run": {"all"}, "simulator": {"all"}}
    extras = re.search(r"\[([a-z,]+)\]", install_line(target))
    assert extras
    assert set(extras[1].split(",")) == wanted.get(target, {protocol, "mqtt"})


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wheels")
    build = ("wheel", "-q", "--no-deps", "--no-build-isolation", "--wheel-dir", place, ROOT)
    run(*(str(word) for word in (sys.executable, "-m", "pip", *build)), cwd=place)
    return place


def run(*command: str, cwd: Path) -> str:
    unwanted = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    clean = {name: value for name, value in os.environ.items() if name not in unwanted}
    # The builder's `python` and `pip` are those that run this test.
    clean["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{clean['PATH']}"
    done = subprocess.run(
        command, cwd=cwd, env=clean, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def build(wheels: Path, tmp_path: Path) -> Callable[[str], str]:
    """Runs a line of the Dockerfile, its folders moved to the test's own."""

    def shell(line: str) -> str:
        moved = (
            line.replace("/wheels/", f"{wheels}/")
            .replace("/opt/twinbridge", str(tmp_path / "opt"))
            .replace("/constraints.txt", str(ROOT / "constraints.txt"))
        )
        return run("sh", "-euc", moved, cwd=tmp_path)

    (environment,) = [i.said for i in DOCKERFILE.stages["build"].own if "venv" in i.said]
    shell(environment)
    return shell


@pytest.mark.parametrize("target", ["driver-opcua", "agent"])
def test_the_lines_of_a_target_choose_its_dependencies_and_no_others(
    target: str, build: Callable[[str], str]
) -> None:
    line = install_line(target).replace(" install ", " install --quiet --dry-run --report - ", 1)
    chosen = {part["metadata"]["name"].lower() for part in json.loads(build(line))["install"]}
    special = set.union(*HOLDS.values())
    assert chosen & special == HOLDS[target]
    assert not chosen & {"pytest", "mypy", "hypothesis", "ruff"}


def test_the_modbus_image_holds_a_command_that_works_and_no_other_protocol(
    build: Callable[[str], str], tmp_path: Path
) -> None:
    build(install_line("driver-modbus"))
    commands = tmp_path / "opt" / "bin"
    command = str(commands / "twinbridge")
    assert run(command, "--version", cwd=tmp_path).startswith("twinbridge 0.")
    example = tmp_path / "pump.yaml"
    example.write_text((ROOT / "examples" / "tesys-motor" / "model.yaml").read_text())
    assert "ok" in run(command, "validate", "-f", str(example), cwd=tmp_path)
    look = (
        "from importlib.metadata import distributions as d;"
        "print(*{x.metadata['Name'].lower() for x in d()})"
    )
    there = set(run(str(commands / "python"), "-c", look, cwd=tmp_path).split())
    assert there & set.union(*HOLDS.values()) == HOLDS["driver-modbus"]
    assert not there & {"pip", "pytest", "setuptools"}
