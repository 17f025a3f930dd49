"""`twinbridge hub`: the Kubernetes API for our kinds, where there is no cluster."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from twinbridge.cli.loops import loop_factory
from twinbridge.cli.options import (
    LogFormat,
    LogFormatOption,
    LogLevel,
    LogLevelOption,
    split_address,
)
from twinbridge.errors import InvalidInput

DEFAULT_LISTEN = "127.0.0.1:8480"
DEFAULT_STATE = Path("twinbridge-hub")


@dataclass(frozen=True, slots=True)
class HubCommand:
    host: str
    port: int
    state_dir: Path
    token_file: Path | None
    tls: tuple[Path, Path] | None
    keep_events: timedelta


def hub(
    listen: Annotated[str, typer.Option("--listen", help="HOST:PORT; port 0: any free one.")] = (
        DEFAULT_LISTEN
    ),
    state_dir: Annotated[
        Path, typer.Option("--state-dir", help="Where everything is kept, in hub.db.")
    ] = DEFAULT_STATE,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help="Lines of TOKEN,NAME,ROLE[,NODE]; needed off loopback."),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", help="Certificate chain, PEM.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="Its key, PEM.")] = None,
    keep_events: Annotated[
        str, typer.Option("--keep-events", help="How long Events are kept.")
    ] = "1h",
    log_format: LogFormatOption = LogFormat.TEXT,
    log_level: LogLevelOption = LogLevel.INFO,
) -> None:
    """Serve DeviceModels, Devices, Rules and EdgeNodes as a Kubernetes API server does."""
    from twinbridge.api.wire import parse_duration
    from twinbridge.cli.logs import configure_logs

    configure_logs(json_lines=log_format is LogFormat.JSON, level=log_level)
    if (tls_cert is None) != (tls_key is None):
        raise InvalidInput("--tls-cert and --tls-key go together: give both, or none")
    host, port = split_address(listen)
    kept = timedelta(microseconds=parse_duration(keep_events, "--keep-events") / 1000)
    tls = (tls_cert, tls_key) if tls_cert and tls_key else None
    command = HubCommand(host, port, state_dir, token_file, tls, kept)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run_hub(command))


async def run_hub(command: HubCommand, stop: asyncio.Event | None = None) -> None:
    """Serve until SIGTERM or SIGINT (or `stop`). Raises InvalidInput, StoreUnavailable."""
    from twinbridge.api.crds import crds
    from twinbridge.cli.drivers import installed_drivers
    from twinbridge.cli.process import known_errors_alone, log, settle_memory, stop_on_signals
    from twinbridge.hub.fleet import PREFIX, Fleet
    from twinbridge.hub.hub import HubOptions, open_hub
    from twinbridge.hub.rules_cel import INSTALLED
    from twinbridge.hub.serve import Listen, Tls, serve

    if not INSTALLED:
        raise InvalidInput(
            "the hub checks resources by cel-python, which is not installed: pip install"
            " 'twinbridge[hub]'"
        )

    stop = stop or stop_on_signals()
    definitions = list(crds(installed_drivers()).values())
    options = HubOptions(command.state_dir, definitions, command.token_file, command.keep_events)
    listen = Listen(command.host, command.port, Tls(*command.tls) if command.tls else None)
    with known_errors_alone():
        async with (
            open_hub(options) as hub,
            serve(hub, hub.api({PREFIX: Fleet(hub).app}), listen) as url,
        ):
            settle_memory()
            access = "tokens" if command.token_file else "everybody on this machine, for all"
            log.info("ready", hub=url, access=access)
            await stop.wait()
            log.info("stopping")
    log.info("stopped")


def register(app: typer.Typer) -> None:
    app.command()(hub)
