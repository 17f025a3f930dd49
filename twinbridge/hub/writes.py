"""What each kind of write makes of an object: pure functions from what is there to what shall be.

Source: Kubernetes API concepts and conventions; k8s.io/apiserver, registry/rest and
registry/generic; apiextensions-apiserver, registry/customresource.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from twinbridge.hub import metadata as meta
from twinbridge.hub import refusals
from twinbridge.hub.apply import ApplyConflict, apply, track_update
from twinbridge.hub.apply_conflicts import told
from twinbridge.hub.commits import Decide, Put, Remove
from twinbridge.hub.kinds import Json, Kind
from twinbridge.hub.own_kinds import refine
from twinbridge.hub.refusals import Cause
from twinbridge.hub.stored import Key

KEPT: Final = (
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)
"""Metadata that only the server sets."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a write is about, and how it is asked for."""

    kind: Kind
    key: Key
    manager: str
    now: str
    subresource: str = ""
    validation: str = "Warn"
    """`Strict`, `Warn` or `Ignore`: what becomes of fields that the schema does not know."""


def creating(asked: Asked, body: Json) -> Decide:
    """Of a body without status: that is written by itself."""

    def decide(old: Json | None) -> Put | Remove:
        if old is not None:
            raise refusals.already_exists(asked.kind, asked.key.name)
        return _created(asked, body, track=True)

    return decide


def replacing(asked: Asked, body: Json) -> Decide:
    def decide(old: Json | None) -> Put | Remove:
        if old is None:
            raise refusals.not_found(asked.kind, asked.key.name)
        if not asked.kind.builtin and not body["metadata"].get("resourceVersion"):
            told = "Invalid value: 0: must be specified for an update"
            cause = Cause("metadata.resourceVersion", "FieldValueInvalid", told)
            raise refusals.invalid(asked.kind, asked.key.name, [cause])
        return _updated(asked, old, body, track=True)

    return decide


def patching(asked: Asked, patch: Callable[[Json], object]) -> Decide:
    """`patch` gives the patched document of the live one; raises Refused."""

    def decide(old: Json | None) -> Put | Remove:
        if old is None:
            raise refusals.not_found(asked.kind, asked.key.name)
        body, warnings = known_fields(asked, checked(asked, patch(old)))
        made = _updated(asked, old, body, track=True)
        return made._replace(warnings=warnings) if isinstance(made, Put) else made

    return decide


def applying(asked: Asked, applied: Json, *, force: bool) -> Decide:
    """Server-side apply."""

    def decide(old: Json | None) -> Put | Remove:
        if old is None and asked.subresource:
            raise refusals.not_found(asked.kind, asked.key.name)
        version = applied["metadata"].get("resourceVersion")
        if old is None and version:
            raise refusals.not_found(asked.kind, asked.key.name)
        if old is not None and version and version != old["metadata"]["resourceVersion"]:
            raise refusals.conflict(asked.kind, asked.key.name)
        try:
            new = apply(
                old,
                applied,
                asked.manager,
                asked.kind.schema,
                subresource=asked.subresource,
                force=force,
                now=asked.now,
                api_version=asked.kind.api_version,
            )
        except ApplyConflict as conflict:
            raise told(conflict) from None
        if old is None:
            return _created(asked, new, track=False)
        new = {**new, "metadata": {**new["metadata"], "resourceVersion": ""}}
        return _updated(asked, old, new, track=False)

    return decide


@dataclass(frozen=True, slots=True)
class Deletion:
    """DeleteOptions, as far as they matter here: nothing owns anything here."""

    uid: str = ""
    version: str = ""


def deleting(asked: Asked, options: Deletion) -> Decide:
    def decide(old: Json | None) -> Put | Remove:
        if old is None:
            raise refusals.not_found(asked.kind, asked.key.name)
        _precondition(asked, old["metadata"], options)
        if not old["metadata"].get("finalizers"):
            return Remove(old)
        if old["metadata"].get("deletionTimestamp"):
            return Put(old, changed=False)
        marked = {**old["metadata"], "deletionTimestamp": asked.now}
        marked["deletionGracePeriodSeconds"] = 0
        if "generation" in marked:
            marked["generation"] += 1
        return Put({**old, "metadata": marked})

    return decide


