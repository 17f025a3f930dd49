"""What a role may do, and what of it an edge may see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import orjson

from twinbridge.hub import refusals
from twinbridge.hub.kinds import Json, Kind
from twinbridge.hub.refusals import Refused
from twinbridge.hub.tokens import Identity, Role

READING: Final = ("get", "list", "watch")
_WRITING_STATUS: Final = ("get", "update", "patch")
_SET_BY_CLIENTS: Final = ("labels", "annotations", "finalizers", "ownerReferences")
_OF_A_NODE: Final = ("Device", "Rule")
_OF_ALL: Final = ("DeviceModel", "Namespace", "CustomResourceDefinition")


def allowed(who: Identity, verb: str, kind: Kind, subresource: str) -> bool:
    """Whether the role has this verb at all; of which objects, `visible` says."""
    if who.role is Role.ADMIN:
        return True
    if who.role in (Role.VIEWER, Role.OPERATOR):
        desires = who.role is Role.OPERATOR and _desires(verb, kind, subresource)
        return desires or verb in READING
    if subresource == "status":
        return kind.kind in (*_OF_A_NODE, "EdgeNode") and verb in _WRITING_STATUS
    if kind.kind == "Event":
        return verb in ("create", "patch")
    if kind.kind == "Lease":
        return verb in ("get", "create", "update", "patch")
    return kind.kind in (*_OF_A_NODE, *_OF_ALL, "EdgeNode") and verb in READING


def _desires(verb: str, kind: Kind, subresource: str) -> bool:
    return kind.kind == "Device" and not subresource and verb in ("update", "patch")


def only_desires(old: Json, new: Json) -> bool:
    """Whether nothing but `spec.desired` differs that a client may set."""
    return _defined(old) == _defined(new)


def _defined(document: Json) -> bytes:
    spec = {k: v for k, v in document.get("spec", {}).items() if k != "desired"}
    metadata = {k: document["metadata"].get(k) for k in _SET_BY_CLIENTS}
    return orjson.dumps((spec, metadata), option=orjson.OPT_SORT_KEYS)


def visible(who: Identity, kind: Kind) -> Callable[[Json], bool] | None:
    """Which objects the caller has to do with, as far as `Stored.selectable` tells; None: all."""
    if who.role is not Role.EDGE or kind.kind in (*_OF_ALL, "Event"):
        return None
    if kind.kind in _OF_A_NODE:
        return lambda item: item.get("spec", {}).get("nodeName") == who.node
    return lambda item: item["metadata"]["name"] == _own_name(who, kind)


def _own_name(who: Identity, kind: Kind) -> str:
    """Leases are everybody's kind: an edge's says in its name whose it is."""
    return f"twinbridge-{who.node}" if kind.kind == "Lease" else who.node


def may_name(who: Identity, kind: Kind, name: str) -> bool:
    """Whether the caller may write an object of that name, be it there or not."""
    own = who.role is Role.EDGE and kind.kind in ("Lease", "EdgeNode")
    return not own or name == _own_name(who, kind)


def denied(who: Identity, verb: str, kind: Kind, namespace: str, name: str, sub: str) -> Refused:
    """403, as RBAC says it."""
    resource = f"{kind.plural}/{sub}" if sub else kind.plural
    where = f' in the namespace "{namespace}"' if namespace else " at the cluster scope"
    why = (
        f'User "{who.name}" cannot {verb} resource "{resource}" in API group "{kind.group}"{where}'
    )
    return refusals.forbidden(kind, name, why)
