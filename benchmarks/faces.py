"""The plain MQTT face: 10,000 changes a second, out of the agent and through a real broker.

200 devices of 50 properties; a client counts the values that come to it. The same changes
without a face show what the agent itself costs, and a bare paho client that publishes such
messages flat out what a message costs at least.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from mqtt import mosquitto
from rig import Broken, arguments, counting, finish, show

LEAST = 0.9


async def ran(*options: object) -> Mapping[str, float]:
    async with counting("faces_agent.py", *options) as agent:
        return await agent.told()


async def faces(
    rate: float, at_once: int, seconds: float, warm_up: float, *, properties: bool, as_json: bool
) -> None:
    load: list[object] = ["--rate", rate, "--at-once", at_once]
    load += ["--seconds", seconds, "--warm-up", warm_up]
    rows: dict[str, dict[str, float]] = {}
    async with mosquitto() as port, counting("faces_reader.py", port) as reader:
        rows["floor"] = dict(await ran("--floor", "--port", port, *load))
        rows["no face"] = dict(await ran(*load))
        await asyncio.sleep(0.5)  # the reader is there
        topics = ["--property-topics"] if properties else []
        rows["face"] = dict(await ran("--port", port, *load, *topics))
        counts = await reader.counts()
    told = rows["face"].pop("told")
    rows["no face"].pop("told")
    rows["face"]["delivered"] = counts["values"] / told
    least = rows["floor"]["core"] / rows["floor"]["messages_per_second"]
    cost = rows["face"]["core"] - rows["no face"]["core"]
    rows["ratio"] = {
        "core": cost / (least * rows["face"]["messages_per_second"]),
        "changes_per_second": rows["face"]["changes_per_second"] / rate,
    }
    show("faces", rows, as_json=as_json)
    if rows["ratio"]["changes_per_second"] < LEAST:
        raise Broken("the pipeline fell behind")


if __name__ == "__main__":
    parser = arguments(__doc__, rate=10_000.0, at_once=50, seconds=10.0, warm_up=2.0)
    parser.add_argument("--property-topics", action="store_true", help="one topic each as well")
    found = parser.parse_args()
    finish(
        faces(
            found.rate,
            found.at_once,
            found.seconds,
            found.warm_up,
            properties=found.property_topics,
            as_json=found.json,
        )
    )
