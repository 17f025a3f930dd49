"""Growth: CPU and memory at 10, 100 and 1,000 devices of 50 registers every 500 ms."""

from __future__ import annotations

from load import Load
from rig import arguments, compare, finish, show

SIZES = (10, 100, 1000)


async def growth(seconds: float, warm_up: float, *, as_json: bool) -> None:
    rows: dict[str, dict[str, float]] = {}
    for devices in SIZES:
        found = await compare(Load(devices, registers=50, interval=500), seconds, warm_up)
        ours, bare = found["twinbridge"], found["floor"]
        rows[f"{devices} devices"] = {
            "core": ours["core"],
            "floor_core": bare["core"],
            "ratio": found["ratio"]["core"],
            "on_time": ours["on_time"],
            "resident_mib": ours["resident_mib"],
            "millicore/device": 1000 * ours["core"] / devices,
        }
    show("growth", rows, as_json=as_json)


if __name__ == "__main__":
    options = arguments(__doc__, seconds=15.0, warm_up=5.0).parse_args()
    finish(growth(options.seconds, options.warm_up, as_json=options.json))
