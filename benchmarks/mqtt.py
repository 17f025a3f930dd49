"""MQTT: 2,000 messages a second of JSON with five properties each, through to the twin.

200 devices behind one mosquitto, each telling ten times a second; every value of every message is
new. The floor is a bare paho client that parses the same messages.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import yaml
from mqtt_machines import PROPERTIES
from rig import (
    NODE,
    START_LIMIT,
    Broken,
    arguments,
    cost_per,
    counting,
    finish,
    free_port,
    process,
    show,
    twinbridge_over,
)

VERSION = "devices.twinbridge.io/v1alpha1"


def definitions(port: int, devices: int, interval: int) -> str:
    model = {
        "properties": [
            {
                "name": name,
                "type": "float",
                "mqtt": {"topic": "bench/{device}/state", "pointer": f"/{name}"},
            }
            for name in PROPERTIES
        ]
    }
    resources = [_resource("DeviceModel", "machine", model)]
    for device in range(devices):
        spec = {
            "modelRef": {"name": "machine"},
            "nodeName": NODE,
            "connection": {"mqtt": {"url": f"mqtt://127.0.0.1:{port}", "maxAge": "10s"}},
            "poll": {"interval": f"{interval}ms"},
        }
        resources.append(_resource("Device", f"m{device}", spec))
    return str(yaml.safe_dump_all(resources))


def _resource(kind: str, name: str, spec: object) -> dict[str, object]:
    return {"apiVersion": VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


@asynccontextmanager
async def mosquitto() -> AsyncIterator[int]:
    """A broker of its own; gives the port."""
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        raise Broken("mosquitto is not installed (Debian: mosquitto)")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="twinbridge-bench-") as folder:
        config = Path(folder, "mosquitto.conf")
        lines = (f"listener {port} 127.0.0.1", "allow_anonymous true", "set_tcp_nodelay true")
        config.write_text("\n".join(lines))  # noqa: ASYNC240 - before anything is measured
        async with process(program, "-c", config, stderr=asyncio.subprocess.DEVNULL):
            await _listens(port)
            yield port


async def _listens(port: int) -> None:
    for _ in range(round(START_LIMIT / 0.05)):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        await asyncio.sleep(0.05)
    raise Broken("mosquitto does not listen")


async def mqtt(devices: int, rate: float, seconds: float, warm_up: float, *, as_json: bool) -> None:
    rows: dict[str, dict[str, float]] = {}
    interval = round(1000 * devices / rate)
    load = ("--devices", devices, "--rate", rate)
    async with mosquitto() as port, counting("mqtt_machines.py", *load, port) as machines:
        async with counting("mqtt_floor.py", port) as bare:
            await asyncio.sleep(warm_up)
            rows["floor"] = await cost_per(bare, "messages", seconds)
        async with twinbridge_over(definitions(port, devices, interval)) as ours:
            await asyncio.sleep(warm_up)
            rows["twinbridge"] = await cost_per(ours, "twinbridge_samples_total", seconds)
        rows["machines"] = await cost_per(machines, "sent", min(seconds, 5.0))
    told = rows["floor"]["per_second"] * len(PROPERTIES)
    rows["ratio"] = {
        "core": rows["twinbridge"]["core"] / rows["floor"]["core"],
        "per_second": rows["twinbridge"]["per_second"] / told,
    }
    show("mqtt", rows, as_json=as_json)
    if rows["ratio"]["per_second"] < 0.9:
        raise Broken("less than nine tenths of what was sent came to the twin")


if __name__ == "__main__":
    options = arguments(__doc__, devices=200, rate=2000.0, seconds=20.0, warm_up=5.0).parse_args()
    finish(
        mqtt(options.devices, options.rate, options.seconds, options.warm_up, as_json=options.json)
    )
