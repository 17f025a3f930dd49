import asyncio
from pathlib import Path

import pytest
from mosquitto import Mosquitto
from plain_rig import Scada, shown, soon


@pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])
def test_a_change_is_told_at_once_and_the_twin_is_retained(tmp_path: Path, *, v5: bool) -> None:
    async def story() -> None:
        with Mosquitto(tmp_path) as broker:
            async with shown(broker.port) as plant, Scada(broker.port, v5=v5) as scada:
                plant.edge.machines.report("pump-1", temperature=71.5)
                await soon(lambda: scada.of("pump-1/changes"))
                (change,) = scada.of("pump-1/changes")
                assert list(change.content["properties"]) == ["temperature"]
                assert not change.retained
                await soon(lambda: scada.value("pump-1/twin", "temperature") == (71.5, "good"))

    asyncio.run(story())
