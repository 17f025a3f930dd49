"""The REST twin API over all nodes, below `/twins/v1`, on the resources that the hub holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from typing import Final

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from twinbridge.api.wire import parse_patch
from twinbridge.core.model import DesiredSpec
from twinbridge.errors import InvalidDesired, StoreUnavailable
from twinbridge.hub import access, asked, metadata, refusals, writes
from twinbridge.hub.asked import Place
from twinbridge.hub.fleet_events import FleetEvents
from twinbridge.hub.fleet_trips import held, stops
from twinbridge.hub.fleet_views import (
    Specs,
    check_wishes,
    device_specs,
    device_view,
    etag,
    holds,
    merged,
    model_specs,
    silent_since,
)
from twinbridge.hub.hub import Hub
from twinbridge.hub.kinds import Json, Kind
from twinbridge.hub.refusals import Refused
from twinbridge.hub.stored import Key, Stored, selected_value
from twinbridge.hub.tokens import LOCAL, Identity
from twinbridge.hub.watch import Selection

PREFIX: Final = "/twins"
PAGE: Final = 100
LONGEST_PAGE: Final = 1000
_GROUP: Final = ("devices.twinbridge.io", "v1alpha1")
_MEDIA: Final = ("application/json", "application/merge-patch+json")
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_MOST_MODELS: Final = 10_000


class Fleet:
    """Its `app` is to be served below `PREFIX`."""

    def __init__(self, hub: Hub, now: Callable[[], int] = time.time_ns) -> None:
        """`now` gives UTC ns."""
        self._hub = hub
        self._now = now
        self._device = self._kind(*_GROUP, "devices")
        self._model = self._kind(*_GROUP, "devicemodels")
        self._rule = self._kind(*_GROUP, "rules")
        self._lease = self._kind("coordination.k8s.io", "v1", "leases")
        self._models: dict[Key, tuple[int, Specs]] = {}
        at = f"{PREFIX}/v1"
        self.app = Starlette(
            routes=[
                Route(f"{at}/devices", self._list, methods=["GET"]),
                Route(f"{at}/devices/{{name}}", self._get, methods=["GET"]),
                Route(f"{at}/devices/{{name}}/desired", self._patch, methods=["PATCH"]),
                Route(f"{at}/events", self._events, methods=["GET"]),
            ],
            exception_handlers={
                Refused: _refused,
                InvalidDesired: _invalid,
                StoreUnavailable: _unavailable,
            },
        )

    def _kind(self, group: str, version: str, plural: str) -> Kind:
        found = self._hub.catalog.find(group, version, plural)
        assert found is not None  # noqa: S101 - the catalog always has it
        return found

    # Routes.

    async def _list(self, request: Request) -> Response:
        chosen, query = self._selection(request), request.query_params
        limit = asked.limit_of(query) or PAGE
        if limit > LONGEST_PAGE:
            raise _bad(f"limit: {limit} is too many", "limit", f"1 to {LONGEST_PAGE}")
        after = asked.place_of(query["continue"]).after if query.get("continue") else ("", "")
        items = self._hub.store.items(self._device.key).values()
        found = sorted((i for i in items if chosen.has(i)), key=_place)
        page = [item for item in found if _place(item) > after]
        views = [self._view(item) for item in page[:limit]]
        onward = None
        if len(page) > limit:
            onward = asked.token_of(Place(self._hub.store.version, _place(page[limit - 1])))
        return _answer({"items": views, "continue": onward})

    async def _get(self, request: Request) -> Response:
        item = self._found(request, self._who(request))
        return _answer(self._view(item), headers={"ETag": etag(item.document())})

    async def _patch(self, request: Request) -> Response:
        who = self._who(request)
        item = self._found(request, who)
        if not access.allowed(who, "patch", self._device, ""):
            raise access.denied(who, "patch", self._device, item.key.namespace, item.key.name, "")
        patch = parse_patch(await _body(request))
        tags = request.headers.get("if-match", "*")
        wanted = () if tags.strip() == "*" else tuple(tag.strip() for tag in tags.split(","))
        question = writes.Asked(self._device, item.key, f"twins/{who.name}", metadata.now())
        written = await self._hub.store.write(
            self._device,
            item.key,
            writes.patching(question, lambda live: self._wished(live, patch, wanted)),
        )
        headers = {"ETag": etag(written.document)}
        version = written.document["metadata"]["generation"]
        return _answer({"version": version}, HTTPStatus.ACCEPTED, headers)

    async def _events(self, request: Request) -> Response:
        chosen = self._selection(request)
        after = request.headers.get("last-event-id")
        return FleetEvents(self._hub.store, self._hub.watchers, chosen, self._view, after)

    # What they stand on.

    def _who(self, request: Request) -> Identity:
        tokens = self._hub.tokens
        if tokens is None:
            _only_this_machine(request)
            return LOCAL
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        who = tokens.identify(token.strip()) if scheme.lower() == "bearer" else None
        if who is None:
            raise refusals.unauthorized()
        return who

    def _found(self, request: Request, who: Identity) -> Stored:
        name = request.path_params["name"]
        namespace = request.query_params.get("namespace") or "default"
        item = self._hub.store.get(Key(self._device.key, namespace, name))
        visible = access.visible(who, self._device)
        if item is None or (visible and not visible(item.selectable)):
            raise Refused(
                HTTPStatus.NOT_FOUND, "NotFound", f"no device {name!r} in namespace {namespace!r}"
            )
        return item

    def _selection(self, request: Request) -> Selection:
        """`?node=`, `?label=key=value` (all must hold), `?connected=`, `?namespace=`."""
        who, query = self._who(request), request.query_params
        visible = access.visible(who, self._device)
        labels = [_label(text) for text in query.getlist("label")]
        node, connected = query.get("node"), _flag(query.get("connected"))

        def selects(item: Stored) -> bool:
            return (
                (visible is None or visible(item.selectable))
                and (not node or selected_value(item, "spec.nodeName") == node)
                and all(item.labels.get(key) == value for key, value in labels)
                and (connected is None or self._connected(item) == connected)
            )

        narrow = ("spec.nodeName", node) if node else None
        return Selection(self._device.key, query.get("namespace", ""), selects, narrow)

    def _connected(self, item: Stored) -> bool:
        device = item.document()
        return holds(device, "Connected") and not self._silent(device)

    def _silent(self, device: Json) -> str:
        namespace, node = device["metadata"]["namespace"], device["spec"]["nodeName"]
        lease = self._hub.store.get(Key(self._lease.key, namespace, f"twinbridge-{node}"))
        return silent_since(lease.document() if lease else None, self._now())

    def _view(self, item: Stored) -> Json:
        device = item.document()
        return device_view(device, self._specs(device), self._silent(device))

    def _specs(self, device: Json) -> Specs:
        """The properties of a device; of each model they are taken apart once."""
        namespace, name = device["metadata"]["namespace"], device["spec"]["modelRef"]["name"]
        model = self._hub.store.get(Key(self._model.key, namespace, name))
        if model is None:
            return {}
        known = self._models.get(model.key)
        if known is None or known[0] != model.version:
            if len(self._models) >= _MOST_MODELS:
                self._models.clear()
            known = self._models[model.key] = (model.version, model_specs(model.document()))
        return device_specs(device, known[1])

    def _rules(self, device: Json) -> Iterator[Json]:
        """Those of its namespace and node."""
        namespace, node = device["metadata"]["namespace"], device["spec"]["nodeName"]
        for key, item in list(self._hub.store.items(self._rule.key).items()):
            if key.namespace == namespace and selected_value(item, "spec.nodeName") == node:
                yield item.document()

    def _wished(
        self, live: Json, patch: dict[str, DesiredSpec | None], wanted: Sequence[str]
    ) -> Json:
        """The Device with the patch in its `spec.desired`. Raises Refused, half applies nothing."""
        now, name = self._now(), live["metadata"]["name"]
        if wanted and not {etag(live), f'"{live["metadata"]["resourceVersion"]}"'} & set(wanted):
            why = f"{name} has changed since; its ETag is now {etag(live)}"
            raise Refused(HTTPStatus.PRECONDITION_FAILED, "Conflict", why)
        specs = self._specs(live)
        if not specs:
            why = f"the DeviceModel of {name} is missing or not sound: nothing can be desired"
            raise Refused(HTTPStatus.CONFLICT, "Conflict", why)
        try:
            check_wishes(patch, specs, name)
            desired = merged(live["spec"].get("desired") or (), patch, specs, now)
        except InvalidDesired as error:
            raise _bad(str(error), error.field, error.allowed) from None
        against = held(patch, stops(live, self._rules(live))) if holds(live, "Tripped") else None
        if against:
            why = f"a trip holds {against} of {name}: reset it first, then desire anew"
            raise Refused(HTTPStatus.CONFLICT, "Conflict", why)
        return {**live, "spec": {**live["spec"], "desired": desired}}


def _place(item: Stored) -> tuple[str, str]:
    return item.key.namespace, item.key.name


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise _bad(f"label: {text!r} is none", "label", "key=value")
    return key, value


def _flag(text: str | None) -> bool | None:
    if text not in (None, "true", "false"):
        raise _bad(f"connected: {text!r} is none", "connected", "true, false")
    return None if text is None else text == "true"


def _only_this_machine(request: Request) -> None:
    """Without tokens no web page may speak here through a browser on this machine."""
    origin = request.headers.get("origin")
    if request.url.hostname in _LOOPBACK and origin in (None, str(request.base_url).rstrip("/")):
        return
    why = "without tokens the hub answers only to its loopback name, and to no page of another one"
    raise Refused(HTTPStatus.FORBIDDEN, "Forbidden", why)


async def _body(request: Request) -> dict[str, object]:
    if asked.content_type(request) not in _MEDIA:
        raise refusals.unsupported_media(_MEDIA)
    found = asked.parsed(await asked.body_of(request), as_yaml=False)
    if not isinstance(found, dict):
        raise refusals.bad_request('the body is not a JSON object; give {"name": value, …}')
    return found


def _bad(why: str, field: str, allowed: str) -> Refused:
    details = {"field": field, "allowed": allowed}
    return Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid", why, details)


def _answer(
    view: object, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None
) -> Response:
    return Response(orjson.dumps(view), status, headers, "application/json")


def _problem(refused: Refused) -> Response:
    """RFC 9457."""
    status = HTTPStatus(refused.status["code"])
    details = refused.status.get("details") or {}
    named = {key: details[key] for key in ("field", "allowed") if details.get(key)}
    body = {"type": "about:blank", "title": status.phrase, "status": status.value,
            "detail": str(refused), **named}  # fmt: skip
    headers = {"Retry-After": str(refused.retry_after)} if refused.retry_after else {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(orjson.dumps(body), status, headers, "application/problem+json")


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)  # noqa: S101 - registered for it alone
    return _problem(error)


async def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, InvalidDesired)  # noqa: S101 - registered for it alone
    return _problem(_bad(str(error), error.field, error.allowed))


async def _unavailable(_request: Request, error: Exception) -> Response:
    return _problem(refusals.unavailable(str(error)))
