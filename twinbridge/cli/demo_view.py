"""What the demo starts and what it shows."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGINT, SIGTERM, raise_signal
from typing import Any, TypeVar

import httpx
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

import twinbridge_simulators
from twinbridge.cli.demo_hub import hub_site_running
from twinbridge.cli.demo_pods import pods_running
from twinbridge.cli.edge import EdgeOptions, run_edge
from twinbridge.cli.hub_story import HubStory
from twinbridge.cli.pods_story import PodsStory
from twinbridge.cli.process import known_errors_alone
from twinbridge.cli.story import BOILER, FAN, LEAK, MOTOR, Story
from twinbridge.errors import Unreachable
from twinbridge_simulators.faults import FaultKind
from twinbridge_simulators.machines.boiler import Boiler
from twinbridge_simulators.machines.fan import Fan
from twinbridge_simulators.machines.tesys import TesysTera
from twinbridge_simulators.simulation import Simulation

EXAMPLES = ("tesys-motor", "boiler", "leak-and-fan", "cross-protocol")
"""Modbus, OPC UA, MQTT, and rules over all of them."""
Machine = TypeVar("Machine")

REFRESH = 0.25
PACE = 2.0


def example(name: str) -> Path:
    """An example's folder: in the installed package, else in the repository."""
    installed = Path(twinbridge_simulators.__file__).parent / "examples"
    root = installed if installed.is_dir() else Path(__file__).parents[2] / "examples"
    return root / name


@dataclass(slots=True)
class SimulatedPlant:
    """The story's machines, seen by somebody who stands beside them."""

    simulation: Simulation

    def overheat(self, machine: str) -> None:
        self.simulation.fault(machine, FaultKind.OVERHEAT)

    def spill(self) -> None:
        self.simulation.fault(LEAK, FaultKind.LEAK)

    def recover(self, machine: str) -> None:
        self.simulation.clear(machine)

    def motor_runs(self) -> bool:
        return self._machine(MOTOR, TesysTera).running

    def fan_runs(self) -> bool:
        return self._machine(FAN, Fan).running

    def burner_burns(self) -> bool:
        return self._machine(BOILER, Boiler).burner

    def unlock_boiler(self) -> None:
        self._machine(BOILER, Boiler).reset()

    def _machine(self, name: str, kind: type[Machine]) -> Machine:
        machine = self.simulation.machine(name)
        if not isinstance(machine, kind):
            raise TypeError(f"{name} is simulated as {type(machine).__name__}")
        return machine


@dataclass(slots=True)
class DemoView:
    """The story so far above a live table of twins; `quiet` prints the story only."""

    url: str
    quiet: bool
    console: Console = field(default_factory=Console)
    told: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        self.told.append(line)
        if self.quiet:
            self.console.print(f"[green]✓[/] {line}", highlight=False)

    def render(self, devices: list[dict[str, Any]]) -> Group:
        table = Table(title=f"Twins, as {self.url}/api/v1/devices shows them")
        for column in ("device", "property", "value", "quality", "desired"):
            table.add_column(column)
        for device in sorted(devices, key=lambda d: d["name"] != MOTOR):
            for name, twin in device["properties"].items():
                table.add_row(*_row(device, name, twin))
        return Group(*(Text(f"✓ {line}") for line in self.told), table)


def _row(device: dict[str, Any], name: str, twin: dict[str, Any]) -> tuple[str, ...]:
    reported, desired = twin["reported"] or {}, twin["desired"] or {}
    value = reported.get("value")
    shown = f"{value:.2f}" if isinstance(value, float) else json.dumps(value)
    tripped = " [red]TRIPPED[/]" if device["tripped"] else ""
    quality = str(reported.get("quality", ""))
    wish = f"{json.dumps(desired['value'])} ({desired['state']})" if desired else ""
    return f"{device['name']}{tripped}", name, shown, quality, wish


async def run_demo(
    view: DemoView, host: str, port: int, state_dir: Path, *, once: bool, edge: str
) -> dict[str, Any]:
    """Run until the story is told (`once`), else until Ctrl-C; returns what was measured.

    `edge` is `process`, `pods`, or `hub`.
    """
    paths = [str(example(name)) for name in EXAMPLES]
    # kill does what Ctrl-C does: what was started is ended, and the state folder removed.
    asyncio.get_running_loop().add_signal_handler(SIGTERM, raise_signal, SIGINT)
    with known_errors_alone():
        async with Simulation.from_paths(paths) as simulation, _client(host, port) as api:
            told = (api, SimulatedPlant(simulation), view.say, 0.0 if once else PACE)
            if edge == "hub":
                async with hub_site_running(paths, state_dir, host, port) as site:
                    story: Story = HubStory(*told, hub=site.hub, site=site)
                    await _show(view, story, once=once)
            elif edge == "pods":
                async with pods_running(paths, state_dir, host, port) as processes:
                    story = PodsStory(*told, processes=processes)
                    await _show(view, story, once=once)
            else:
                options = EdgeOptions(paths, state_dir, host, port, None, None)
                async with _edge(options):
                    story = Story(*told)
                    await _show(view, story, once=once)
    return {"steps": story.steps, **story.figures}


def free_port(host: str, port: int) -> int:
    """The port, if it is free; for 0 one that is. Raises Unreachable.

    The story trips and resets: it is not to be told to another edge.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family) as server:
            return int(server.getsockname()[1])
    except OSError as error:
        why = f"the REST API cannot be served on {host}:{port}: {error.strerror}"
        raise Unreachable(f"{why}; choose another with --api") from None


def _client(host: str, port: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://{host}:{port}/api/v1", timeout=10.0)


@asynccontextmanager
async def _edge(options: EdgeOptions) -> AsyncIterator[None]:
    """An edge in this process; its own end ends the block."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(run_edge(options, stop), name="edge")
        try:
            yield
        finally:
            stop.set()


async def _answering(api: httpx.AsyncClient) -> None:
    """Until it does; what serves it ends this when it cannot."""
    while True:
        with suppress(httpx.TransportError):
            if (await api.get("/healthz")).is_success:
                return
        await asyncio.sleep(0.05)


async def _show(view: DemoView, story: Story, *, once: bool) -> None:
    await _answering(story.api)
    view.console.print(f"REST twin API: {view.url}/api/v1/devices  ({view.url}/openapi.json)")
    if once:
        await story.tell()
    else:
        await _live(view, story)


async def _live(view: DemoView, story: Story) -> None:
    """Show the twins while the story is told, and go on until interrupted."""
    with Live(console=view.console, refresh_per_second=8) as live:
        async with asyncio.TaskGroup() as group:
            group.create_task(story.tell(), name="story")
            while True:
                with suppress(httpx.TransportError):  # the agent may be gone: it is part of it
                    answer = await story.api.get("/devices")
                    live.update(view.render(answer.json()["items"]))
                await asyncio.sleep(REFRESH)