def _precondition(asked: Asked, metadata: Json, options: Deletion) -> None:
    if options.uid and options.uid != metadata["uid"]:
        why = (
            f"Precondition failed: UID in precondition: {options.uid}, "
            f"UID in object meta: {metadata['uid']}"
        )
        raise refusals.conflict(asked.kind, asked.key.name, why)
    if options.version and options.version != metadata["resourceVersion"]:
        why = (
            f"the ResourceVersion in the precondition ({options.version}) does not match the "
            f"ResourceVersion in record ({metadata['resourceVersion']}). "
            "The object might have been modified"
        )
        raise refusals.conflict(asked.kind, asked.key.name, why)


def checked(asked: Asked, body: object) -> Json:
    """A body that is such an object, with metadata. Raises Refused: 400."""
    kind = asked.kind
    if not isinstance(body, dict):
        raise refusals.bad_request(f"the body is no object; give a {kind.kind}")
    version, name = body.get("apiVersion"), body.get("kind")
    if version != kind.api_version or name != kind.kind:
        message = (
            f"the API version in the data ({version}, Kind={name}) does not match the expected "
            f"API version ({kind.api_version}, Kind={kind.kind})"
        )
        raise refusals.bad_request(message)
    metadata = body.get("metadata")
    if not isinstance(metadata, dict):
        metadata = {}
    return {**body, "metadata": _metadata(kind, metadata)}


def _metadata(kind: Kind, metadata: Json) -> Json:
    made: Json = {}
    for name, value in metadata.items():
        wanted = meta.KNOWN.get(name, object)
        if value is None:
            continue
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is int):
            message = (
                f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '
                f"json: cannot unmarshal into Go struct field ObjectMeta.metadata.{name}"
            )
            raise refusals.bad_request(message)
        made[name] = value
    return made


def known_fields(asked: Asked, body: Json) -> tuple[Json, tuple[str, ...]]:
    """Without what the schema does not know, and the warnings. Raises Refused when strict."""
    kind = asked.kind
    strange = [f"metadata.{name}" for name in body["metadata"] if name not in meta.KNOWN]
    metadata = {k: v for k, v in body["metadata"].items() if k in meta.KNOWN}
    pruned, unknown = kind.schema.prune({**body, "metadata": metadata})
    told = tuple(f'unknown field "{path}"' for path in (*strange, *unknown))
    if told and asked.validation == "Strict":
        raise refusals.bad_request(
            f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '
            f"strict decoding error: {', '.join(told)}"
        )
    return pruned, told if asked.validation == "Warn" else ()


def _created(asked: Asked, body: Json, *, track: bool) -> Put:
    kind, key = asked.kind, asked.key
    given = body["metadata"]
    metadata = {name: value for name, value in given.items() if name not in KEPT}
    metadata |= {"name": key.name, "uid": str(uuid.uuid4()), "creationTimestamp": asked.now}
    if kind.namespaced:
        metadata["namespace"] = key.namespace
    if given.get("generateName"):
        metadata["generateName"] = given["generateName"]
    if not kind.builtin:
        metadata["generation"] = 1
    metadata.pop("selfLink", None)
    new = {**body, "metadata": metadata}
    if kind.has_status:
        new.pop("status", None)
    new = refine(kind, None, kind.schema.defaulted(new))
    if track:
        new = _tracked(asked, None, new)
    _check(asked, None, new)
    return Put(_ordered(new))


