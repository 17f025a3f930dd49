"""The Modbus driver does what every driver must."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from modbus_stage import ModbusStage

from twinbridge.testing.driver_contract import DriverContract, DriverStage


class TestModbusDriver(DriverContract):
    def stage(self) -> AbstractAsyncContextManager[DriverStage]:
        return ModbusStage()
