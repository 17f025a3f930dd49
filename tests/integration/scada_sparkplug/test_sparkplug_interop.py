"""Payloads read and commands written by a codec that others wrote: npm's sparkplug-payload."""

from __future__ import annotations

import base64
import json
import math
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sparkplug_life import Stage, full_life, plant, told, until
from sparkplug_record import BIRTHS, DATA, NUMBERED, Recording, form

from twinbridge.adapters.scada_sparkplug.payload import DataType, Field, Metric, decode

FOLDER = Path(__file__).parent
NAMES = {
    DataType.INT32: "Int32",
    DataType.INT64: "Int64",
    DataType.UINT64: "UInt64",
    DataType.DOUBLE: "Double",
    DataType.BOOLEAN: "Boolean",
    DataType.STRING: "String",
}


def foreign(asked: Sequence[dict[str, Any]]) -> list[Any]:
    """What the foreign codec answers to each."""
    if not (FOLDER / "node_modules" / "sparkplug-payload").exists():
        pytest.fail("sparkplug-payload is missing; scripts/test runs npm install in this folder")
    done = subprocess.run(
        ["node", "codec.mjs"],
        input="".join(json.dumps(each) + "\n" for each in asked),
        capture_output=True,
        text=True,
        cwd=FOLDER,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return told(tmp_path_factory.mktemp("life"), full_life, *plant())


def read(life: Recording, *verbs: str) -> list[tuple[Any, Any]]:
    """Our payloads with what the foreign codec makes of them."""
    said = life.of(*verbs)
    asked = [{"decode": base64.b64encode(s.message.payload).decode()} for s in said]
    return list(zip((s.payload for s in said), foreign(asked), strict=True))


def same(ours: Metric, theirs: Any) -> bool:
    """Integers are texts there: 64 bits are too many for its numbers."""
    value = theirs.get("value")
    if ours.value is None:
        return value is None
    if ours.field is Field.LONG:
        return int(value) % 2**64 == ours.value
    return equal(ours.value, value)


def equal(ours: object, theirs: object) -> bool:
    """A float of a whole number is printed there as one."""
    if isinstance(ours, float) and isinstance(theirs, int | float):
        return math.isclose(theirs, ours)
    return theirs == ours


def test_births_are_read_as_they_are_meant(life: Recording) -> None:
    found = 0
    for ours, theirs in read(life, *BIRTHS):
        assert int(theirs["seq"]) == ours.seq
        assert int(theirs["timestamp"]) == ours.timestamp
        assert len(theirs["metrics"]) == len(ours.metrics)
        for metric, other in zip(ours.metrics, theirs["metrics"], strict=True):
            found += 1
            assert other["name"] == metric.name
            assert other["type"] == NAMES[DataType(metric.datatype)]
            assert same(metric, other), (metric, other)
            assert int(other["timestamp"]) == metric.timestamp
            beside = {name: p["value"] for name, p in other.get("properties", {}).items()}
            assert beside.keys() == {p.name for p in metric.properties}
            assert all(equal(p.value, beside[p.name]) for p in metric.properties), beside
    assert found > 100


def test_data_is_read_as_it_is_meant(life: Recording) -> None:
    for ours, theirs in read(life, *DATA):
        assert int(theirs["seq"]) == ours.seq
        for metric, other in zip(ours.metrics, theirs["metrics"], strict=True):
            assert int(other["alias"]) == metric.alias
            assert int(other["timestamp"]) == metric.timestamp


def test_every_message_is_read(life: Recording) -> None:
    assert len(read(life, *NUMBERED, "NDEATH")) == len(life.of(*NUMBERED, "NDEATH"))


COMMANDS = [
    ("run", "Boolean", True, True),
    ("speed", "Int64", 750, 750),
    ("speed", "Int32", 751, 751),
    ("speed", "UInt16", 752, 752),
    ("setpoint", "Double", 7.5, 7.5),
    ("setpoint", "Float", 8.5, 8.5),
    ("label", "String", "größe ✓", "größe ✓"),
    ("label", "Text", "another", "another"),
]


def test_commands_of_every_type_are_understood(tmp_path: Path) -> None:
    written = foreign(
        [
            {"encode": {"timestamp": 1, "metrics": [{"name": name, "type": kind, "value": value}]}}
            for name, kind, value, _ in COMMANDS
        ]
    )

    async def story(stage: Stage) -> None:
        async with stage.node():
            stage.chapter("commands")
            stage.edge.machines.contact("pump-1", connected=True)
            await stage.until_said("NBIRTH", "DBIRTH pump-1")
            for (name, _, _, wanted), content in zip(COMMANDS, written, strict=True):
                stage.host.send(form("DCMD", "pump-1"), base64.b64decode(content))

                def there(name: str = name, wanted: object = wanted) -> bool:
                    entry = stage.edge.agent.desired.entry("pump-1", name)
                    return entry is not None and entry.value == wanted

                await until(there, f"{name} = {wanted}")

    told(tmp_path, story, *plant(), host=None)


def test_a_rebirth_is_understood(tmp_path: Path) -> None:
    metric = {"name": "Node Control/Rebirth", "type": "Boolean", "value": True}
    (written,) = foreign([{"encode": {"timestamp": 1, "metrics": [metric]}}])
    assert decode(base64.b64decode(written)).metrics[0].name == "Node Control/Rebirth"

    async def story(stage: Stage) -> None:
        async with stage.node():
            stage.chapter("births")
            await stage.until_said("NBIRTH")
            stage.chapter("a rebirth")
            stage.host.send(form("NCMD"), base64.b64decode(written))
            await stage.until_said("NBIRTH")

    told(tmp_path, story, *plant(), host=None)
