"""The Kubernetes API of the hub: from a path and a verb to whoever answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import structlog
from prometheus_client import Counter
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from twinbridge.errors import StoreUnavailable
from twinbridge.hub import access, asked, discovery, formats, reading, refusals, reviews
from twinbridge.hub.answers import json_answer, refusal
from twinbridge.hub.asked import Target
from twinbridge.hub.documents import PROBES, Documents
from twinbridge.hub.kinds import Catalog
from twinbridge.hub.refusals import Refused
from twinbridge.hub.store import HubStore
from twinbridge.hub.streaming import WatchStream
from twinbridge.hub.tokens import LOCAL, Identity, Role, Tokens
from twinbridge.hub.watch import Selection, Watchers
from twinbridge.hub.writing import Writing

log = structlog.get_logger()

REQUESTS: Final = Counter(
    "twinbridge_hub_requests", "Requests that the embedded hub answered.", ["verb", "code"]
)
_COLLECTION: Final = {"GET": "list", "POST": "create", "DELETE": "deletecollection"}
_OBJECT: Final = {"GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class KubeApi:
    """An ASGI application. `tokens` None: whoever connects may do everything."""

    def __init__(
        self,
        store: HubStore,
        catalog: Catalog,
        watchers: Watchers,
        tokens: Tokens | None,
        others: Mapping[str, ASGIApp] | None = None,
    ) -> None:
        """`others`: applications that serve what lies below a path of their own."""
        self._store = store
        self._catalog = catalog
        self._watchers = watchers
        self._tokens = tokens
        self._others = dict(others or {})
        self._writing = Writing(store, catalog)
        self._served = Documents(catalog)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        for prefix, other in self._others.items():
            if scope["path"] == prefix or scope["path"].startswith(f"{prefix}/"):
                await other(scope, receive, send)
                return
        request = Request(scope, receive)
        verb, answer = await self._answer(request)
        REQUESTS.labels(verb, answer.status_code).inc()
        await answer(scope, receive, send)

    async def _answer(self, request: Request) -> tuple[str, Response]:
        verb = "other"
        try:
            path = request.scope["path"]
            if path in PROBES:
                return verb, self._probe(path)
            who = self._who(request)
            target = asked.target(self._catalog, path)
            if target is None:
                return verb, await self._documents(request, who)
            verb = _verb(request, target)
            return verb, await self._resource(request, target, verb, who)
        except Refused as refused:
            return verb, await refusal(request, refused)
        except StoreUnavailable as error:
            return verb, await refusal(request, refusals.unavailable(str(error)))
        except Exception:
            log.exception("request failed", method=request.method, path=request.scope["path"])
            return verb, await refusal(request, refusals.internal())

    def _who(self, request: Request) -> Identity:
        if self._tokens is None:
            return LOCAL
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        who = self._tokens.identify(token.strip()) if scheme.lower() == "bearer" else None
        if who is None:
            raise refusals.unauthorized()
        return who

    def _probe(self, path: str) -> Response:
        ready = path != "/readyz" or not (self._store.trouble or self._watchers.closed)
        return PlainTextResponse("ok" if ready else self._store.trouble or "stopping",
                                 200 if ready else 503)  # fmt: skip

    async def _resource(
        self, request: Request, target: Target, verb: str, who: Identity
    ) -> Response:
        kind, namespace, name, sub = target
        if verb not in kind.verbs or (sub and verb not in ("get", "update", "patch")):
            raise refusals.method_not_allowed(kind)
        if not access.allowed(who, verb, kind, sub):
            raise access.denied(who, verb, kind, namespace, name, sub)
        if verb == "get":
            return await self._get(request, target, who)
        if verb in ("list", "watch"):
            return await self._select(request, target, verb, who)
        if verb == "deletecollection":
            chosen = self._selection(request, target, who)
            return await self._writing.delete_all(request, target, chosen)
        return await self._writing.verbs[verb](request, target, who)

    async def _get(self, request: Request, target: Target, who: Identity) -> Response:
        kind, namespace, name, sub = target
        form = _form(request)
        wanted = asked.version_of(request.query_params)
        if wanted and wanted > self._store.version:
            raise refusals.too_large_version(wanted, self._store.version)
        item = self._store.get(asked.key_of(target))
        visible = access.visible(who, kind)
        hidden = item is not None and visible is not None and not visible(item.selectable)
        if hidden or not access.may_name(who, kind, name):
            raise access.denied(who, "get", kind, namespace, name, sub)
        if item is None:
            raise refusals.not_found(kind, name)
        if form == formats.Format() and not kind.stored_as:
            return await json_answer(request, item.body)
        return await json_answer(request, formats.one(kind, item.document(), form), form=form)

    async def _select(self, request: Request, target: Target, verb: str, who: Identity) -> Response:
        chosen, form = self._selection(request, target, who), _form(request)
        query = request.query_params
        if verb == "list":
            found = reading.list_of(self._store, target, chosen, query, form)
            return await json_answer(request, found, form=form)
        return WatchStream(self._store, self._watchers, target, chosen, query, form)

    def _selection(self, request: Request, target: Target, who: Identity) -> Selection:
        stored = self._catalog.stored(target.kind.key) or target.kind
        visible = access.visible(who, target.kind)
        return asked.selection(target, request.query_params, stored, visible)

    async def _documents(self, request: Request, who: Identity) -> Response:
        """Discovery, OpenAPI, metrics: what is not about an object."""
        path, accept = request.scope["path"].rstrip("/"), request.headers.get("accept", "")
        if request.method == "POST" and path in reviews.PATHS:
            question = reviews.object_of(await asked.document_of(request))
            found = reviews.review(self._catalog, who, path, question)
            return await json_answer(request, found, code=201)
        if request.method != "GET":
            raise refusals.no_such_path()
        if path in ("/api", "/apis") and (media_type := discovery.aggregated_type(accept)):
            groups = discovery.aggregated(self._catalog, media_type, core=path == "/api")
            return await json_answer(request, groups, media_type=media_type)
        if path == "/metrics":
            return self._metrics(who)
        document = self._served.at(path)
        if document is None:
            raise refusals.no_such_path()
        return await json_answer(request, document)

    def _metrics(self, who: Identity) -> Response:
        if who.role is Role.EDGE:
            raise refusals.forbidden_path(who.name, "get", "/metrics")
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _form(request: Request) -> formats.Format:
    include = request.query_params.get("includeObject", "")
    return formats.wanted(request.headers.get("accept", ""), include)


def _verb(request: Request, target: Target) -> str:
    method = "GET" if request.method == "HEAD" else request.method
    if method == "GET" and asked.flag(request.query_params, "watch"):
        return "watch"
    verb = (_OBJECT if target.name else _COLLECTION).get(method, "")
    whole = not target.name and not target.namespace and target.kind.namespaced
    if not verb or (whole and verb == "create"):
        raise refusals.method_not_allowed(target.kind)
    return verb
