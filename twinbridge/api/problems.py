"""What is wrong with a definition, said so that a person can mend it at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """`str()` is `file:line: Device/pump-1: spec.poll.interval: what is wrong, what is allowed`.

    A warning is said but refuses nothing. `line` is 0 where there is no place to name.
    """

    file: str
    line: int
    subject: str
    field: str
    message: str
    warning: bool = False

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        kind = "warning: " if self.warning else ""
        parts = [part for part in (place, self.subject, self.field) if part]
        return f"{': '.join(parts)}: {kind}{self.message}"


def did_you_mean(given: object, allowed: Iterable[str]) -> str:
    """` (did you mean 'x'?)`, or nothing if no allowed word is near."""
    near = difflib.get_close_matches(str(given), list(allowed), n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""


def choices(allowed: Iterable[str]) -> str:
    """Names for a message, at most twenty of them."""
    names = sorted(allowed)
    more = ", …" if len(names) > 20 else ""  # noqa: PLR2004 - a line that can still be read
    return (", ".join(names[:20]) + more) if names else "none"


def unknown(what: str, given: object, allowed: Sequence[str]) -> str:
    return f"unknown {what} {given!r}{did_you_mean(given, allowed)}; there is {choices(allowed)}"


def complaints(error: ValidationError, model: type[BaseModel]) -> Iterator[tuple[Path, str]]:
    """Each thing that pydantic found, as the path of the field and a sentence."""
    for detail in error.errors(include_url=False, include_context=True):
        yield detail["loc"], _sentence(detail, model)


def _sentence(detail: ErrorDetails, model: type[BaseModel]) -> str:
    given = detail["input"]
    context = detail.get("ctx") or {}
    match detail["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            allowed = fields_at(model, detail["loc"][:-1])
            name = detail["loc"][-1] if detail["loc"] else ""
            return f"unknown field{did_you_mean(name, allowed)}; allowed here: {choices(allowed)}"
        case "enum" | "literal_error":
            expected = str(context.get("expected", ""))
            words = expected.replace("'", "").replace(" or ", ", ").split(", ")
            return f"{given!r} is not one of {expected}{did_you_mean(given, words)}"
        case "value_error":
            return str(context.get("error", detail["msg"]))
        case _:
            return f"{_lower(detail['msg'])}{_seen(given)}"


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]


def _seen(given: object) -> str:
    if isinstance(given, dict | list):
        return f", not a {'mapping' if isinstance(given, dict) else 'list'}"
    return f", not {str(given)[:60]!r}" if isinstance(given, str) else f", not {given}"


def fields_at(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """The fields, as written in YAML, of the model that is found under `path`."""
    current: type[BaseModel] | None = model
    for step in path:
        if isinstance(step, int):
            continue
        current = _submodel(current, step)
        if current is None:
            return []
    return [info.alias or name for name, info in current.model_fields.items()] if current else []


def _submodel(model: type[BaseModel] | None, alias: str) -> type[BaseModel] | None:
    if model is None:
        return None
    for name, info in model.model_fields.items():
        if alias in (info.alias, name):
            return _model_in(info.annotation)
    return None


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        found = _model_in(part)
        if found is not None:
            return found
    return None
