"""`twinbridge rules test`: unit tests for rules, with no machine and in no time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinbridge.errors import InvalidInput

if TYPE_CHECKING:
    from twinbridge.api.plant import Plant
    from twinbridge.api.problems import Problem
    from twinbridge.api.rule_tests import RuleTest, RuleTestFile
    from twinbridge.api.yaml_source import Document

_rules = typer.Typer(help="Try rules before a machine is touched.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(_rules, name="rules")


@_rules.callback()
def _group() -> None:
    """Keeps `test` a command of its own."""


@_rules.command()
def test(
    path: Annotated[Path, typer.Argument(help="A *.test.yaml file, or a folder of them.")],
) -> None:
    """Run unit tests of rules: series in, alarms and writes out."""
    from twinbridge.api.yaml_source import load_paths

    documents, problems = load_paths([str(file) for file in _test_files(path)])
    results = [ok for document in documents for ok in _run_document(document)]
    _say(problems)
    if problems or not all(results):
        raise typer.Exit(1)


def _test_files(path: Path) -> list[Path]:
    from twinbridge.api.yaml_source import TEST_SUFFIXES

    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InvalidInput(f"{path}: there is no such file or folder")
    found = sorted(f for f in path.rglob("*") if f.name.endswith(TEST_SUFFIXES))
    if not found:
        raise InvalidInput(f"{path}: no {' or '.join('*' + s for s in TEST_SUFFIXES)} file in it")
    return found


def _run_document(document: Document) -> Iterator[bool]:
    """Whether each test of a file passed."""
    from twinbridge.api.plant import load_plant
    from twinbridge.cli.drivers import installed_drivers

    file, problems = _parsed(document)
    if file is None:
        _say(problems)
        yield False
        return
    folder = Path(document.file).parent
    plant = load_plant([str(folder / name) for name in file.rules], installed_drivers())
    problems = [p for p in plant.problems if not p.warning] or list(_unknown(document, file, plant))
    if problems:
        _say(problems)
        yield False
        return
    for index, one in enumerate(file.tests):
        yield _run_test(document, index, one, plant)


def _run_test(document: Document, index: int, one: RuleTest, plant: Plant) -> bool:
    from twinbridge.app.rules_test import run

    failures = run(one, plant.instances)
    line = document.line(("tests", index))
    typer.echo(f"{'FAIL' if failures else 'ok  '} {document.file}:{line}: {one.name}")
    for failure in failures:
        typer.echo(f"     {failure}")
    return not failures


def _parsed(document: Document) -> tuple[RuleTestFile | None, list[Problem]]:
    from pydantic import ValidationError

    from twinbridge.api.problems import Problem, complaints
    from twinbridge.api.rule_tests import RuleTestFile

    try:
        return RuleTestFile.model_validate(document.content), []
    except ValidationError as error:
        return None, [
            Problem(document.file, document.line(path), "", ".".join(map(str, path)), message)
            for path, message in complaints(error, RuleTestFile)
        ]


def _unknown(document: Document, file: RuleTestFile, plant: Plant) -> Iterator[Problem]:
    """Names in the tests that no resource has."""
    from twinbridge.api.problems import Problem, unknown

    known = [i.id for i in plant.instances]
    properties = [str(p.ref) for device in plant.devices.values() for p in device.points]
    for index, one in enumerate(file.tests):
        named: list[tuple[tuple[str | int, ...], str, str, list[str]]] = []
        for at, series in enumerate(one.series):
            ref = f"{series.device}/{series.property}"
            named.append((("series", at), "property", ref, properties))
        for at, expected in enumerate(one.expect):
            if expected.state is not None:
                rule = f"{expected.rule}:{expected.device}"
                named.append((("expect", at), "rule:device", rule, known))
            if expected.write is not None:
                ref = f"{expected.write.device}/{expected.write.property}"
                named.append((("expect", at, "write"), "property", ref, properties))
        for step, what, name, names in named:
            if name not in names:
                path = ("tests", index, *step)
                field = ".".join(map(str, path))
                message = unknown(what, name, names)
                yield Problem(document.file, document.line(path), "", field, message)


def _say(problems: Iterable[Problem]) -> None:
    for problem in problems:
        typer.echo(str(problem), err=True)
