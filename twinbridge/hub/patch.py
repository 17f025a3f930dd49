"""JSON merge patch (RFC 7386) and JSON patch (RFC 6902); what is given is left as it was."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, Final

from twinbridge.errors import InvalidInput
from twinbridge.hub.json_values import same

MOST_OPERATIONS: Final = 10_000
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,9}")
_MISSING: Final = object()


class PatchFailed(InvalidInput):
    """An operation does not fit what is there, or is none."""


def merge_patch(target: Any, patch: Any) -> Any:  # noqa: ANN401 - any JSON
    if not isinstance(patch, Mapping):
        return patch
    made = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            made.pop(name, None)
        else:
            made[name] = merge_patch(made.get(name), value)
    return made


def json_patch(target: Any, operations: object) -> Any:  # noqa: ANN401 - any JSON
    """All operations in order, or PatchFailed."""
    if not isinstance(operations, Sequence) or isinstance(operations, str | bytes):
        raise PatchFailed("a JSON patch is a list of operations")
    if len(operations) > MOST_OPERATIONS:
        raise PatchFailed(f"at most {MOST_OPERATIONS} operations are taken at once")
    document = deepcopy(target)
    for index, operation in enumerate(operations):
        if not isinstance(operation, Mapping):
            raise PatchFailed(f"operation {index} is no object")
        document = _apply(document, operation, f"operation {index}")
    return document


def _apply(document: Any, operation: Mapping[str, Any], place: str) -> Any:  # noqa: ANN401 - any JSON
    kind, path = operation.get("op"), _tokens(operation.get("path"), place)
    match kind:
        case "add":
            return _add(document, path, _given(operation, place), place)
        case "remove":
            return _remove(document, path, place)
        case "replace":
            _get(document, path, place)
            return _add(_removed(document, path, place), path, _given(operation, place), place)
        case "test":
            if not same(_get(document, path, place), _given(operation, place)):
                raise PatchFailed(f"{place}: testing value {operation['path']} failed")
            return document
        case "move" | "copy":
            source = _tokens(operation.get("from"), place)
            value = deepcopy(_get(document, source, place))
            if kind == "move":
                if path[: len(source)] == source and path != source:
                    raise PatchFailed(f"{place}: nothing can be moved into itself")
                document = _remove(document, source, place)
            return _add(document, path, value, place)
    raise PatchFailed(f"{place}: Unexpected kind: {kind}")


def _given(operation: Mapping[str, Any], place: str) -> Any:  # noqa: ANN401 - any JSON
    if "value" not in operation:
        raise PatchFailed(f"{place}: has no value")
    return deepcopy(operation["value"])


def _tokens(path: object, place: str) -> list[str]:
    if not isinstance(path, str) or (path and not path.startswith("/")):
        raise PatchFailed(f"{place}: {path!r} is no JSON pointer")
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]


def _index(token: str, length: int, place: str) -> int:
    if not _INDEX.fullmatch(token) or int(token) >= length:
        raise PatchFailed(f"{place}: there is no index {token!r} in a list of {length}")
    return int(token)


def _get(document: Any, path: list[str], place: str) -> Any:  # noqa: ANN401 - any JSON
    for token in path:
        if isinstance(document, dict):
            document = document.get(token, _MISSING)
            if document is _MISSING:
                raise PatchFailed(f"{place}: there is no {'/'.join(path)!r}")
        elif isinstance(document, list):
            document = document[_index(token, len(document), place)]
        else:
            raise PatchFailed(f"{place}: there is no {'/'.join(path)!r}")
    return document


def _add(document: Any, path: list[str], value: Any, place: str) -> Any:  # noqa: ANN401 - any JSON
    if not path:
        return value
    parent = _get(document, path[:-1], place)
    if isinstance(parent, dict):
        parent[path[-1]] = value
    elif isinstance(parent, list):
        last = len(parent)
        parent.insert(last if path[-1] == "-" else _index(path[-1], last + 1, place), value)
    else:
        raise PatchFailed(f"{place}: nothing can be put below a plain value")
    return document


def _remove(document: Any, path: list[str], place: str) -> Any:  # noqa: ANN401 - any JSON
    _get(document, path, place)
    return _removed(document, path, place)


def _removed(document: Any, path: list[str], place: str) -> Any:  # noqa: ANN401 - any JSON
    if not path:
        return None
    parent = _get(document, path[:-1], place)
    if isinstance(parent, dict):
        del parent[path[-1]]
    else:
        del parent[_index(path[-1], len(parent), place)]
    return document
