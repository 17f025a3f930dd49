"""The part of JSONPath that printer columns use: fields, indexes, and a filter by equality."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

_STEP: Final = re.compile(
    r"\.(?P<field>[^.\[\]]+)"
    r"|\[(?P<index>\d+)\]"
    r"|\[\?\(@\.(?P<key>[\w.-]+)\s*==\s*['\"](?P<value>[^'\"]*)['\"]\)\]"
    r"|\[['\"](?P<quoted>[^'\"]+)['\"]\]"
)


@lru_cache(maxsize=256)
def _steps(path: str) -> tuple[re.Match[str], ...]:
    steps = tuple(_STEP.finditer(path))
    if "".join(step.group() for step in steps) != path:
        raise ValueError(f"{path!r} is no JSONPath that printer columns may have")
    return steps


def first(document: object, path: str) -> object:
    """The first value at the path, or None. Raises ValueError for a path not understood."""
    found: Iterator[object] = iter((document,))
    for step in _steps(path):
        found = _down(found, step)
    return next(found, None)


def _down(found: Iterator[object], step: re.Match[str]) -> Iterator[object]:
    name = step["field"] or step["quoted"]
    for at in found:
        if name is not None:
            if isinstance(at, dict) and name in at:
                yield at[name]
        elif step["index"] is not None:
            if isinstance(at, list) and int(step["index"]) < len(at):
                yield at[int(step["index"])]
        elif isinstance(at, list):
            for entry in at:
                if isinstance(entry, dict) and str(entry.get(step["key"])) == step["value"]:
                    yield entry
