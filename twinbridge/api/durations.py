"""Durations as people write them: `500ms`, `2s`, `1.5m`, `8h`; inside they are nanoseconds."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, WithJsonSchema

_PATTERN = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h)$"
_UNITS = {"ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000}
_LONGEST = 2**63 - 1


def parse_duration(text: object) -> int:
    """`500ms` → 500_000_000. Raises ValueError; a number without a unit is refused."""
    if isinstance(text, int) and not isinstance(text, bool):
        raise ValueError(f"a duration needs a unit: {text}ms, {text}s, {text}m or {text}h")  # noqa: TRY004 - pydantic reports ValueError
    matched = re.fullmatch(_PATTERN, text) if isinstance(text, str) else None
    if matched is None or not isinstance(text, str):
        raise ValueError(f"{text!r} is no duration; write a number and ms, s, m or h, e.g. 500ms")
    nanoseconds = int(Decimal(text.removesuffix(matched[2])) * _UNITS[matched[2]])
    if nanoseconds > _LONGEST:
        raise ValueError(f"{text} is longer than 292 years")
    return nanoseconds


def format_duration(nanoseconds: int) -> str:
    """The shortest exact text: 1_500_000_000 → `1500ms`."""
    for unit in ("h", "m", "s"):
        if nanoseconds and nanoseconds % _UNITS[unit] == 0:
            return f"{nanoseconds // _UNITS[unit]}{unit}"
    milliseconds = Decimal(nanoseconds) / _UNITS["ms"]
    return f"{milliseconds.normalize():f}ms"


Duration: TypeAlias = Annotated[
    int,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": _PATTERN}),
]
"""Nanoseconds, from a string with a unit."""
