"""The server that the tests of the link share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from opcua_boiler import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="package")
def stage() -> Iterator[Stage]:
    shared = Stage()
    shared.open()
    yield shared
    shared.close()
