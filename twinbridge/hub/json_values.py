"""When two values are the same as JSON has it."""

from __future__ import annotations

_PLAIN = (str, float, int)


def same(one: object, other: object) -> bool:
    """1 is 1.0, and true is neither."""
    if type(one) is type(other) and isinstance(one, _PLAIN):
        return one == other
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other
