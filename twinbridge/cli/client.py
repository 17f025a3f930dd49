"""The commands that talk to a running agent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from twinbridge.cli.options import DEFAULT_API as DEFAULT_ADDRESS
from twinbridge.errors import InvalidInput, TwinBridgeError, UnknownName

# HTTP and tables are loaded by the commands that need them: a driver's memory has no room for them.
if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from twinbridge.cli.agent_api import AgentApi

DEFAULT_API = f"http://{DEFAULT_ADDRESS}"

Api = Annotated[str, typer.Option("--api", envvar="TWINBRIDGE_API", help="The agent's URL.")]
TokenFile = Annotated[
    Path | None, typer.Option("--token-file", help="A file whose first word is a token.")
]
AlarmName = Annotated[str, typer.Argument(metavar="ALARM", help="An alarm's id, or rule:device.")]

SETTLED = 30.0
"""Seconds that `set --wait` waits where the value has no shorter validity."""

WHOLE_ROWS = 10_000
"""Columns; more than any row has."""


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def register(app: typer.Typer) -> None:
    for command in (get, watch_, set_, ack, shelve, reset, events):
        app.command(command.__name__.rstrip("_"))(command)


def get(
    what: Annotated[str, typer.Argument(help="devices, alarms, rules, or a device's name.")],
    output: Annotated[Format, typer.Option("--output", "-o")] = Format.TABLE,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
) -> None:
    """Show twins, standing alarms or rules."""
    from twinbridge.cli.tables import alarms_table, devices_table, rules_table, twin_table

    agent = _agent(api, token_file)
    lists: dict[str, Callable[[Iterable[Any]], Table]] = {
        "devices": devices_table,
        "alarms": alarms_table,
        "rules": rules_table,
    }
    if what in lists:
        items = agent.items(f"/{what}")
        _show({"items": items}, lists[what](items), output)
    else:
        device = agent.get(f"/devices/{_path(what)}")
        _show(device, twin_table(device), output)


def watch_(
    device: Annotated[str, typer.Argument(help="Only this device.")] = "",
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
) -> None:
    """Show twins live, until interrupted."""
    from twinbridge.cli.watch import watch

    _until_interrupted(watch, _agent(api, token_file), device)


def events(
    device: Annotated[str, typer.Argument(help="Only this device.")] = "",
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
) -> None:
    """Print every event as a line of JSON, until interrupted."""
    from twinbridge.cli.watch import print_events

    _until_interrupted(print_events, _agent(api, token_file), device)


def set_(
    device: str,
    wishes: Annotated[list[str], typer.Argument(metavar="PROPERTY=VALUE...")],
    valid_for: Annotated[
        str, typer.Option("--valid-for", help="How long they stay valid unwritten: 10s.")
    ] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait for what becomes of them.")] = False,
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
) -> None:
    """Ask a device for values; all are taken up or none. VALUE is JSON, or else a string."""
    agent = _agent(api, token_file)
    values = dict(_parse_wish(wish) for wish in wishes)
    if len(values) < len(wishes):
        raise InvalidInput("a property is given twice")
    expiry = {"validFor": valid_for} if valid_for else {}
    patch = {n: v if v is None else {"value": v} | expiry for n, v in values.items()}
    version = agent.patch(f"/devices/{_path(device)}/desired", patch)["version"]
    typer.echo(f"{device}: accepted as version {version}")
    if wait:
        _await_outcome(agent, device, set(values), version)


def _parse_wish(text: str) -> tuple[str, object]:
    name, found, value = text.partition("=")
    if not (name and found):
        raise InvalidInput(f"{text!r}: write PROPERTY=VALUE, such as run=true")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _await_outcome(agent: AgentApi, device: str, names: set[str], version: int) -> None:
    until = time.monotonic() + SETTLED
    while True:
        properties = agent.get(f"/devices/{_path(device)}")["properties"]
        wishes = {name: properties[name]["desired"] for name in sorted(names)}
        waiting = [n for n, w in wishes.items() if w and w["state"] == "pending"]
        if not waiting:
            break
        if time.monotonic() > until:
            raise TwinBridgeError(f"{device}: still pending after {SETTLED:.0f} s: {waiting}")
        time.sleep(0.1)
    _report_outcome(device, wishes, version)


def _report_outcome(device: str, wishes: dict[str, Any], version: int) -> None:
    failed = False
    for name, wish in wishes.items():
        if wish is None:
            typer.echo(f"{device}/{name}: withdrawn")
            continue
        overtaken = wish["version"] != version
        failed |= overtaken or wish["state"] != "applied"
        said = " ".join(filter(None, (wish["state"], wish["message"])))
        newer = f" (version {wish['version']} took its place)" if overtaken else ""
        typer.echo(f"{device}/{name}: {said}{newer}")
    if failed:
        raise typer.Exit(1)


def ack(
    alarm: AlarmName,
    comment: Annotated[str, typer.Option("--comment")] = "",
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
) -> None:
    """Acknowledge an alarm."""
    agent = _agent(api, token_file)
    found = _standing(agent, alarm)
    agent.post(f"/alarms/{_path(found)}/ack", {"comment": comment})
    typer.echo(f"{found}: acknowledged")


def shelve(
    alarm: AlarmName,
    length: Annotated[str, typer.Option("--for", help="For how long, up to 8h.")] = "30m",
    reason: Annotated[str, typer.Option("--reason")] = "",
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
) -> None:
    """Silence an alarm for a while. Its trip stays armed."""
    agent = _agent(api, token_file)
    found = _standing(agent, alarm)
    agent.post(f"/alarms/{_path(found)}/shelve", {"for": length, "reason": reason})
    typer.echo(f"{found}: shelved for {length}")


def reset(
    alarm: AlarmName,
    reason: Annotated[str, typer.Option("--reason", help="Why it is safe to release it.")],
    api: Api = DEFAULT_API,
    token_file: TokenFile = None,
) -> None:
    """Release a trip whose condition is clear. Nothing starts by itself."""
    agent = _agent(api, token_file)
    found = _standing(agent, alarm)
    agent.post(f"/alarms/{_path(found)}/reset", {"reason": reason})
    typer.echo(f"{found}: reset; the machine does not start by itself")


def _standing(agent: AgentApi, alarm: str) -> str:
    """The id of the occurrence that is meant. Raises UnknownName, InvalidInput."""
    items = agent.items("/alarms")
    if any(item["id"] == alarm for item in items):
        return alarm
    rule, _, device = alarm.partition(":")
    found = [item["id"] for item in items if (item["rule"], item["device"]) == (rule, device)]
    if len(found) > 1:
        raise InvalidInput(f"{alarm}: several stand, name one: {', '.join(found)}")
    if not found:
        raise UnknownName(f"no alarm {alarm!r} stands; `twinbridge get alarms` lists those that do")
    return str(found[0])


def _agent(api: str, token_file: Path | None) -> AgentApi:
    from twinbridge.cli.agent_api import AgentApi

    return AgentApi(api, token_file)


def _until_interrupted(
    run: Callable[[AgentApi, str, Console], None], api: AgentApi, device: str
) -> None:
    from rich.console import Console

    try:
        run(api, device, Console())
    except KeyboardInterrupt:
        raise typer.Exit from None


def _show(view: object, table: Table, output: Format) -> None:
    if output is Format.JSON:
        typer.echo(json.dumps(view, indent=2))
    elif output is Format.YAML:
        import yaml

        typer.echo(yaml.safe_dump(view, sort_keys=False), nl=False)
    else:
        from rich.console import Console

        console = Console()
        if not console.is_terminal:  # piped, a table keeps its rows whole
            console = Console(width=WHOLE_ROWS)
        console.print(table)


def _path(name: str) -> str:
    return quote(name, safe=":")
