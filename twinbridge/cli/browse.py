"""`twinbridge browse`: what is there to be read, and a DeviceModel for a chosen part of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from twinbridge.cli import browse_mqtt
from twinbridge.errors import InvalidInput

if TYPE_CHECKING:
    from pydantic import JsonValue
    from rich.text import Text
    from rich.tree import Tree

    from twinbridge_opcua.browsing.survey import Branch
    from twinbridge_opcua.config import OpcUaConnection

T = TypeVar("T")
_WIDTH = 1000
browse = typer.Typer(help="List what a server or broker has, and write a DeviceModel of it.")

ModelName = Annotated[
    str | None, typer.Option("--model", help="Write a DeviceModel of this name, not the tree.")
]
Chosen = Annotated[
    list[str] | None,
    typer.Option("--property", help="A property of the model; may be repeated."),
]
Every = Annotated[bool, typer.Option("--all", help="All that was found becomes properties.")]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="File of the model; else it is printed.")
]


@browse.callback()
def _group() -> None:
    pass


@browse.command("opcua")
def opcua(
    url: Annotated[str, typer.Argument(help="opc.tcp://HOST[:PORT][/PATH]")],
    path: Annotated[
        str | None,
        typer.Option(
            "--path", help='Where to start: "Boiler/Sensors" below Objects, or a node id.'
        ),
    ] = None,
    depth: Annotated[int, typer.Option("--depth", min=1, help="How deep to go.")] = 10,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Most nodes to list.")] = 1000,
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy", help="Basic256Sha256, Aes128_Sha256_RsaOaep or Aes256_Sha256_RsaPss."
        ),
    ] = None,
    mode: Annotated[
        str, typer.Option("--mode", help="With a policy: Sign or SignAndEncrypt.")
    ] = "SignAndEncrypt",
    user: Annotated[str | None, typer.Option("--user", help="A user; anonymous without.")] = None,
    password_file: Annotated[
        str | None, typer.Option("--password-file", help="The file of the user's password.")
    ] = None,
    pki: Annotated[str | None, typer.Option("--pki", help="Folder of certificates.")] = None,
    timeout: Annotated[str, typer.Option("--timeout", help="Of one request, e.g. 5s.")] = "10s",
    model: ModelName = None,
    properties: Chosen = None,
    every: Every = False,
    output: Output = None,
) -> None:
    """List an OPC UA server's nodes; with --model, write a DeviceModel of some of them."""
    _check_choice(model, properties, output, every=every)
    try:
        from twinbridge_opcua.browsing.as_model import as_property, candidates
        from twinbridge_opcua.browsing.browse import browse as browse_server
        from twinbridge_opcua.browsing.survey import Scope
    except ModuleNotFoundError as error:
        raise InvalidInput(f"{error.name} is missing: pip install 'twinbridge[opcua]'") from error
    if (user is None) != (password_file is None):
        raise InvalidInput("--user and --password-file belong together: give both or neither")
    written: dict[str, JsonValue] = {"url": url, "timeout": timeout, "allowInsecure": True}
    if policy is not None:
        written["security"] = {"policy": policy, "mode": mode}
    if user is not None:
        written["user"] = {"name": user, "passwordFile": password_file}
    if pki is not None:
        written["pki"] = pki
    connection = _connection(written)
    start = asyncio.run(browse_server(connection, Scope(path, depth, limit)))
    if model is None:
        _show(start)
        return
    found = candidates(start)
    chosen = found if every else _choose(found, properties or ())
    _warn_of_cuts(start, every=every)
    entries = [as_property(name, branch) for name, branch in chosen.items()]
    write_model(model, f"Browsed from {url}", entries, output)


def _connection(written: Mapping[str, JsonValue]) -> OpcUaConnection:
    from pydantic import ValidationError

    from twinbridge_opcua.config import OpcUaConnection

    try:
        return OpcUaConnection.model_validate(written)
    except ValidationError as error:
        said = (
            f"{'.'.join(map(str, each['loc']))}: {each['msg']}".removeprefix(": ")
            for each in error.errors()
        )
        raise InvalidInput("; ".join(said)) from error


