"""The demo under a hub, as a newcomer runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

TWINBRIDGE = Path(sys.executable).with_name("twinbridge")
STEPS = {"hub_starts_motor", "unplugged", "in_the_dark", "plugged", "hub_restarts_motor"}


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("usual_ports")
def test_the_story_under_a_hub_happens() -> None:
    done = subprocess.run(
        [TWINBRIDGE, "demo", "--once", "--hub", "--api", "127.0.0.1:0"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    figures = json.loads(done.stdout[done.stdout.rindex("\n{") :])
    assert set(figures["steps"]) >= STEPS
