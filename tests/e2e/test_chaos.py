"""A short turn of the chaos that `benchmarks/chaos.py` makes for ten minutes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

CHAOS = Path(__file__).parents[2] / "benchmarks" / "chaos.py"


def test_no_trip_record_or_outcome_is_lost_or_doubled_while_pods_are_killed() -> None:
    done = subprocess.run(
        [sys.executable, str(CHAOS), "--seconds", "20", "--json"],
        capture_output=True,
        text=True,
        timeout=115,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout)
    assert sum(figures["kills"].values()) >= 3
    assert figures["trips"]
    assert figures["outcomes"]
