"""The units name options that exist, systemd accepts them, and they give a process little."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from edge_process import cli

UNITS = Path(__file__).parents[3] / "manifests" / "systemd"
ROLES = {
    "twinbridge.service": "run",
    "twinbridge-agent.service": "agent",
    "twinbridge-driver@.service": "driver",
}
EXPOSURE = 20
"""Of 100, by `systemd-analyze security`; a service without any care has 96."""


def setting(unit: str, name: str) -> str:
    found = re.findall(rf"^{name}=(.*)$", (UNITS / unit).read_text(), re.MULTILINE)
    return str(found[-1])


def test_there_is_a_unit_for_each_role_and_no_other() -> None:
    assert {path.name for path in UNITS.glob("*.service")} == set(ROLES)


@pytest.mark.parametrize("unit", ROLES)
def test_the_command_and_its_options_exist(unit: str) -> None:
    command = shlex.split(setting(unit, "ExecStart"))
    assert command[1] == ROLES[unit]
    known = cli(ROLES[unit], "--help").stdout
    for option in (word for word in command if word.startswith("--")):
        assert option in known


@pytest.mark.parametrize("unit", ROLES)
def test_state_is_kept_where_the_service_may_write(unit: str) -> None:
    command = shlex.split(setting(unit, "ExecStart"))
    kept = command[command.index("--state-dir") + 1]
    assert kept == f"/var/lib/{setting(unit, 'StateDirectory')}"


@pytest.mark.parametrize("unit", ROLES)
def test_a_stop_has_more_time_than_it_needs_and_the_watchdog_than_a_stuck_loop(unit: str) -> None:
    assert int(setting(unit, "TimeoutStopSec")) > 5
    assert int(setting(unit, "WatchdogSec")) > 10
    assert setting(unit, "Type") == "notify"
    assert setting(unit, "Restart") == "always"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="a system without systemd")
@pytest.mark.parametrize("unit", ROLES)
def test_systemd_accepts_the_unit_and_finds_it_careful(unit: str, tmp_path: Path) -> None:
    instance = tmp_path / unit.replace("@.", "@modbus.")
    text = (UNITS / unit).read_text()
    instance.write_text(text.replace("/opt/twinbridge/bin/twinbridge", sys.executable))
    look = ("systemd-analyze", "--man=no", "verify", str(instance))
    seen = subprocess.run(look, capture_output=True, text=True, timeout=60, check=False)
    assert (seen.returncode, unit in seen.stderr) == (0, False), seen.stderr
    judge = ("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", instance)
    judged = subprocess.run(judge, capture_output=True, text=True, timeout=60, check=False)
    assert judged.returncode == 0, judged.stdout
