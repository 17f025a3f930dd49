from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from twinbridge.adapters.store_sqlite import open_store
from twinbridge.testing.fakes import FakeDisk, FakeStore
from twinbridge.testing.store_contract import Opener, StoreContract

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class TestSqliteStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "state"

    def opener(self) -> Opener:
        return lambda: open_store(self.folder)


class TestFakeStore(StoreContract):
    def opener(self) -> Opener:
        disk = FakeDisk()

        @asynccontextmanager
        async def opened() -> AsyncIterator[FakeStore]:
            yield FakeStore(disk)

        return opened
