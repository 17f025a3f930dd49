"""What a user gets: the built wheel, in an empty environment, away from the repository."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(300)


def readme_example() -> str:
    """The machine that the README shows."""
    found = re.search(
        r"<!-- example: \S+ -->\n```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )
    assert found
    return found[1]


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def clean_environment() -> dict[str, str]:
    """Ours without what would let the child find the repository's packages."""
    unwanted = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    return {name: value for name, value in os.environ.items() if name not in unwanted}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands are of an environment that holds the wheel, nothing else of ours."""
    place = tmp_path_factory.mktemp("wheel")
    build = ("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", place, ROOT)
    run(sys.executable, "-m", "pip", *build, cwd=place)
    (wheel,) = place.glob("twinbridge-*.whl")
    venv.create(place / "venv", with_pip=True)
    commands = place / "venv" / "bin"
    constraints = ROOT / "constraints.txt"
    install = ("install", "--quiet", "--constraint", constraints, f"{wheel}[all]")
    run(commands / "python", "-m", "pip", *install, cwd=place)
    return commands


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The README's example, its Device on a port where nothing listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    path = tmp_path / "pump.yaml"
    path.write_text(readme_example().replace("port: 5020", f"port: {port}"))
    return path


def test_the_wheel_says_its_version(installed: Path, tmp_path: Path) -> None:
    assert run(installed / "twinbridge", "--version", cwd=tmp_path).startswith("twinbridge 0.")


def test_the_wheel_carries_its_own_code_only_from_its_environment(
    installed: Path, tmp_path: Path
) -> None:
    where = (
        "import twinbridge, twinbridge_modbus, twinbridge_mqtt, twinbridge_opcua;"
        "import twinbridge_simulators as s; print(s.__file__)"
    )
    assert run(installed / "python", "-c", where, cwd=tmp_path).startswith(str(installed.parent))


def test_the_wheel_carries_the_examples_that_the_demo_plays(
    installed: Path, tmp_path: Path
) -> None:
    played = (
        "from twinbridge.cli.demo_view import EXAMPLES, example;"
        "print(*(sorted(f.name for f in example(name).iterdir())[0] for name in EXAMPLES))"
    )
    assert len(run(installed / "python", "-c", played, cwd=tmp_path).split()) == 4


def test_the_readme_example_is_valid_for_the_wheel(installed: Path, example: Path) -> None:
    run(installed / "twinbridge", "validate", "-f", example, cwd=example.parent)


def test_the_wheel_runs_without_its_machine_and_ends_gracefully_when_asked(
    installed: Path, example: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        api = f"127.0.0.1:{probe.getsockname()[1]}"
    state = example.parent / "state"
    log = example.parent / "log"
    command = [installed / "twinbridge", "run", "-f", example, "--state-dir", state, "--api", api]
    with (
        log.open("wb") as out,
        subprocess.Popen(
            [*map(str, command), "--node", "edge-1"],
            cwd=example.parent,
            env=clean_environment(),
            stdout=out,
            stderr=out,
        ) as running,
    ):
        try:
            wait_until_ready(f"http://{api}/readyz", running, log)
            running.send_signal(signal.SIGTERM)
            assert running.wait(timeout=30) == 0, log.read_text()
        finally:
            running.kill()


def wait_until_ready(url: str, running: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        assert running.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                assert answer.status == 200
                return
        except urllib.error.URLError:  # not listening yet, or not ready yet
            time.sleep(0.05)
    pytest.fail(f"not ready: {log.read_text()}")
