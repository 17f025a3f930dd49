"""`twinbridge driver` and `twinbridge agent`: the same edge, in processes around a broker."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from twinbridge.cli.loops import loop_factory
from twinbridge.cli.options import (
    DEFAULT_API,
    DEFAULT_STATE,
    STUCK_AFTER,
    Api,
    ApiTokenFile,
    BusUrl,
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
    NodeName,
    StateDir,
    StuckAfter,
    check_mqtt,
    hub_options,
    split_address,
    stuck_seconds,
)


def driver(
    protocol: Annotated[str, typer.Argument(help="modbus, opcua, mqtt, or an installed one.")],
    bus: BusUrl,
    node: NodeName,
    state_dir: StateDir = DEFAULT_STATE,
    shard: Annotated[
        str,
        typer.Option("--shard", help="i/n: of n drivers of this protocol the i-th, from 0."),
    ] = "0/1",
    selector: Annotated[
        list[str] | None,
        typer.Option("--selector", help="key=value: only devices with this label; repeatable."),
    ] = None,
    probes: Annotated[
        str | None, typer.Option("--probes", help="HOST:PORT of /healthz, /readyz and /metrics.")
    ] = None,
    stuck_after: StuckAfter = STUCK_AFTER,
    log_format: LogFormatOption = LogFormat.TEXT,
    log_level: LogLevelOption = LogLevel.INFO,
) -> None:
    """Run one driver pod: the links of one protocol, and the rules that act on its devices."""
    # The log library would load a terminal's library, for tracebacks in colour: 5 MiB for nothing.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]  # None forbids the import

    from twinbridge.api.broker import parse_url
    from twinbridge.cli.driver_pod import DriverOptions, run_driver
    from twinbridge.cli.logs import configure_logs
    from twinbridge.core.share import parse_share

    configure_logs(json_lines=log_format is LogFormat.JSON, level=log_level)
    options = DriverOptions(
        protocol,
        parse_url(bus),
        node,
        state_dir,
        parse_share(shard, selector or ()),
        split_address(probes) if probes else None,
        stuck_seconds(stuck_after),
    )
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run_driver(options))


def agent(
    bus: BusUrl,
    node: NodeName,
    files: Files = None,
    state_dir: StateDir = DEFAULT_STATE,
    api: Api = DEFAULT_API,
    mqtt: Mqtt = None,
    hub: HubWhere = None,
    hub_namespace: HubNamespace = None,
    hub_token_file: HubTokenFile = None,
    hub_ca_file: HubCaFile = None,
    connectivity: ConnectivityFile = None,
    api_token_file: ApiTokenFile = None,
    stuck_after: StuckAfter = STUCK_AFTER,
    log_format: LogFormatOption = LogFormat.TEXT,
    log_level: LogLevelOption = LogLevel.INFO,
) -> None:
    """Run the agent: twins, REST and SCADA faces of an edge node whose drivers are pods."""
    from twinbridge.api.broker import parse_url
    from twinbridge.cli.agent_pod import AgentOptions, run_agent
    from twinbridge.cli.logs import configure_logs

    configure_logs(json_lines=log_format is LogFormat.JSON, level=log_level)
    host, port = split_address(api)
    options = AgentOptions(
        files or [],
        parse_url(bus),
        node,
        state_dir,
        host,
        port,
        api_token_file,
        check_mqtt(mqtt),
        stuck_seconds(stuck_after),
        hub_options(files, node, hub, hub_namespace, hub_token_file, hub_ca_file, connectivity),
    )
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run_agent(options))


def register(app: typer.Typer) -> None:
    app.command()(driver)
    app.command()(agent)
