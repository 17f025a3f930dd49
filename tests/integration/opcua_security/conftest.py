"""The server that the tests of this folder share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from secured_server import Bench

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="package")
def bench() -> Iterator[Bench]:
    shared = Bench()
    shared.run(shared.open())
    yield shared
    shared.close()
