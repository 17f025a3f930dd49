"""What the tests of whole commands share."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def usual_ports() -> Iterator[None]:
    """The examples' machines listen on fixed ports: one test at a time has them."""
    with Path(tempfile.gettempdir(), "twinbridge-usual-ports.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
