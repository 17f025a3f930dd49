"""A plant: 100 devices of 50 registers every 500 ms, 10 % of the values changing."""

from __future__ import annotations

from load import Load
from rig import arguments, compare, finish, show


async def plant(seconds: float, warm_up: float, *, as_json: bool) -> None:
    load = Load(devices=100, registers=50, interval=500)
    show("plant", await compare(load, seconds, warm_up), as_json=as_json)


if __name__ == "__main__":
    options = arguments(__doc__, seconds=30.0, warm_up=5.0).parse_args()
    finish(plant(options.seconds, options.warm_up, as_json=options.json))
