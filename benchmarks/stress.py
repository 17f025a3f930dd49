"""Stress: 100 devices of 100 registers every 100 ms: 100,000 values a second, 10 % changing."""

from __future__ import annotations

from load import Load
from rig import arguments, compare, finish, show


async def stress(seconds: float, warm_up: float, *, as_json: bool) -> None:
    load = Load(devices=100, registers=100, interval=100)
    show("stress", await compare(load, seconds, warm_up), as_json=as_json)


if __name__ == "__main__":
    options = arguments(__doc__, seconds=30.0, warm_up=5.0).parse_args()
    finish(stress(options.seconds, options.warm_up, as_json=options.json))
