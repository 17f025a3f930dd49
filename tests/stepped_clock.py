"""`twinbridge` in a process whose wall clock jumps ahead by an hour, three seconds after start."""

from __future__ import annotations

import time

from twinbridge.cli.main import main

HOUR = 3600
BEGAN = time.monotonic()
AFTER = 3.0

_real_ns, _real = time.time_ns, time.time


def _step() -> int:
    return HOUR if time.monotonic() - BEGAN > AFTER else 0


time.time_ns = lambda: _real_ns() + _step() * 1_000_000_000
time.time = lambda: _real() + _step()
main()