def _check_choice(
    model: str | None, properties: Sequence[str] | None, output: Path | None, *, every: bool
) -> None:
    if model is None and (properties or every or output):
        raise InvalidInput("--property, --all and -o are for a DeviceModel: name it with --model")
    if model is not None and bool(properties) == every:
        raise InvalidInput("--model needs either --property NAME, once or more, or --all")
    if model is not None and not re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", model):
        raise InvalidInput(f"--model {model}: a name is of a-z, 0-9, - and ., as in boiler-2")


def _choose(found: Mapping[str, T], wanted: Iterable[str]) -> dict[str, T]:
    chosen = {}
    for name in wanted:
        if name not in found:
            near = get_close_matches(name, found, n=3) or list(found)[:10]
            listed = ", ".join(near) or "none at all"
            raise InvalidInput(
                f"--property {name}: no such property was found; there is {listed}"
                f" ({len(found)} in all; --path, --depth and --limit say where to look)"
            )
        chosen[name] = found[name]
    return chosen


def write_model(
    name: str,
    description: str,
    entries: Sequence[Mapping[str, JsonValue]],
    output: Path | None,
) -> None:
    """A DeviceModel that `twinbridge validate` takes, to the file or else to be read here."""
    import yaml

    from twinbridge.api.device_resources import MOST_PROPERTIES, DeviceModel

    if not entries:
        raise InvalidInput("nothing was found that a property can hold: no model is written")
    if len(entries) > MOST_PROPERTIES:
        raise InvalidInput(
            f"{len(entries)} properties are too many for one DeviceModel, which holds"
            f" {MOST_PROPERTIES}: narrow --path, or choose with --property"
        )
    resource = {
        "apiVersion": "devices.twinbridge.io/v1alpha1",
        "kind": "DeviceModel",
        "metadata": {"name": name},
        "spec": {"description": description, "properties": [dict(entry) for entry in entries]},
    }
    DeviceModel.model_validate(resource)
    text = yaml.safe_dump(resource, sort_keys=False, allow_unicode=True, width=100)
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, "utf-8")
    except OSError as error:
        raise InvalidInput(f"{output} cannot be written: {error.strerror}") from error
    typer.echo(f"{output}: {len(entries)} properties", err=True)


def _warn_of_cuts(start: Branch, *, every: bool) -> None:
    """A model of all must not leave out some without a word."""
    cut = [branch for branch in start.walk() if branch.hidden and branch.kind != "method"]
    for branch in cut[:10] if every else ():
        typer.echo(f"left out below {branch.name}: {branch.hidden}", err=True)


def _show(start: Branch) -> None:
    from rich.console import Console
    from rich.tree import Tree

    root = Tree(_line(start))
    pending: list[tuple[Tree, Branch]] = [(root, start)]
    count = -1
    while pending:
        tree, branch = pending.pop()
        count += 1
        pending += [(tree.add(_line(child)), child) for child in branch.children]
        if branch.hidden:
            tree.add(f"[yellow]… {branch.hidden}[/]")
    console = Console(highlight=False, width=_WIDTH)  # a node id that is cut is of no use
    console.print(root)
    console.print(f"{count:,} {'node' if count == 1 else 'nodes'}")


def _line(branch: Branch) -> Text:
    """`Temperature  Double  ReadOnly  71.5 Cel  -40..200  nsu=…;s=…`."""
    from rich.text import Text

    line = Text(branch.name, style="bold" if branch.kind == "object" else "")
    variable = branch.variable
    if variable is not None:
        access = str(variable.access) if variable.access else "NoAccess"
        line.append(f"  {variable.type_name or '?'}  {access}", style="cyan")
        line.append(f"  {variable.shown} {variable.unit}".rstrip())
        if variable.minimum is not None and variable.maximum is not None:
            line.append(f"  {variable.minimum:g}..{variable.maximum:g}", style="magenta")
    elif branch.kind == "method":
        line.append("  method", style="cyan")
    line.append(f"  {branch.address}", style="dim")
    return line


def register(app: typer.Typer) -> None:
    browse_mqtt.register(browse)
    app.add_typer(browse, name="browse")
