"""`twinbridge run`: one edge, complete, in one process."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from twinbridge.cli.loops import loop_factory
from twinbridge.core.model import SECOND
from twinbridge.errors import InvalidInput

DEFAULT_API = "127.0.0.1:8470"
STUCK_AFTER = "10s"
SHORTEST_STUCK = 1.0
"""Seconds; on a busy machine a healthy loop may wait for fractions of one."""

StuckAfter = Annotated[
    str,
    typer.Option("--stuck-after", help="How long an event loop may stand before /healthz says so."),
]


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def run(
    files: Annotated[
        list[str], typer.Option("-f", "--file", help="YAML file or folder; may be repeated.")
    ],
    state_dir: Annotated[
        Path, typer.Option("--state-dir", help="Where twins, latches and the audit are kept.")
    ] = Path("twinbridge-state"),
    api: Annotated[str, typer.Option("--api", help="HOST:PORT of the REST API.")] = DEFAULT_API,
    node: Annotated[
        str | None, typer.Option("--node", help="Serve only what names this node.")
    ] = None,
    api_token_file: Annotated[
        Path | None,
        typer.Option("--api-token-file", help="Lines of `token role name`; needed off loopback."),
    ] = None,
    stuck_after: StuckAfter = STUCK_AFTER,
    log_format: Annotated[LogFormat, typer.Option("--log-format")] = LogFormat.TEXT,
    log_level: Annotated[LogLevel, typer.Option("--log-level")] = LogLevel.INFO,
) -> None:
    """Read the machines, keep their twins, watch the rules, serve the twin API."""
    # Imported here so that `--version` and `validate` do not wait for what only `run` needs.
    from twinbridge.cli.edge import EdgeOptions, run_edge
    from twinbridge.cli.logs import configure_logs

    configure_logs(json_lines=log_format is LogFormat.JSON, level=log_level)
    host, port = split_address(api)
    options = EdgeOptions(
        files, state_dir, host, port, node, api_token_file, stuck_seconds(stuck_after)
    )
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run_edge(options))


def split_address(text: str) -> tuple[str, int]:
    """`HOST:PORT` or `[V6]:PORT`. Raises InvalidInput."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004
        raise InvalidInput(f"{text!r} is no address; give HOST:PORT, such as {DEFAULT_API}")
    return host.strip("[]"), int(port)


def stuck_seconds(text: str) -> float:
    """Of `--stuck-after`. Raises InvalidInput."""
    from twinbridge.api.wire import parse_duration

    seconds = parse_duration(text, "--stuck-after") / SECOND
    if seconds < SHORTEST_STUCK:
        allowed = f"{SHORTEST_STUCK:.0f}s or more"
        raise InvalidInput(f"--stuck-after {text}: too short; allowed: {allowed}")
    return seconds


def register(app: typer.Typer) -> None:
    app.command()(run)
