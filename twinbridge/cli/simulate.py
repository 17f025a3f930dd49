"""`twinbridge simulate`: simulated machines for the Devices of some YAML, on their own ports."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from twinbridge.cli.loops import loop_factory
from twinbridge.cli.options import split_address
from twinbridge.errors import Unreachable

if TYPE_CHECKING:
    from fastapi import FastAPI

    from twinbridge_simulators.faults import Fault
    from twinbridge_simulators.simulation import Simulation


def simulate(
    files: Annotated[
        list[str], typer.Option("-f", "--file", help="YAML file or folder; may be repeated.")
    ],
    fault: Annotated[
        list[str] | None,
        typer.Option("--fault", help="MACHINE=KIND[,key=value...] from the start; repeatable."),
    ] = None,
    control: Annotated[
        str | None, typer.Option("--control", help="HOST:PORT of the REST API for faults.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Makes waveforms repeatable.")] = 0,
) -> None:
    """Serve simulated machines for the Devices in FILES, on the ports that they name."""
    # Imported here so that other commands do not wait for it.
    from twinbridge_simulators.faults import parse_fault
    from twinbridge_simulators.simulation import Simulation

    address = split_address(control) if control else None
    faults = [parse_fault(text) for text in fault or ()]
    simulation = Simulation.from_paths(files, seed)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve(simulation, faults, address))


async def _serve(
    simulation: Simulation, faults: list[tuple[str, Fault]], control: tuple[str, int] | None
) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with simulation:
        for name, fault in faults:
            simulation.fault(name, fault)
        for line in simulation.lines():
            typer.echo(line)
        if control is None:
            typer.echo("ready")
            await stopped.wait()
            return
        from twinbridge_simulators.control import control_app

        async with _served(control_app(simulation), *control) as port:
            typer.echo(f"control http://{control[0]}:{port}")
            typer.echo("ready")
            await stopped.wait()


@asynccontextmanager
async def _served(app: FastAPI, host: str, port: int) -> AsyncIterator[int]:
    """Serve an app; gives the port. Raises Unreachable when the address cannot be had."""
    import socket

    import uvicorn

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Signals belong to the command."""
            yield

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise Unreachable(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    server = Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve([listening]), name="simulator control")
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True


def register(app: typer.Typer) -> None:
    app.command()(simulate)
