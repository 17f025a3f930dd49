"""The rules in CEL of a schema, on an object whose structure is right.

Source: Kubernetes, CustomResourceDefinitions, "Validation rules"; apiextensions-apiserver,
schema/cel. A rule that names `oldSelf` holds for a change alone: it is asked where there was a
value before, which an item of a list has only by its key.
"""

from __future__ import annotations

from typing import Any, Final

from twinbridge.hub.rules_cel import holds
from twinbridge.hub.structure import Json, Rule, Structure
from twinbridge.hub.validation import Mistakes

_BLOCKING: Final = frozenset(
    (
        "FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany", "FieldValueTypeInvalid",
    )
)  # fmt: skip
_NOT_CHECKED: Final = (
    'Invalid value: "null": some validation rules were not checked because the object was invalid;'
    " correct the existing errors to complete validation"
)
_ABSENT: Final = object()


def check_rules(new: Json, old: Json | None, root: Structure, found: Mistakes) -> None:
    """Raises Enough. Rules about a whole object see no more of its metadata than its name."""
    if any(cause.type in _BLOCKING for cause in found.causes):
        found.told("<nil>", "FieldValueInvalid", _NOT_CHECKED)
        return
    before = _ABSENT if old is None else _seen(old)
    _ask(root, _seen(new), before, "", found)
    for name, value in new.items():
        was = _ABSENT if old is None else old.get(name, _ABSENT)
        if name != "metadata" and value is not was:
            _check(root.child(name), value, was, name, found)


def _seen(document: Json) -> Json:
    metadata = document.get("metadata", {})
    named = {k: metadata[k] for k in ("name", "generateName") if k in metadata}
    return {**document, "metadata": named}


def _check(at: Structure, value: Any, old: Any, path: str, found: Mistakes) -> None:  # noqa: ANN401 - any JSON
    if not at.ruled or value is None:
        return
    _ask(at, value, old, path, found)
    if isinstance(value, dict):
        known = old if isinstance(old, dict) else {}
        for name, inner in value.items():
            _check(at.child(name), inner, known.get(name, _ABSENT), f"{path}.{name}", found)
    elif isinstance(value, list):
        named = _by_keys(old, at.keys)
        for index, inner in enumerate(value):
            was = named.get(_key(inner, at.keys), _ABSENT)
            _check(at.item(), inner, was, f"{path}[{index}]", found)


def _by_keys(items: Any, keys: tuple[str, ...]) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    if not keys or not isinstance(items, list):
        return {}
    return {_key(item, keys): item for item in items}


def _key(item: Any, keys: tuple[str, ...]) -> str:  # noqa: ANN401 - any JSON
    return repr([item.get(key) for key in keys]) if isinstance(item, dict) else ""


def _ask(at: Structure, value: Any, old: Any, path: str, found: Mistakes) -> None:  # noqa: ANN401 - any JSON
    for rule in at.rules:
        if rule.transition and old is _ABSENT:
            continue
        wrong = holds(rule.text, value, *((old,) if rule.transition else ()))
        if wrong is not None:
            _tell(rule, value, path, wrong, found)


def _tell(rule: Rule, value: object, path: str, more: str, found: Mistakes) -> None:
    field = f"{path}{rule.field_path}".lstrip(".") or "<nil>"
    told = rule.message or f"failed rule: {rule.text}"
    if rule.reason == "FieldValueForbidden":
        found.told(field, rule.reason, f"Forbidden: {told}{more}")
    elif rule.reason == "FieldValueRequired":
        found.told(field, rule.reason, f"Required value: {told}{more}")
    else:
        found.invalid(field, value, f"{told}{more}")
