"""The kinds of Kubernetes itself that the hub serves, and the catalog of all of them.

Each has the fields that an edge and `kubectl` use (Kubernetes API reference, v1.32).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from twinbridge.hub.kinds import CLUSTER, Catalog, Json, Kind, kind_of

__all__ = ["CLUSTER", "DEFINITIONS", "catalog"]

DEFINITIONS: Final = "customresourcedefinitions.apiextensions.k8s.io"

_ANY: Final[Json] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_TEXT: Final[Json] = {"type": "string"}
_WHEN: Final[Json] = {"type": "string", "format": "date-time", "nullable": True}
_COUNT: Final[Json] = {"type": "integer", "format": "int32"}


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties}


_REFERENCE: Final = _object(
    kind=_TEXT,
    namespace=_TEXT,
    name=_TEXT,
    uid=_TEXT,
    apiVersion=_TEXT,
    resourceVersion=_TEXT,
    fieldPath=_TEXT,
)
_SOURCE: Final = _object(component=_TEXT, host=_TEXT)
_CORE_EVENT: Final = {
    "involvedObject": _REFERENCE,
    "reason": _TEXT,
    "message": _TEXT,
    "source": _SOURCE,
    "firstTimestamp": _WHEN,
    "lastTimestamp": _WHEN,
    "count": _COUNT,
    "type": _TEXT,
    "eventTime": _WHEN,
    "series": {**_object(count=_COUNT, lastObservedTime=_WHEN), "nullable": True},
    "action": _TEXT,
    "related": {**_REFERENCE, "nullable": True},
    "reportingComponent": _TEXT,
    "reportingInstance": _TEXT,
}
_NEW_EVENT: Final = {
    "eventTime": _WHEN,
    "series": {**_object(count=_COUNT, lastObservedTime=_WHEN), "nullable": True},
    "reportingController": _TEXT,
    "reportingInstance": _TEXT,
    "action": _TEXT,
    "reason": _TEXT,
    "regarding": _REFERENCE,
    "related": {**_REFERENCE, "nullable": True},
    "note": _TEXT,
    "type": _TEXT,
    "deprecatedSource": _SOURCE,
    "deprecatedFirstTimestamp": _WHEN,
    "deprecatedLastTimestamp": _WHEN,
    "deprecatedCount": _COUNT,
}
_LEASE: Final = {
    "spec": _object(
        holderIdentity=_TEXT,
        leaseDurationSeconds=_COUNT,
        acquireTime=_WHEN,
        renewTime=_WHEN,
        leaseTransitions=_COUNT,
        strategy=_TEXT,
        preferredHolder=_TEXT,
    )
}
_EVENT_COLUMNS: Final = (
    ("Last Seen", "date", ".lastTimestamp"),
    ("Type", "string", ".type"),
    ("Reason", "string", ".reason"),
    ("Object", "string", ".involvedObject"),
    ("Message", "string", ".message"),
)
_INVOLVED: Final = tuple(
    f"involvedObject.{field}"
    for field in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
)
_AGE: Final = ("Age", "date", ".metadata.creationTimestamp")
_READ: Final = ("get", "list", "watch")


def _definition(
    group: str,
    version: str,
    names: str,
    properties: Mapping[str, Json],
    columns: Iterable[tuple[str, str, str]],
    *,
    scope: str = "Namespaced",
    fields: Iterable[str] = (),
) -> Json:
    kind, plural, *short = names.split()
    schema = _object(apiVersion=_TEXT, kind=_TEXT, metadata={"type": "object"}, **properties)
    served = {
        "name": version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "additionalPrinterColumns": [
            {"name": name, "type": kind, "jsonPath": path} for name, kind, path in columns
        ],
        "selectableFields": [{"jsonPath": f".{field}"} for field in fields],
        "subresources": {},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}" if group else plural},
        "spec": {
            "group": group,
            "scope": scope,
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": short,
            },
            "versions": [served],
        },
    }


_OWN: Final = {
    "namespaces": _definition(
        "",
        "v1",
        "Namespace namespaces ns",
        {"spec": _ANY, "status": _object(phase=_TEXT)},
        [("Status", "string", ".status.phase"), _AGE],
        scope="Cluster",
    ),
    "events": _definition(
        "",
        "v1",
        "Event events ev",
        _CORE_EVENT,
        _EVENT_COLUMNS,
        fields=(*_INVOLVED, "reason", "reportingComponent", "type"),
    ),
    "events.events.k8s.io": _definition(
        "events.k8s.io",
        "v1",
        "Event events ev",
        _NEW_EVENT,
        [
            ("Last Seen", "date", ".deprecatedLastTimestamp"),
            ("Type", "string", ".type"),
            ("Reason", "string", ".reason"),
            ("Object", "string", ".regarding"),
            ("Message", "string", ".note"),
        ],
        fields=("reason", "type"),
    ),
    "leases.coordination.k8s.io": _definition(
        "coordination.k8s.io",
        "v1",
        "Lease leases",
        _LEASE,
        [("Holder", "string", ".spec.holderIdentity"), _AGE],
    ),
    DEFINITIONS: _definition(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition customresourcedefinitions crd crds",
        {"spec": _ANY, "status": _ANY},
        [("Created At", "string", ".metadata.creationTimestamp")],
        scope="Cluster",
    ),
}
_VERBS: Final = {
    "namespaces": (*_READ, "create", "update", "patch", "delete"),
    DEFINITIONS: (*_READ, "create", "update", "patch"),
}


def catalog(crds: Iterable[Mapping[str, Any]]) -> Catalog:
    """Kubernetes' own kinds, then ours, as `crds` define them."""
    ours = list(crds)
    kinds: list[Kind] = [
        kind_of(
            definition,
            builtin=True,
            stored_as="events" if name == "events.events.k8s.io" else "",
            **({"verbs": _VERBS[name]} if name in _VERBS else {}),
        )
        for name, definition in _OWN.items()
    ]
    kinds += map(kind_of, ours)
    return Catalog(kinds, [*_OWN.values(), *ours])
