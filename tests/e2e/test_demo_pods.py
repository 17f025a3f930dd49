"""The demo as processes around a broker: each of them is killed, and none outlives the demo."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from edge_process import until

pytestmark = pytest.mark.usefixtures("usual_ports")

TWINBRIDGE = Path(sys.executable).with_name("twinbridge")
KILLED = ["driver_dies", "broker_dies", "agent_dies", "agent_knows"]
PODS = 5
"""A broker, three drivers, an agent."""


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


def words(*more: str) -> list[str]:
    return [str(TWINBRIDGE), "demo", "--pods", "--once", "--api", free_address(), *more]


def children(parent: int) -> list[int]:
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii")
    return [int(child) for child in found.split()]


def command(process: int) -> bytes:
    return Path(f"/proc/{process}/cmdline").read_bytes()


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state.split()[0] != "Z"


@contextmanager
def demo(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """With all its processes; killed at the end if it still runs."""
    log = folder / "demo.log"
    with log.open("w") as said:
        process = subprocess.Popen(
            words(), stdout=said, stderr=said, text=True, env=os.environ | {"TMPDIR": str(folder)}
        )

    def begun() -> bool:
        assert process.poll() is None, log.read_text()
        return len(children(process.pid)) == PODS

    try:
        until(begun, "all processes", 60)
        yield process
    finally:
        process.kill()
        process.wait(10)


@pytest.mark.timeout(180)
def test_the_story_happens_as_pods_that_are_killed_one_by_one() -> None:
    done = subprocess.run(words(), capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    figures = json.loads(done.stdout[done.stdout.rindex("\n{") :])
    assert [step for step in figures["steps"] if step in KILLED] == KILLED
    assert figures["steps"][0] == "connect"
    assert figures["steps"][-1] == "release_leak"
    assert figures["devices"] == PODS
    assert done.stderr == ""


def test_a_demo_that_is_told_to_end_ends_all_its_processes_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    with demo(tmp_path) as process:
        pods = children(process.pid)
        process.terminate()
        process.wait(40)
    assert not [pod for pod in pods if alive(pod)]
    assert [path.name for path in tmp_path.iterdir()] == ["demo.log"]


def test_no_process_outlives_a_demo_that_is_killed(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        pods = children(process.pid)
        process.kill()
        process.wait(10)
        until(lambda: not [pod for pod in pods if alive(pod)], "the end of all processes")


def test_a_process_that_dies_is_named_with_what_it_said_last(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        (agent,) = (pod for pod in children(process.pid) if b"\0agent\0" in command(pod))
        (said_by_it,) = tmp_path.glob("*/agent.log")
        until(lambda: "ready" in said_by_it.read_text(), "the agent's own log", 60)
        os.kill(agent, signal.SIGKILL)
        assert process.wait(30) == 1
    said = (tmp_path / "demo.log").read_text()
    assert "twinbridge: agent ended by itself, with -9; it said last:" in said
    assert "ready" in said.partition("it said last:")[2]
    assert "Traceback" not in said
