"""`twinbridge crds`: the CustomResourceDefinitions that belong to this version."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import Annotated

import typer


def crds(
    check: Annotated[
        bool, typer.Option("--check", help="Compare with the files; exit 1 on a difference.")
    ] = False,
    write: Annotated[bool, typer.Option("--write", help="Write the files.")] = False,
    reference: Annotated[
        bool, typer.Option("--reference", help="Print every field as Markdown instead.")
    ] = False,
    folder: Annotated[Path, typer.Option("--dir", help="Where the files are.")] = Path("crds"),
) -> None:
    """Print the CustomResourceDefinitions, ready for `kubectl apply -f -`."""
    from twinbridge.api.crds import crds as generate
    from twinbridge.api.crds import dump
    from twinbridge.cli.drivers import installed_drivers

    if reference:
        from twinbridge.api.reference import markdown

        typer.echo(markdown(installed_drivers()), nl=False)
        return
    made = {name: dump(crd) for name, crd in generate(installed_drivers()).items()}
    if write:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in made.items():
            (folder / name).write_text(text, encoding="utf-8")
    elif check:
        if _differences(made, folder):
            sys.exit(1)
    else:
        typer.echo("---\n".join(made.values()), nl=False)


def _differences(made: dict[str, str], folder: Path) -> bool:
    different = False
    for name, text in made.items():
        path = folder / name
        there = path.read_text(encoding="utf-8") if path.is_file() else ""
        if there != text:
            different = True
            lines = difflib.unified_diff(
                there.splitlines(), text.splitlines(), str(path), "generated", n=2, lineterm=""
            )
            for line in lines:
                typer.echo(line)
    if different:
        typer.echo("run `twinbridge crds --write` and commit what it writes", err=True)
    return different


def register(app: typer.Typer) -> None:
    app.command()(crds)
