"""`twinbridge` in a process whose wall clock is wrong.

By as many seconds as the file `TWINBRIDGE_TEST_CLOCK` says at the moment; without it the clock
jumps ahead by an hour, three seconds after start.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from twinbridge.cli.main import main

HOUR = 3600
BEGAN = time.monotonic()
AFTER = 3.0

_real_ns, _real = time.time_ns, time.time


_file = os.environ.get("TWINBRIDGE_TEST_CLOCK")


def _step() -> int:
    if _file:
        return int(Path(_file).read_text() or 0)
    return HOUR if time.monotonic() - BEGAN > AFTER else 0


time.time_ns = lambda: _real_ns() + _step() * 1_000_000_000
time.time = lambda: _real() + _step()
main()
