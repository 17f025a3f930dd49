"""The demo, as a newcomer runs it: simulated machines of three protocols and a story that holds."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

TWINBRIDGE = Path(sys.executable).with_name("twinbridge")
STEPS = {"connect", "overheat", "steam_stops_motor", "leak_shuts_boiler_down", "release_leak"}


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("usual_ports")
def test_the_story_of_three_protocols_happens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        api = f"127.0.0.1:{free.getsockname()[1]}"
    done = subprocess.run(
        [TWINBRIDGE, "demo", "--once", "--api", api],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    figures = json.loads(done.stdout[done.stdout.rindex("\n{") :])
    assert set(figures["steps"]) >= STEPS
    assert figures["devices"] == 5
    assert done.stderr == ""
