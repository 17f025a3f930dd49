"""Label and field selectors (Kubernetes API concepts; k8s.io/apimachinery, labels and fields)."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from twinbridge.errors import InvalidInput

Json: TypeAlias = dict[str, Any]

_KEY: Final = r"([A-Za-z0-9][\w.-]*/)?[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?"
_VALUE: Final = r"([A-Za-z0-9]([\w.-]*[A-Za-z0-9])?)?"
_EXISTS = re.compile(rf"\s*(?P<no>!?)\s*(?P<key>{_KEY})\s*")
_SET = re.compile(rf"\s*(?P<key>{_KEY})\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)\s*")
_EQUAL = re.compile(rf"\s*(?P<key>{_KEY})\s*(?P<op>==|=|!=)\s*(?P<value>{_VALUE})\s*")
_ORDER = re.compile(rf"\s*(?P<key>{_KEY})\s*(?P<op>[<>])\s*(?P<value>-?\d+)\s*")
_COMMA = re.compile(r",(?![^(]*\))")
_FIELD = re.compile(r"(?P<key>[^=!]+?)(?P<op>==|=|!=)(?P<value>.*)", re.DOTALL)

Test: TypeAlias = Callable[[Mapping[str, str]], bool]


class BadSelector(InvalidInput):
    """It is no selector, or selects by what cannot be selected by."""


def label_selector(text: str) -> Test:
    """Whether labels have what it asks for. Raises BadSelector."""
    tests = [_requirement(part) for part in _COMMA.split(text)] if text.strip() else []
    return lambda labels: all(test(labels) for test in tests)


def _requirement(part: str) -> Test:
    if match := _SET.fullmatch(part):
        values = frozenset(value.strip() for value in match["values"].split(","))
        return _among(match["key"], values, negative=match["op"] == "notin")
    if match := _EQUAL.fullmatch(part):
        return _among(match["key"], frozenset({match["value"]}), negative=match["op"] == "!=")
    if match := _ORDER.fullmatch(part):
        return _ordered(match["key"], int(match["value"]), above=match["op"] == ">")
    if match := _EXISTS.fullmatch(part):
        key, negative = match["key"], bool(match["no"])
        return lambda labels: (key in labels) != negative
    raise BadSelector(
        f"unable to parse requirement: {part.strip()!r} is none of: key, !key, key=value, "
        "key!=value, key in (a,b), key notin (a,b), key>1, key<1"
    )


def _among(key: str, values: frozenset[str], *, negative: bool) -> Test:
    if negative:
        return lambda labels: labels.get(key) not in values
    return lambda labels: labels.get(key) in values


def _ordered(key: str, bound: int, *, above: bool) -> Test:
    def test(labels: Mapping[str, str]) -> bool:
        try:
            value = int(labels.get(key, ""))
        except ValueError:
            return False
        return value > bound if above else value < bound

    return test


class _Term(NamedTuple):
    path: tuple[str, ...]
    value: str
    negative: bool


def field_selector(text: str, allowed: Collection[str]) -> Callable[[Json], bool]:
    """Whether an object's fields are as it asks for. Raises BadSelector for others than those."""
    terms = [_term(part, allowed) for part in _parts(text)]

    def test(document: Json) -> bool:
        return all((_value(document, t.path) == t.value) != t.negative for t in terms)

    return test


def _parts(text: str) -> Iterator[str]:
    return (part for part in re.split(r"(?<!\\),", text) if part)


def _term(part: str, allowed: Collection[str]) -> _Term:
    match = _FIELD.fullmatch(part)
    if match is None:
        raise BadSelector(f"invalid selector: {part!r}; can't understand it")
    key = match["key"].strip()
    if key not in allowed:
        raise BadSelector(
            f"field label not supported: {key}; supported: {', '.join(sorted(allowed))}"
        )
    value = re.sub(r"\\(.)", r"\1", match["value"])
    return _Term(tuple(key.split(".")), value, match["op"] == "!=")


def _value(document: object, path: tuple[str, ...]) -> str:
    for step in path:
        document = document.get(step) if isinstance(document, dict) else None
    if isinstance(document, bool):
        return str(document).lower()
    return "" if document is None else str(document)
