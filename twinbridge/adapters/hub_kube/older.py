"""What a hub whose CustomResourceDefinitions are older than ours does not know of a status.

Server-side apply refuses the whole of a status for one field that the schema lacks. The rest of it
must arrive: the field is left out, for some time, and that is said.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import structlog

from twinbridge.adapters.hub_kube.followed import APPLY_CRDS

log = structlog.get_logger()

Path: TypeAlias = tuple[str, ...]

AGAIN: Final = 3600.0
"""Seconds after which all of it is tried again: the definitions may have been applied since."""
_STRANGE: Final = re.compile(
    r"\.status((?:\.\w+|\[[^\]]*\])+): field not declared in schema"  # of an apply
    r"|unknown field \"status((?:\.\w+|\[[^\]]*\])+)\""  # of strict validation
)
_STEP: Final = re.compile(r"\.(\w+)")
"""Which item of a list it was, does not count: the schema is the same for each."""


class OlderSchemas:
    """By kind, the fields that its status goes without."""

    def __init__(self) -> None:
        self._fields: defaultdict[str, set[Path]] = defaultdict(set)
        self._learned: dict[str, float] = {}

    def learn(self, kind: str, refusal: str) -> bool:
        """Whether it names fields that were not left out yet."""
        found = {
            tuple(_STEP.findall(first or second)) for first, second in _STRANGE.findall(refusal)
        }
        new = found - self._fields[kind] - {()}
        if new:
            self._fields[kind] |= new
            self._learned[kind] = time.monotonic()
            log.warning(
                "the hub's CustomResourceDefinition is older than ours: the status goes without"
                " what it does not know",
                kind=kind,
                mend=APPLY_CRDS,
                fields=", ".join(sorted(".".join(path) for path in new)),
            )
        return bool(new)

    def without(self, kind: str, status: Mapping[str, object]) -> Mapping[str, object]:
        if time.monotonic() - self._learned.get(kind, time.monotonic()) > AGAIN:
            del self._fields[kind], self._learned[kind]
        for path in self._fields[kind]:
            status = _without(status, path)
        return status


def _without(there: Mapping[str, object], path: Path) -> Mapping[str, object]:
    first, *rest = path
    if first not in there:
        return there
    if not rest:
        return {name: found for name, found in there.items() if name != first}
    return {**there, first: _within(there[first], tuple(rest))}


def _within(found: object, path: Path) -> object:
    if isinstance(found, Mapping):
        return _without(found, path)
    if isinstance(found, Sequence) and not isinstance(found, str | bytes):
        return [_within(one, path) for one in found]
    return found
