"""What every driver must do: subclass `DriverContract` in a test module, give it a stage.

    class TestModbus(DriverContract):
        def stage(self) -> AbstractAsyncContextManager[DriverStage]:
            return ModbusStage()

The stage is the driver and a real machine behind it; see `DriverStage`. The stories run the whole
path: the link's worker, the pipeline, commands and trips, through a proxy that breaks on command.
"""

from twinbridge.testing.driver_contract.config import ConfigStories
from twinbridge.testing.driver_contract.faults import FaultStories
from twinbridge.testing.driver_contract.stage import Cell, DriverStage, Mistake, Traits
from twinbridge.testing.driver_contract.values import ValueStories
from twinbridge.testing.driver_contract.writes import WriteStories

__all__ = ["Cell", "DriverContract", "DriverStage", "Mistake", "Traits"]


class DriverContract(ConfigStories, ValueStories, WriteStories, FaultStories):
    """Every story. Implement `stage`."""
