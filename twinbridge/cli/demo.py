"""`twinbridge demo`: simulated machines, an edge, and a story told on the terminal."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from twinbridge.cli.loops import loop_factory
from twinbridge.cli.options import DEFAULT_API, split_address


def demo(
    api: Annotated[str, typer.Option("--api", help="HOST:PORT of the REST API.")] = DEFAULT_API,
    once: Annotated[
        bool,
        typer.Option(
            "--once", help="Tell the story unattended; exit 0 only if all of it happened."
        ),
    ] = False,
    pods: Annotated[
        bool,
        typer.Option("--pods", help="The edge is five processes, and some of them are killed."),
    ] = False,
    hub: Annotated[
        bool,
        typer.Option("--hub", help="With a hub, which is unplugged while things go wrong."),
    ] = False,
) -> None:
    """Show it: machines of three protocols, and how one stops another in milliseconds."""
    from twinbridge.cli.demo_view import DemoView, free_port, run_demo
    from twinbridge.cli.logs import configure_logs

    if pods and hub:
        raise typer.BadParameter("give --pods or --hub, not both")
    edge = "hub" if hub else "pods" if pods else "process"
    configure_logs(json_lines=False, level="error")
    host, wanted = split_address(api)
    port = free_port(host, wanted)
    with tempfile.TemporaryDirectory(prefix="twinbridge-demo-") as state:
        view = DemoView(f"http://{host}:{port}", quiet=once)
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            figures = runner.run(run_demo(view, host, port, Path(state), once=once, edge=edge))
    if once:
        typer.echo(json.dumps(figures, indent=2))


def register(app: typer.Typer) -> None:
    app.command()(demo)
