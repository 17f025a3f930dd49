"""A device that others wrote: a shell script over mosquitto_sub and mosquitto_pub."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from mosquitto import Mosquitto
from rig import Rig, running

from twinbridge.api.plant import compile_plant
from twinbridge.api.yaml_source import load_paths
from twinbridge.core.messages import Desire, DesiredState
from twinbridge.core.model import DeviceSpec, Quality
from twinbridge_mqtt import driver

FAN = """
say() { mosquitto_pub -p "$0" -r -q 1 -t plant/fan-1/state -m "{\\"run\\": $1}"; }
say false
mosquitto_sub -p "$0" -q 1 -t plant/fan-1/command | while read -r wanted; do say "$wanted"; done
"""
VERSION = "devices.twinbridge.io/v1alpha1"


def the_fan(folder: Path, port: int) -> DeviceSpec:
    command = {"topic": "plant/{device}/command", "payload": "raw"}
    where = {"topic": "plant/{device}/state", "pointer": "/run", "command": command}
    run = {"name": "run", "type": "bool", "access": "ReadWrite", "mqtt": where}
    model = {"properties": [{**run, "readBackWithin": "5s"}]}
    connection = {"url": f"mqtt://127.0.0.1:{port}", "maxAge": "60s", "keepalive": "2s"}
    device = {
        "modelRef": {"name": "fan"},
        "nodeName": "edge",
        "connection": {"mqtt": connection},
    }
    file = folder / "fan.yaml"
    file.write_text(
        yaml.safe_dump_all(
            {"apiVersion": VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
            for kind, name, spec in (("DeviceModel", "fan", model), ("Device", "fan-1", device))
        )
    )
    documents, _ = load_paths([file])
    plant = compile_plant(documents, {"mqtt": driver})
    assert plant.problems == ()
    return plant.devices["fan-1"]


@contextmanager
def running_fan(port: int) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["bash", "-c", FAN, str(port)], start_new_session=True) as fan:
        try:
            heard = ["mosquitto_sub", "-p", str(port), "-t", "plant/fan-1/state", "-C", "1"]
            subprocess.run([*heard, "-W", "10"], check=True, stdout=subprocess.DEVNULL)
            yield fan
        finally:
            subprocess.run(["pkill", "-KILL", "-g", str(fan.pid)], check=False)


async def switch(rig: Rig, version: int, *, on: bool) -> None:
    await rig.machines.handle(Desire("fan-1", "run", on, version, "test", 0))
    await rig.until(lambda: len(rig.outcomes()) == version, "the outcome")
    assert rig.outcomes()[-1].state is DesiredState.APPLIED, rig.outcomes()[-1].message
    assert rig.seen("fan-1", "run")[-1] is on


def quality(rig: Rig) -> Quality:
    return rig.machines.devices["fan-1"].samples["run"].quality


def test_a_shell_script_is_a_device_and_both_survive_the_brokers_restart(tmp_path: Path) -> None:
    async def scenario(broker: Mosquitto) -> None:
        fan = the_fan(tmp_path, broker.port)
        async with running({}, [fan], drivers={"mqtt": driver}) as rig:
            await rig.until(lambda: rig.seen("fan-1", "run") == [False], "what the fan said")
            assert quality(rig) is Quality.UNCERTAIN  # retained, and nobody knows since when
            await switch(rig, 1, on=True)
            assert quality(rig) is Quality.GOOD
            await switch(rig, 2, on=False)
            broker.kill()
            await rig.until(lambda: not rig.machines.devices["fan-1"].connected, "the loss")
            broker.start()
            with running_fan(broker.port):  # the old one gives up with the broker, as scripts do
                await rig.until(lambda: quality(rig) is not Quality.BAD, "what the fan says again")
                await switch(rig, 3, on=True)

    with Mosquitto(tmp_path / "broker") as broker, running_fan(broker.port):
        asyncio.run(asyncio.wait_for(scenario(broker), 60))
