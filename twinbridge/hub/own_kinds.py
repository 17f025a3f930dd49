"""What only Namespaces and CustomResourceDefinitions need."""

from __future__ import annotations

from typing import Final

from twinbridge.hub import refusals
from twinbridge.hub.kinds import Json, Kind

_DEFINITION: Final = "CustomResourceDefinition"


def refine(kind: Kind, old: Json | None, new: Json) -> Json:
    """As the server completes it. Raises Refused for what this hub cannot take."""
    if kind.kind == "Namespace":
        return _namespace(new)
    if kind.kind == _DEFINITION:
        return _definition(kind, old, new)
    return new


def _namespace(new: Json) -> Json:
    metadata = new["metadata"]
    labels = {**(metadata.get("labels") or {}), "kubernetes.io/metadata.name": metadata["name"]}
    return {
        **new,
        "metadata": {**metadata, "labels": labels},
        "spec": new.get("spec") or {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


def _definition(kind: Kind, old: Json | None, new: Json) -> Json:
    name = new["metadata"]["name"]
    if old is None:
        raise refusals.forbidden(kind, name, "this hub serves the kinds of TwinBridge alone")
    if new.get("spec") != old.get("spec"):
        why = "it is another version of the definition than this hub's own; see `twinbridge crds`"
        raise refusals.forbidden(kind, name, why)
    return {**new, "status": old["status"]}


def established(definition: Json, now: str) -> Json:
    """The definition as a cluster shows it once it is served."""
    spec = definition["spec"]
    conditions = [
        {
            "type": kind,
            "status": "True",
            "reason": reason,
            "message": message,
            "lastTransitionTime": now,
        }
        for kind, reason, message in (
            ("NamesAccepted", "NoConflicts", "no conflicts found"),
            ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        )
    ]
    status = {
        "conditions": conditions,
        "acceptedNames": spec["names"],
        "storedVersions": [version["name"] for version in spec["versions"]],
    }
    return {**definition, "status": status}
