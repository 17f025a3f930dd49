"""The schema of a kind: which fields an object may have, and what they are by default."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from twinbridge.hub.rules import check_rules
from twinbridge.hub.structure import Json, Schema, Structure, rooted
from twinbridge.hub.validation import Cause, Enough, Mistakes, check_object


class ResourceSchema:
    """The schema of one version of a kind."""

    def __init__(self, root: Schema, *, nulls_are_left_out: bool = False) -> None:
        """`nulls_are_left_out`: null is as if the field were not given, as Kubernetes' own kinds
        have it. Raises InvalidDefinition for what no API server takes.
        """
        self.structure = rooted(root)
        self._drops_nulls = nulls_are_left_out

    @classmethod
    def of(
        cls, crd: Mapping[str, Any], version: str = "v1alpha1", *, builtin: bool = False
    ) -> ResourceSchema:
        for served in crd["spec"]["versions"]:
            if served["name"] == version:
                return cls(served["schema"]["openAPIV3Schema"], nulls_are_left_out=builtin)
        raise ValueError(f"{crd['metadata']['name']} has no version {version}")

    def check(self, new: Json, old: Json | None) -> list[Cause]:
        """What is wrong with it. Parts that it has from the old one are not looked at again."""
        found = Mistakes()
        with suppress(Enough):
            check_object(new, old, self.structure, found)
            if self.structure.ruled:
                check_rules(new, old, self.structure, found)
        return found.causes

    def prune(self, document: Json) -> tuple[Json, list[str]]:
        """Without the fields that the schema does not know, and the paths of these."""
        unknown: list[str] = []
        pruned = _pruned(document, self.structure, "", unknown)
        return pruned, unknown

    def defaulted(self, document: Json) -> Json:
        """With the defaults of the schema for what is left out."""
        made = _without_nulls(document) if self._drops_nulls else document
        return _defaulted(made, self.structure) if self.structure.defaults else made


def _pruned(value: Any, at: Structure, path: str, unknown: list[str]) -> Any:  # noqa: ANN401 - any JSON
    """The value itself as long as all in it is known."""
    if isinstance(value, list):
        items = at.item()
        if items.free:
            return value
        return [_pruned(v, items, f"{path}[{i}]", unknown) for i, v in enumerate(value)]
    if not isinstance(value, dict):
        return value
    made: Json = {}
    for name, inner in value.items():
        known = at.properties.get(name) or at.more
        if known is None and not at.open:
            unknown.append(f"{path}.{name}" if path else name)
        elif known is None or known.free or not isinstance(inner, dict | list):
            made[name] = inner
        else:
            made[name] = _pruned(inner, known, f"{path}.{name}" if path else name, unknown)
    return made


def _without_nulls(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in value]
    if isinstance(value, dict):
        return {k: _without_nulls(inner) for k, inner in value.items() if inner is not None}
    return value


def _defaulted(value: Any, at: Structure) -> Any:  # noqa: ANN401 - any JSON
    """A null that may not be there gives way to the default, if there is one."""
    if isinstance(value, list):
        return [_defaulted(inner, at.item()) for inner in value]
    if not isinstance(value, dict):
        return value
    made = {name: _defaulted(inner, at.child(name)) for name, inner in value.items()}
    for name, known in at.properties.items():
        null = name in made and made[name] is None and not known.schema.get("nullable")
        if (name not in made or null) and "default" in known.schema:
            made[name] = known.schema["default"]
    return made
