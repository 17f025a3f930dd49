"""OPC UA: 1,000 items that change ten times a second, by subscription, through to the twin.

The floor is a bare asyncua subscription to the same items that counts what it is told.
"""

from __future__ import annotations

import asyncio

import yaml
from rig import (
    NODE,
    Broken,
    arguments,
    cost_per,
    counting,
    finish,
    free_port,
    show,
    twinbridge_over,
)

DEVICES = 10
VERSION = "devices.twinbridge.io/v1alpha1"


def definitions(url: str, namespace: str, items: int, sampling: int) -> str:
    """DEVICES devices on one server, `items` in all, each of them read-only numbers."""
    share = items // DEVICES
    resources: list[object] = []
    for device in range(DEVICES):
        names = range(device * share, (device + 1) * share)
        properties = [
            {"name": f"v{n}", "type": "float", "opcua": {"node": f"nsu={namespace};s=v{n}"}}
            for n in names
        ]
        connection = {"url": url, "allowInsecure": True, "queueSize": 20}
        resources.append(_resource("DeviceModel", f"model-{device}", {"properties": properties}))
        spec = {
            "modelRef": {"name": f"model-{device}"},
            "nodeName": NODE,
            "connection": {"opcua": connection},
            "poll": {"interval": f"{sampling}ms"},
        }
        resources.append(_resource("Device", f"m{device}", spec))
    return str(yaml.safe_dump_all(resources))


def _resource(kind: str, name: str, spec: object) -> dict[str, object]:
    return {"apiVersion": VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


async def opcua(items: int, rate: float, seconds: float, warm_up: float, *, as_json: bool) -> None:
    rows: dict[str, dict[str, float]] = {}
    sampling = round(1000 / rate)
    load = ("--items", items)
    async with counting("opcua_machine.py", *load, "--rate", rate, free_port()) as machine:
        where = await machine.told()
        place = (where["url"], where["namespace"])
        async with counting("opcua_floor.py", *load, "--sampling", sampling, *place) as bare:
            await asyncio.sleep(warm_up)
            rows["floor"] = await cost_per(bare, "samples", seconds)
        async with twinbridge_over(definitions(*place, items, sampling)) as ours:
            await asyncio.sleep(warm_up)
            rows["twinbridge"] = await cost_per(ours, "twinbridge_samples_total", seconds)
        rows["machine"] = await cost_per(machine, "changed", min(seconds, 5.0))
    # Each for what it was told: a server under load does not tell both the same.
    rows["ratio"] = {
        "core": rows["twinbridge"]["core"] / rows["floor"]["core"],
        "per_second": rows["twinbridge"]["per_second"] / rows["floor"]["per_second"],
    }
    show("opcua", rows, as_json=as_json)
    if rows["ratio"]["per_second"] < 0.9:
        raise Broken("less than nine tenths of what the floor was told came to the twin")


if __name__ == "__main__":
    options = arguments(__doc__, items=1000, rate=10.0, seconds=20.0, warm_up=8.0).parse_args()
    finish(
        opcua(options.items, options.rate, options.seconds, options.warm_up, as_json=options.json)
    )
