"""`twinbridge validate`: is what is written right?"""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def validate(
    files: Annotated[
        list[str],
        typer.Option("-f", "--file", help="YAML file or folder, or - ; may be repeated."),
    ],
) -> None:
    """Check definitions; say all that is wrong, one line each, and exit 1 if anything is."""
    from twinbridge.api.plant import load_plant
    from twinbridge.cli.drivers import installed_drivers

    plant = load_plant(files, installed_drivers())
    for problem in plant.problems:
        typer.echo(str(problem), err=True)
    wrong = sum(not problem.warning for problem in plant.problems)
    verdict = f"{wrong} {'problem' if wrong == 1 else 'problems'}" if wrong else "ok"
    devices, rules = len(plant.devices), len(plant.rules)
    typer.echo(f"{_count(devices, 'device')}, {_count(rules, 'rule')}: {verdict}")
    if wrong:
        sys.exit(1)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def register(app: typer.Typer) -> None:
    app.command()(validate)
