"""How a story is told: on a fresh stage, within a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager

import pytest

from twinbridge.testing.driver_contract.stage import DriverStage

STORY_SECONDS = 60.0


class Stories:
    """`stage()` gives a fresh stage whose machines are started."""

    def stage(self) -> AbstractAsyncContextManager[DriverStage]:
        raise NotImplementedError

    def use(self, story: Callable[[DriverStage], Awaitable[None]]) -> None:
        async def told() -> None:
            async with self.stage() as stage:
                await story(stage)

        self.run(asyncio.wait_for(told(), STORY_SECONDS))

    def run(self, told: Coroutine[None, None, None]) -> None:
        """Overridden where a machine takes long to make, and several stories share its loop."""
        asyncio.run(told)


def needs(able: object, what: str) -> None:
    """Skip a story that the protocol cannot tell."""
    if not able:
        pytest.skip(f"the protocol has no {what}")
