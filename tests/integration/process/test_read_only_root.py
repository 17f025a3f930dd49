"""It needs to write in its state directory only, and no rights of root."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from asking import status_of
from edge_process import COMMAND, free_port, machines, until
from line import MODEL, bank, device

LOCKED_UP = """
mount --make-rprivate /
mount --bind "$STATE" "$STATE"
mount -o remount,bind,ro /
cd "$STATE"
exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
"""
"""As a container with a read-only root: one folder can be written, every capability is gone."""


def test_it_runs_on_a_read_only_root_without_capabilities(tmp_path: Path) -> None:
    own = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    state, plant, log = tmp_path / "state", tmp_path / "plant.yaml", tmp_path / "log"
    state.mkdir()
    port = free_port()
    arguments = ["run", "-f", str(plant), "--state-dir", str(state), "--api", f"127.0.0.1:{port}"]
    with machines({1: bank(1)}) as plc, log.open("wb") as said:
        plant.write_text(MODEL + device("a", plc.port))
        running = subprocess.Popen(
            ["unshare", "--mount", *own, "sh", "-ec", LOCKED_UP, "sh", *COMMAND, *arguments],
            env=os.environ | {"STATE": str(state), "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=said,
            stderr=said,
        )
        try:
            url = f"http://127.0.0.1:{port}/readyz"
            until(lambda: status_of(url) == 200 or running.poll() is not None, "ready")
            assert running.poll() is None, log.read_text()
            seen = Path(f"/proc/{running.pid}")
            assert "CapEff:\t0000000000000000" in (seen / "status").read_text()
            (root,) = [m for m in (seen / "mounts").read_text().splitlines() if m.split()[1] == "/"]
            assert root.split()[3].startswith("ro,")
            running.send_signal(signal.SIGTERM)
            assert running.wait(15) == 0, log.read_text()
        finally:
            running.kill()
            running.wait(10)
    assert "Traceback" not in log.read_text()
    assert (state / "state.db").exists()
