"""Servers that others wrote: Debian's libmodbus and npm's modbus-serial."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from modbus_rig import connection, opened, point, run, values, word
from pty_line import serial_line

from twinbridge.core.model import Access
from twinbridge.errors import WriteRejected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HERE = Path(__file__).parent
FLAGS = ("-Wall", "-Werror", "-O1")


@pytest.fixture(scope="module")
def libmodbus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server in C, compiled here."""
    program = tmp_path_factory.mktemp("libmodbus") / "server"
    source = str(HERE / "libmodbus_server.c")
    command = ["gcc", *FLAGS, "-I/usr/include/modbus", source, "-lmodbus", "-o", str(program)]
    try:
        built = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        pytest.fail("gcc is missing; scripts/test installs it")
    if built.returncode:
        pytest.fail(
            f"apt package libmodbus-dev is missing? scripts/test installs it\n{built.stderr}"
        )
    return program


@pytest.fixture(scope="module")
def node_server() -> list[str]:
    if shutil.which("node") is None or not (HERE / "node_modules" / "modbus-serial").is_dir():
        pytest.fail("modbus-serial is missing; scripts/test runs npm install in this folder")
    return ["node", str(HERE / "modbus_serial_server.mjs")]


@asynccontextmanager
async def started(*command: str) -> AsyncIterator[str]:
    """Runs a server; gives its first line."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.kill()
        await process.wait()


async def agrees(wire: dict[str, Any]) -> None:
    """Registers n hold n, and coils are on where n is odd."""
    holding = [word(f"h{n}", n, wire) for n in (0, 1, 99)]
    inputs = [word(f"i{n}", n, wire, table="input", access=Access.READ_ONLY) for n in (2, 98)]
    coils = [point(f"c{n}", "bool", wire, table="coil", address=n) for n in (0, 1, 2, 17, 99)]
    discrete = [
        point(f"d{n}", "bool", wire, table="discrete", address=n, access=Access.READ_ONLY)
        for n in (4, 33)
    ]
    async with opened(wire) as link:
        assert await values(link, [*holding, *inputs, *coils, *discrete]) == {
            "h0": 0,
            "h1": 1,
            "h99": 99,
            "i2": 2,
            "i98": 98,
            "c0": False,
            "c1": True,
            "c2": False,
            "c17": True,
            "c99": True,
            "d4": False,
            "d33": True,
        }
        total = point("total", "int", wire, address=20, encoding="int64", order="DCBA")
        label = point("label", "string", wire, address=30, encoding="string", length=4)
        bit = point("bit", "bool", wire, address=40, bit=15)
        many = word("many", 50, wire, writeFunction="multiple")
        coil = point("multi", "bool", wire, table="coil", address=60, writeFunction="multiple")
        for target, value in (
            (holding[1], 4711), (total, -(2**62)), (label, "pump-7"), (bit, True),
            (many, 5), (coils[0], True), (coil, True),
        ):  # fmt: skip
            await link.write(target, value)
            assert await values(link, [target]) == {target.spec.name: value}
        assert await values(link, [word("other bits", 40, wire)]) == {"other bits": 40 | 1 << 15}
        absent = word("absent", 100, wire)
        found = await values(link, [holding[2], absent])
        assert found == {"h99": 99, "absent": None}
        with pytest.raises(WriteRejected, match="address"):
            await link.write(absent, 1)


def test_libmodbus_over_tcp(libmodbus: Path) -> None:
    async def test() -> None:
        async with started(str(libmodbus), "tcp") as port:
            await agrees(connection(int(port), timeout="2s"))

    run(test())


def test_libmodbus_masks_a_bit_by_function_22(libmodbus: Path) -> None:
    async def test() -> None:
        async with started(str(libmodbus), "tcp") as port:
            wire = connection(int(port), timeout="2s", maskWrite=True)
            async with opened(wire) as link:
                await link.write(point("bit", "bool", wire, address=41, bit=15), True)
                await link.write(point("bit", "bool", wire, address=41, bit=0), False)
                expected = (41 | 1 << 15) & ~1
                assert await values(link, [word("w", 41, wire)]) == {"w": expected}

    run(test())


def test_libmodbus_on_a_serial_line(libmodbus: Path) -> None:
    async def test() -> None:
        with serial_line() as (ours, theirs):
            async with started(str(libmodbus), "rtu", theirs) as said:
                assert said == "ready"
                line = {"device": ours, "baudrate": 19200, "parity": "none"}
                await agrees(connection(transport="serial", serial=line, timeout="2s"))

    run(test())


def test_modbus_serial_over_tcp(node_server: list[str]) -> None:
    async def test() -> None:
        async with started(*node_server) as port:
            await agrees(connection(int(port), timeout="2s"))

    run(test())
