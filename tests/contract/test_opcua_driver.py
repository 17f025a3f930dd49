"""The OPC UA driver does what every driver must, subscribed or polled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from typing import ClassVar

import pytest
from opcua_stage import Machine, OpcUaStage

from twinbridge.testing.driver_contract import DriverContract, DriverStage
from twinbridge.testing.driver_contract.base import Stories
from twinbridge.testing.driver_contract.values import ValueStories
from twinbridge.testing.driver_contract.writes import WriteStories


class OnOneServer(Stories):
    """A server takes seconds to make: all stories share one, and its loop."""

    runner: ClassVar[asyncio.Runner]
    machine: ClassVar[Machine]
    mode = "subscribe"

    def run(self, told: Coroutine[None, None, None]) -> None:
        self.runner.run(told)

    def stage(self) -> AbstractAsyncContextManager[DriverStage]:
        return OpcUaStage(self.machine, self.mode)


@pytest.fixture(scope="module", autouse=True)
def one_server() -> Iterator[None]:
    with asyncio.Runner() as runner:
        machine = Machine()
        runner.run(machine.open())
        OnOneServer.runner, OnOneServer.machine = runner, machine
        yield
        runner.run(machine.server.stop())


class TestOpcUaDriver(OnOneServer, DriverContract):
    pass


class TestOpcUaDriverThatPolls(OnOneServer, ValueStories, WriteStories):
    mode = "poll"
