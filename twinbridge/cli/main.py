"""The `twinbridge` command. Each module beside this one adds its own commands.

Exit codes: 0 done, 1 the input is wrong, 2 usage, 3 the other side can't be reached.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from twinbridge import __version__
from twinbridge.cli import (
    browse,
    client,
    crds,
    demo,
    hub,
    plan,
    pods,
    rules,
    run,
    simulate,
    validate,
)
from twinbridge.errors import TwinBridgeError, Unreachable

app = typer.Typer(
    name="twinbridge",
    help="Industrial machines as device twins, with local rules that can stop them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

for module in (run, pods, validate, plan, rules, crds, simulate, browse, demo, client, hub):
    module.register(app)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the flag's value
    if wanted:
        typer.echo(f"twinbridge {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Say which.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run a command; a known error is one line and an exit code, never a traceback."""
    try:
        app()
    except Unreachable as error:
        typer.echo(f"twinbridge: {error}", err=True)
        sys.exit(3)
    except TwinBridgeError as error:
        typer.echo(f"twinbridge: {error}", err=True)
        sys.exit(1)
