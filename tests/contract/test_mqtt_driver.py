"""The MQTT driver does what every driver must."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from mqtt_stage import MqttStage

from twinbridge.testing.driver_contract import DriverContract, DriverStage


class TestMqttDriver(DriverContract):
    folder: Path

    @pytest.fixture(autouse=True)
    def of_its_own(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def stage(self) -> AbstractAsyncContextManager[DriverStage]:
        return MqttStage(self.folder)
