"""`twinbridge run`: one edge, complete, in one process."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from twinbridge.cli.loops import loop_factory
from twinbridge.cli.options import (
    DEFAULT_API,
    DEFAULT_STATE,
    STUCK_AFTER,
    Api,
    ApiTokenFile,
    ConnectivityFile,
    Files,
    HubCaFile,
    HubNamespace,
    HubTokenFile,
    HubWhere,
    LogFormat,
    LogFormatOption,
    LogLevel,
    LogLevelOption,
    Mqtt,
    StateDir,
    StuckAfter,
    check_mqtt,
    hub_options,
    split_address,
    stuck_seconds,
)


def run(
    files: Files = None,
    state_dir: StateDir = DEFAULT_STATE,
    api: Api = DEFAULT_API,
    mqtt: Mqtt = None,
    hub: HubWhere = None,
    hub_namespace: HubNamespace = None,
    hub_token_file: HubTokenFile = None,
    hub_ca_file: HubCaFile = None,
    connectivity: ConnectivityFile = None,
    node: Annotated[
        str | None, typer.Option("--node", help="Serve only what names this node.")
    ] = None,
    api_token_file: ApiTokenFile = None,
    stuck_after: StuckAfter = STUCK_AFTER,
    log_format: LogFormatOption = LogFormat.TEXT,
    log_level: LogLevelOption = LogLevel.INFO,
) -> None:
    """Read the machines, keep their twins, watch the rules, serve the twin API."""
    # Imported here so that `--version` and `validate` do not wait for what only `run` needs.
    from twinbridge.cli.edge import EdgeOptions, run_edge
    from twinbridge.cli.logs import configure_logs

    configure_logs(json_lines=log_format is LogFormat.JSON, level=log_level)
    host, port = split_address(api)
    options = EdgeOptions(
        files or [],
        state_dir,
        host,
        port,
        node,
        api_token_file,
        check_mqtt(mqtt),
        stuck_seconds(stuck_after),
        hub_options(files, node, hub, hub_namespace, hub_token_file, hub_ca_file, connectivity),
    )
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run_edge(options))


def register(app: typer.Typer) -> None:
    app.command()(run)
