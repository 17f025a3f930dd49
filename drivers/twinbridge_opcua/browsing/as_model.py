"""What was browsed, as the properties of a DeviceModel."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pydantic import JsonValue

from twinbridge.core.model import ValueType
from twinbridge_opcua.browsing.survey import Branch
from twinbridge_opcua.browsing.variables import Variable

_LONGEST_NAME = 63
_NUMBERS = (ValueType.INT, ValueType.FLOAT)


def candidates(start: Branch) -> Mapping[str, Branch]:
    """The variables that a property can hold, by the names that they would have.

    A name is the browse name, cleaned; where several are alike, with as many of the folders
    above as tell them apart.
    """
    fit = [(path, branch) for path, branch in _paths(start) if _fits(branch.variable)]
    names = _unique([[_clean(name) for name in path] for path, _ in fit])
    return dict(zip(names, (branch for _, branch in fit), strict=True))


def as_property(name: str, branch: Branch) -> Mapping[str, JsonValue]:
    """One entry of a DeviceModel's properties."""
    variable = branch.variable
    if variable is None or variable.type is None or variable.access is None:
        raise TypeError(f"{branch.name} is nothing that a property can hold")
    entry: dict[str, JsonValue] = {"name": name, "type": str(variable.type)}
    if variable.ucum and variable.type in _NUMBERS:
        entry["unit"] = variable.ucum
    entry["access"] = str(variable.access)
    low, high = variable.minimum, variable.maximum
    if low is not None and high is not None and low < high and variable.type in _NUMBERS:
        entry |= {"minimum": low, "maximum": high}
    entry["opcua"] = {"node": branch.address}
    return entry


def _fits(variable: Variable | None) -> bool:
    return variable is not None and variable.type is not None and variable.access is not None


def _paths(start: Branch) -> Iterator[tuple[tuple[str, ...], Branch]]:
    """Every node with the names that lead to it from the start."""
    pending: list[tuple[tuple[str, ...], Branch]] = [((start.name,), start)]
    while pending:
        path, branch = pending.pop()
        yield path, branch
        pending += [((*path, child.name), child) for child in reversed(branch.children)]


def _clean(name: str) -> str:
    """`Température 1` → `Temp_rature_1`: what a property's name may hold."""
    cleaned = re.sub(r"[^A-Za-z0-9_-]+", "_", name)
    return cleaned if re.match(r"[A-Za-z_]", cleaned) else f"_{cleaned}"


def _unique(paths: Sequence[Sequence[str]]) -> list[str]:
    lengths = [1] * len(paths)
    while True:
        names = [".".join(path[-n:]) for path, n in zip(paths, lengths, strict=True)]
        counts = Counter(names)
        alike = [
            index
            for index, name in enumerate(names)
            if counts[name] > 1 and lengths[index] < len(paths[index])
        ]
        if not alike:
            return _numbered([name[:_LONGEST_NAME] for name in names])
        for index in alike:
            lengths[index] += 1


def _numbered(names: Sequence[str]) -> list[str]:
    """What cutting or cleaning has made alike is told apart by numbers."""
    spoken_for, numbers = set(names), Counter[str]()
    unique = []
    for name in names:
        numbers[name] += 1
        chosen = name
        while numbers[name] > 1 and chosen in spoken_for:
            chosen = f"{name[: _LONGEST_NAME - 6]}_{numbers[name]}"
            numbers[name] += chosen in spoken_for
        spoken_for.add(chosen)
        unique.append(chosen)
    return unique
