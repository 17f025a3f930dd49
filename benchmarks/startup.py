"""Start: process begun → every value of 100 devices in the twin; `validate` of 1,000 Devices.

The floor of both is a Python that imports what is needed and ends.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from definitions import definitions
from load import Load
from rig import NODE, START_LIMIT, TWINBRIDGE, Broken, arguments, finish, generator, process, show
from rig import twinbridge as running_twinbridge

IMPORTS = "import asyncio, uvloop, pymodbus.client, pydantic, fastapi, uvicorn, yaml"


async def seconds_of(*command: object) -> float:
    begun = time.monotonic()
    async with process(*command, stdout=asyncio.subprocess.DEVNULL) as child:
        if await child.wait():
            raise Broken(f"{command[0]} {command[1]} failed")
    return time.monotonic() - begun


async def until_all_read(load: Load) -> float:
    """Seconds from starting `run` until as many samples were taken as there are values."""
    values = load.devices * load.registers
    async with generator(load) as plant, running_twinbridge(load, plant) as ours:
        while time.monotonic() < ours.started + START_LIMIT:
            if (await ours.metrics())["twinbridge_samples_total"] >= values:
                return time.monotonic() - ours.started
            await asyncio.sleep(0.02)
    raise Broken(f"not every value was read in {START_LIMIT:.0f} s")


def write(resources: Path, load: Load) -> None:
    ports = [5020 + number for number in range(load.devices // load.units_per_port)]
    resources.write_text(definitions(load, ports, [], node=NODE))


async def until_valid(load: Load) -> float:
    with tempfile.TemporaryDirectory(prefix="twinbridge-bench-") as folder:
        resources = Path(folder, "plant.yaml")
        write(resources, load)
        return await seconds_of(TWINBRIDGE, "validate", "-f", resources)


async def startup(*, as_json: bool) -> None:
    floor = await seconds_of(sys.executable, "-c", IMPORTS)
    first = await until_all_read(Load(devices=100, registers=50, interval=500))
    one_port = Load(devices=1000, registers=50, interval=500, units_per_port=200)
    valid = await until_valid(one_port)
    rows = {
        "imports": {"seconds": floor},
        "first samples": {"seconds": first, "ratio": first / floor},
        "validate 1000": {"seconds": valid, "ratio": valid / floor},
    }
    show("startup", rows, as_json=as_json)


if __name__ == "__main__":
    options = arguments(__doc__).parse_args()
    finish(startup(as_json=options.json))
