"""The OPC UA driver does what every driver must."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from typing import ClassVar

import pytest
from opcua_stage import Machine, OpcUaStage

from twinbridge.testing.driver_contract import DriverContract, DriverStage


@pytest.fixture(scope="module", autouse=True)
def one_server() -> Iterator[None]:
    """For all stories, on a loop of theirs."""
    with asyncio.Runner() as runner:
        machine = Machine()
        runner.run(machine.open())
        TestOpcUaDriver.runner, TestOpcUaDriver.machine = runner, machine
        yield
        runner.run(machine.server.stop())


class TestOpcUaDriver(DriverContract):
    runner: ClassVar[asyncio.Runner]
    machine: ClassVar[Machine]

    def run(self, told: Coroutine[None, None, None]) -> None:
        self.runner.run(told)

    def stage(self) -> AbstractAsyncContextManager[DriverStage]:
        return OpcUaStage(self.machine)
