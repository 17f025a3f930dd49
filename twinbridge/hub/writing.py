"""Create, update, patch and delete: from the request to what is written."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from twinbridge.hub import access, asked, formats, metadata, refusals, writes
from twinbridge.hub.answers import json_answer
from twinbridge.hub.asked import Target
from twinbridge.hub.commits import Decide, Put, Remove, Written
from twinbridge.hub.events_k8s import to_shown, to_stored
from twinbridge.hub.kinds import CLUSTER, Catalog, Json, Kind
from twinbridge.hub.patch import PatchFailed, json_patch, merge_patch
from twinbridge.hub.store import HubStore
from twinbridge.hub.stored import Key
from twinbridge.hub.tokens import Identity, Role
from twinbridge.hub.watch import Selection
from twinbridge.hub.writes import Asked, Deletion

APPLY: Final = "application/apply-patch+yaml"
MERGE: Final = "application/merge-patch+json"
JSON: Final = "application/json-patch+json"
STRATEGIC: Final = "application/strategic-merge-patch+json"


class Writing:
    """The verbs that change something, on one store."""

    def __init__(self, store: HubStore, catalog: Catalog) -> None:
        self._store = store
        self._catalog = catalog
        self.verbs = {
            "create": self.create,
            "update": self.update,
            "patch": self.patch,
            "delete": self.delete,
        }

    async def create(self, request: Request, target: Target, who: Identity) -> Response:
        kind = self._stored(target)
        body = to_stored(target.kind, _document(await asked.document_of(request)))
        question = self._question(request, target, kind)
        body, warnings = writes.known_fields(question, writes.checked(question, body))
        name = _name(body)
        if not access.may_name(who, kind, name):
            raise access.denied(who, "create", target.kind, target.namespace, name, "")
        self._check_place(question, body)
        question = Asked(
            kind, Key(kind.key, target.namespace, name), question.manager, question.now
        )
        decide = writes.creating(question, body)
        written = await self._write(request, question, decide)
        return await self._answer(request, target, written, warnings, created=True)

    async def update(self, request: Request, target: Target, who: Identity) -> Response:
        kind = self._stored(target)
        body = to_stored(target.kind, _document(await asked.document_of(request)))
        question = self._question(request, target, kind)
        body, warnings = writes.known_fields(question, writes.checked(question, body))
        self._check_place(question, body)
        decide = writes.replacing(question, body)
        guarded = _guarded(decide, who, "update", target)
        written = await self._write(request, question, guarded)
        return await self._answer(request, target, written, warnings)

    async def patch(self, request: Request, target: Target, who: Identity) -> Response:
        kind = self._stored(target)
        how = asked.content_type(request)
        if how == APPLY:
            return await self._apply(request, target, who)
        accepted = [JSON, MERGE, APPLY, *([STRATEGIC] if kind.builtin else [])]
        if how not in accepted:
            raise refusals.unsupported_media(accepted)
        given = asked.parsed(await asked.body_of(request), as_yaml=False)
        question = self._question(request, target, kind)
        patched = partial(_patched, target.kind, how, given)
        guarded = _guarded(writes.patching(question, patched), who, "patch", target)
        written = await self._write(request, question, guarded)
        return await self._answer(request, target, written, ())

    async def _apply(self, request: Request, target: Target, who: Identity) -> Response:
        kind = self._stored(target)
        manager = asked.required_manager(request)
        given = asked.parsed(await asked.body_of(request), as_yaml=True)
        question = self._question(request, target, kind)
        applied = writes.checked(question, to_stored(target.kind, _document(given)))
        if applied["metadata"].get("managedFields"):
            raise refusals.bad_request("metadata.managedFields must be nil")
        applied, warnings = writes.known_fields(question, applied)
        self._check_place(question, applied)
        if not access.may_name(who, kind, target.name):
            raise access.denied(who, "patch", target.kind, target.namespace, target.name, "")
        force = asked.flag(request.query_params, "force")
        question = Asked(
            kind, question.key, manager, question.now, question.subresource, question.validation
        )
        decide = writes.applying(question, applied, force=force)
        guarded = _guarded(decide, who, "patch", target)
        written = await self._write(request, question, guarded)
        return await self._answer(request, target, written, warnings, created=written.created)

    async def delete(self, request: Request, target: Target, who: Identity) -> Response:
        options = await asked.options_of(request)
        question = self._question(request, target, self._stored(target))
        self._check_deletable(question)
        decide = writes.deleting(question, _deletion(options))
        guarded = _guarded(decide, who, "delete", target)
        dry = asked.is_dry(request.query_params, options)
        written = await self._store.write(question.kind, question.key, guarded, dry=dry)
        form = formats.wanted(request.headers.get("accept", ""))
        if not written.deleted:
            shown = formats.one(target.kind, written.document, form)
            return await json_answer(request, shown, form=form)
        return await json_answer(request, _deleted(target.kind, written.document), form=form)

    async def delete_all(self, request: Request, target: Target, chosen: Selection) -> Response:
        options = await asked.options_of(request)
        form = formats.wanted(request.headers.get("accept", ""))
        kind = self._stored(target)
        dry = asked.is_dry(request.query_params, options)
        found = [item for item in self._store.items(kind.key).values() if chosen.has(item)]
        for item in found:
            question = Asked(kind, item.key, "", metadata.now())
            decide = _if_there(writes.deleting(question, Deletion()))
            await self._store.write(kind, item.key, decide, dry=dry)
        about: Json = {"resourceVersion": str(self._store.version)}
        return await json_answer(
            request, formats.listed(target.kind, found, about, form), form=form
        )

    def _stored(self, target: Target) -> Kind:
        return self._catalog.stored(target.kind.key) or target.kind

    def _question(self, request: Request, target: Target, kind: Kind) -> Asked:
        return Asked(
            kind,
            Key(kind.key, target.namespace, target.name),
            asked.manager(request),
            metadata.now(),
            target.subresource,
            asked.validation(request.query_params),
        )

    def _check_place(self, question: Asked, body: Json) -> None:
        """That it goes into a namespace that exists, under the name of the URL."""
        kind, key, given = question.kind, question.key, body["metadata"]
        if kind.namespaced and given.get("namespace") not in (None, "", key.namespace):
            raise refusals.bad_request(
                "the namespace of the provided object does not match the namespace sent on the "
                "request"
            )
        if key.name and given.get("name") not in (None, "", key.name):
            raise refusals.bad_request(
                f"the name of the object ({given['name']}) does not match the name on the URL "
                f"({key.name})"
            )
        if not kind.namespaced:
            return
        home = self._catalog.find("", "v1", "namespaces")
        if home and self._store.get(Key(home.key, CLUSTER, key.namespace)) is None:
            raise refusals.not_found(home, key.namespace)

    def _check_deletable(self, question: Asked) -> None:
        """A namespace goes only when nothing is in it."""
        name = question.key.name
        if question.kind.kind != "Namespace":
            return
        if name == "default":
            why = "this namespace may not be deleted"
            raise refusals.forbidden(question.kind, name, why)
        for kind in self._catalog.kinds:
            if kind.namespaced and any(k.namespace == name for k in self._store.items(kind.key)):
                why = f"there are {kind.plural} in it: delete them first"
                raise refusals.conflict(question.kind, name, why)

    async def _write(self, request: Request, question: Asked, decide: Decide) -> Written:
        dry = asked.is_dry(request.query_params)
        return await self._store.write(question.kind, question.key, decide, dry=dry)

    async def _answer(
        self,
        request: Request,
        target: Target,
        written: Written,
        warnings: tuple[str, ...],
        *,
        created: bool = False,
    ) -> Response:
        form = formats.wanted(request.headers.get("accept", ""))
        return await json_answer(
            request,
            formats.one(target.kind, written.document, form),
            code=HTTPStatus.CREATED if created else HTTPStatus.OK,
            form=form,
            warnings=(*warnings, *written.warnings),
        )


def _document(body: object) -> Json:
    if not isinstance(body, dict):
        raise refusals.bad_request("the body is no object")
    return body


def _name(body: Json) -> str:
    given = body["metadata"]
    if not given.get("name") and given.get("generateName"):
        return metadata.generated(given["generateName"])
    return str(given.get("name", ""))


def _patched(kind: Kind, how: str, given: object, live: Json) -> object:
    shown = to_shown(kind, live)
    try:
        made = json_patch(shown, given) if how == JSON else merge_patch(shown, given)
    except PatchFailed as error:
        raise refusals.patch_failed(str(error)) from None
    return to_stored(kind, _document(made))


def _guarded(decide: Decide, who: Identity, verb: str, target: Target) -> Decide:
    """Only what the caller has to do with, as it is when it is written."""
    if who.role is Role.OPERATOR:
        return _desiring(decide, who, verb, target)
    visible = access.visible(who, target.kind)
    if visible is None:
        return decide

    def guarded(old: Json | None) -> Put | Remove:
        if old is not None and not visible(old):
            kind, namespace, name, sub = target
            raise access.denied(who, verb, kind, namespace, name, sub)
        return decide(old)

    return guarded


def _desiring(decide: Decide, who: Identity, verb: str, target: Target) -> Decide:
    """Only what an operator may change of what is there."""

    def guarded(old: Json | None) -> Put | Remove:
        made = decide(old)
        if old is None or isinstance(made, Remove) or not access.only_desires(old, made.document):
            kind, namespace, name, _ = target
            what = "but spec.desired" if old is not None else "anew"
            raise access.denied(who, f"{verb} anything {what} of", kind, namespace, name, "")
        return made

    return guarded


def _if_there(decide: Callable[[Json | None], Put | Remove]) -> Decide:
    return lambda old: Put({}, changed=False) if old is None else decide(old)


def _deletion(options: Json) -> Deletion:
    wanted = options.get("preconditions") or {}
    if not isinstance(wanted, dict):
        raise refusals.bad_request("preconditions are an object: uid, resourceVersion")
    return Deletion(str(wanted.get("uid") or ""), str(wanted.get("resourceVersion") or ""))


def _deleted(kind: Kind, document: Json) -> Json:
    details = {
        "name": document["metadata"]["name"],
        **({"group": kind.group} if kind.group else {}),
        "kind": kind.plural,
        "uid": document["metadata"]["uid"],
    }
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    }
