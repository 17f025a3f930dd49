"""The kinds that the hub serves, each made from its CustomResourceDefinition."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from twinbridge.hub.schema import ResourceSchema

Json: TypeAlias = dict[str, Any]

CLUSTER = ""
"""The namespace of what has none."""

ALL_VERBS = (
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "create",
    "update",
    "watch",
)  # fmt: skip


class Column(NamedTuple):
    """A printer column: `kind` is `string`, `integer`, `date` …, `path` a JSONPath."""

    name: str
    kind: str
    path: str
    priority: int = 0
    description: str = ""


@dataclass(frozen=True, eq=False, slots=True)
class Kind:
    group: str
    version: str
    kind: str
    plural: str
    singular: str
    short_names: tuple[str, ...]
    categories: tuple[str, ...]
    namespaced: bool
    schema: ResourceSchema
    columns: tuple[Column, ...]
    selectable: tuple[str, ...]
    """Fields beside metadata.name and metadata.namespace by which it can be selected."""
    has_status: bool
    builtin: bool
    """Part of Kubernetes itself; it has no generation, and takes strategic merge patches."""
    verbs: tuple[str, ...] = ALL_VERBS
    stored_as: str = ""
    """The resource that holds it, when that is another one."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """`devices.devices.twinbridge.io`, `events`: as messages name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def key(self) -> str:
        """Under which its objects are stored."""
        return self.stored_as or self.resource

    @property
    def fields(self) -> tuple[str, ...]:
        own = ("metadata.name", "metadata.namespace") if self.namespaced else ("metadata.name",)
        return (*own, *self.selectable)


def kind_of(
    crd: Mapping[str, Any],
    *,
    builtin: bool = False,
    verbs: tuple[str, ...] = ALL_VERBS,
    stored_as: str = "",
) -> Kind:
    """The kind that a CustomResourceDefinition defines, in its first version."""
    spec, names = crd["spec"], crd["spec"]["names"]
    version = spec["versions"][0]
    return Kind(
        group=spec["group"],
        version=version["name"],
        kind=names["kind"],
        plural=names["plural"],
        singular=names["singular"],
        short_names=tuple(names.get("shortNames", ())),
        categories=tuple(names.get("categories", ())),
        namespaced=spec["scope"] == "Namespaced",
        schema=ResourceSchema.of(crd, version["name"], builtin=builtin),
        columns=tuple(map(_column, version.get("additionalPrinterColumns", ()))),
        selectable=tuple(f["jsonPath"].lstrip(".") for f in version.get("selectableFields", ())),
        has_status="status" in version.get("subresources", {}),
        builtin=builtin,
        verbs=verbs,
        stored_as=stored_as,
    )


def _column(given: Mapping[str, Any]) -> Column:
    return Column(
        given["name"],
        given["type"],
        given["jsonPath"],
        given.get("priority", 0),
        given.get("description", ""),
    )


class Catalog:
    """All kinds, found by group, version and plural, in the order of discovery."""

    def __init__(self, kinds: Iterable[Kind], definitions: Iterable[Mapping[str, Any]]) -> None:
        self.kinds = tuple(kinds)
        self.definitions = tuple(definitions)
        """CustomResourceDefinitions of our kinds, and of Kubernetes' own for OpenAPI."""
        self._found = {(k.group, k.version, k.plural): k for k in self.kinds}
        self._stored = {k.key: k for k in reversed(self.kinds)}

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        return self._found.get((group, version, plural))

    def stored(self, key: str) -> Kind | None:
        """The kind whose objects are stored under this key."""
        return self._stored.get(key)

    @property
    def group_versions(self) -> list[str]:
        return list(dict.fromkeys(kind.api_version for kind in self.kinds))

    def groups(self) -> dict[str, dict[str, list[Kind]]]:
        """Group → version → kinds."""
        found: dict[str, dict[str, list[Kind]]] = {}
        for kind in self.kinds:
            found.setdefault(kind.group, {}).setdefault(kind.version, []).append(kind)
        return found