def _updated(asked: Asked, old: Json, body: Json, *, track: bool) -> Put | Remove:
    _check_identity(asked, old["metadata"], body["metadata"])
    new = refine(asked.kind, old, asked.kind.schema.defaulted(_strategy(asked, old, body)))
    if track:
        new = _tracked(asked, old, new)
    if not asked.kind.builtin and _without(new, ("metadata", "status")) != _without(
        old, ("metadata", "status")
    ):
        new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
    _check(asked, old, new)
    if new["metadata"].get("deletionTimestamp") and not new["metadata"].get("finalizers"):
        return Remove(_ordered(new))
    if _comparable(new) == _comparable(old):
        return Put(old, changed=False)
    return Put(_ordered(new))


def _strategy(asked: Asked, old: Json, body: Json) -> Json:
    """What of the body counts: the main verb leaves the status, /status leaves all else."""
    kept = {name: old["metadata"][name] for name in KEPT if name in old["metadata"]}
    managed = body["metadata"].get("managedFields")
    if asked.subresource == "status":
        metadata = {**old["metadata"]}
        new = {**old, "status": body.get("status")}
    else:
        metadata = {k: v for k, v in body["metadata"].items() if k not in KEPT}
        metadata.pop("selfLink", None)
        new = {**body}
        if asked.kind.has_status:
            new["status"] = old.get("status")
    if new.get("status") is None:
        new.pop("status", None)
    metadata.pop("managedFields", None)
    new["metadata"] = {**metadata, **kept}
    if managed is not None:
        new["metadata"]["managedFields"] = managed
    return new


def _check_identity(asked: Asked, old: Json, new: Json) -> None:
    name = asked.key.name
    if new.get("uid") not in (None, "", old["uid"]):
        why = (
            f"Precondition failed: UID in precondition: {new['uid']}, "
            f"UID in object meta: {old['uid']}"
        )
        raise refusals.conflict(asked.kind, name, why)
    if new.get("resourceVersion") not in (None, "", "0", old["resourceVersion"]):
        raise refusals.conflict(asked.kind, name)
    causes = [
        Cause(f"metadata.{field}", "FieldValueInvalid",
              f'Invalid value: "{new.get(field)}": field is immutable')
        for field in ("name", "namespace")
        if new.get(field) not in (None, old.get(field))
    ]  # fmt: skip
    fresh = set(new.get("finalizers") or ()) - set(old.get("finalizers") or ())
    if fresh and old.get("deletionTimestamp") and not asked.subresource:
        told = (
            "Forbidden: no new finalizers can be added if the object is being deleted, found new "
            f"finalizers {sorted(fresh)}"
        )
        causes.append(Cause("metadata.finalizers", "FieldValueForbidden", told))
    if causes:
        raise refusals.invalid(asked.kind, name, causes)


def _tracked(asked: Asked, old: Json | None, new: Json) -> Json:
    return track_update(
        old,
        new,
        asked.manager,
        asked.kind.schema,
        subresource=asked.subresource,
        now=asked.now,
        api_version=asked.kind.api_version,
    )


def _check(asked: Asked, old: Json | None, new: Json) -> None:
    causes = [*meta.check_metadata(new["metadata"]), *asked.kind.schema.check(new, old)]
    if causes:
        raise refusals.invalid(asked.kind, asked.key.name, causes)


def _without(document: Json, names: Collection[str]) -> Json:
    return {name: value for name, value in document.items() if name not in names}


def _comparable(document: Json) -> Json:
    """Without what alone makes no difference: the times at which fields were managed."""
    metadata = document["metadata"]
    managed = [_without(entry, ("time",)) for entry in metadata.get("managedFields") or ()]
    return {**document, "metadata": {**metadata, "managedFields": managed}}


_FIRST: Final = ("apiVersion", "kind", "metadata")


def _ordered(document: Json) -> Json:
    """As the API server writes it: the type, the metadata by name, then the rest."""
    rest = [name for name in document if name not in _FIRST]
    made = {name: document[name] for name in (*_FIRST, *rest)}
    made["metadata"] = {k: v for k, v in sorted(document["metadata"].items()) if v not in ({}, [])}
    return made
