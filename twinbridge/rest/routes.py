"""The REST twin API, route by route. Thin: what it does is in `app.service`."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

import orjson
from fastapi import APIRouter, Header, Path, Query, Request, Response

from twinbridge.app.service import LONGEST_PAGE, PAGE, TwinService
from twinbridge.ports import Actor
from twinbridge.rest import schemas
from twinbridge.rest.body import read_model, read_object
from twinbridge.rest.guard import VIEWER, Admin, Operator
from twinbridge.rest.openapi import PATCH_BODY, body_of, problems
from twinbridge.rest.sse import EventStream

_BAD = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
_BODY = (*_BAD, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
_WHO = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_NONE = HTTPStatus.NOT_FOUND
_NOT_NOW = (HTTPStatus.CONFLICT, HTTPStatus.SERVICE_UNAVAILABLE)

Name = Annotated[str, Path(max_length=253)]


def answer(
    view: object, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None
) -> Response:
    return Response(orjson.dumps(view), status, headers, "application/json")


def routes(service: TwinService) -> APIRouter:
    router = APIRouter(prefix="/api/v1")
    _device_routes(router, service)
    _alarm_routes(router, service)
    _rule_routes(router, service)
    _event_routes(router, service)
    return router


def _device_routes(router: APIRouter, service: TwinService) -> None:

    @router.get(
        "/devices",
        response_model=schemas.Devices,
        dependencies=[VIEWER],
        responses=problems(*_WHO),
    )
    async def list_devices(
        label: Annotated[list[str] | None, Query(description="key=value, repeatable")] = None,
        connected: Annotated[bool | None, Query()] = None,
        limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE)] = PAGE,
        after: Annotated[str, Query(alias="continue", max_length=1024)] = "",
    ) -> Response:
        return answer(service.devices(label or (), connected=connected, limit=limit, after=after))

    @router.get(
        "/devices/{name}",
        response_model=schemas.Device,
        dependencies=[VIEWER],
        responses=problems(*_WHO, _NONE),
    )
    async def get_device(name: Name) -> Response:
        view, etag = service.device(name)
        return answer(view, headers={"ETag": etag})

    @router.patch(
        "/devices/{name}/desired",
        status_code=HTTPStatus.ACCEPTED,
        response_model=schemas.Version,
        openapi_extra=PATCH_BODY,
        responses=problems(*_BODY, *_WHO, _NONE, *_NOT_NOW, HTTPStatus.PRECONDITION_FAILED),
    )
    async def patch_desired(
        name: Name,
        request: Request,
        who: Operator,
        if_match: Annotated[str | None, Header(max_length=1024)] = None,
    ) -> Response:
        patch = await read_object(request)
        actor = Actor(who.name, "rest", request.client.host if request.client else "")
        version, etag = await service.desire(name, patch, actor, _etags(if_match))
        return answer({"version": version}, HTTPStatus.ACCEPTED, {"ETag": etag})

    @router.get(
        "/devices/{name}/history",
        response_model=schemas.History,
        dependencies=[VIEWER],
        responses=problems(*_WHO, _NONE),
    )
    async def get_history(
        name: Name,
        prop: Annotated[str, Query(alias="property", max_length=253)],
        start: Annotated[str | None, Query(alias="from", description="RFC 3339")] = None,
        end: Annotated[str | None, Query(alias="to", description="RFC 3339")] = None,
        step: Annotated[str | None, Query(description="A duration: min, avg, max per step")] = None,
    ) -> Response:
        return answer(await service.history(name, prop, start, end, step))


def _etags(header: str | None) -> tuple[str, ...]:
    """RFC 9110, 13.1.1: `*` matches whatever stands, as does no header."""
    if header is None or header.strip() == "*":
        return ()
    return tuple(tag.strip() for tag in header.split(","))


def _alarm_routes(router: APIRouter, service: TwinService) -> None:
    refusals = problems(*_BODY, *_WHO, _NONE, *_NOT_NOW)

    @router.get(
        "/alarms",
        response_model=schemas.Alarms,
        dependencies=[VIEWER],
        responses=problems(*_WHO),
    )
    async def list_alarms(
        *,
        ended: Annotated[
            bool, Query(alias="all", description="Also the last that are over")
        ] = False,
    ) -> Response:
        return answer(service.alarms(ended=ended))

    @router.post(
        "/alarms/{alarm}/ack",
        status_code=HTTPStatus.NO_CONTENT,
        openapi_extra=body_of(schemas.Ack),
        responses=refusals,
    )
    async def acknowledge(alarm: Name, request: Request, who: Operator) -> Response:
        asked = await read_model(request, schemas.Ack)
        await service.acknowledge(alarm, who.name, asked.comment)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    @router.post(
        "/alarms/{alarm}/shelve",
        status_code=HTTPStatus.NO_CONTENT,
        openapi_extra=body_of(schemas.Shelve),
        responses=refusals,
    )
    async def shelve(alarm: Name, request: Request, who: Operator) -> Response:
        asked = await read_model(request, schemas.Shelve)
        await service.shelve(alarm, asked.for_, who.name, asked.reason)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    @router.post(
        "/alarms/{alarm}/reset",
        status_code=HTTPStatus.NO_CONTENT,
        openapi_extra=body_of(schemas.Reset),
        responses=refusals,
    )
    async def reset(alarm: Name, request: Request, who: Operator) -> Response:
        asked = await read_model(request, schemas.Reset)
        await service.reset(alarm, who.name, asked.reason)
        return Response(status_code=HTTPStatus.NO_CONTENT)


def _rule_routes(router: APIRouter, service: TwinService) -> None:

    @router.get(
        "/rules", response_model=schemas.Rules, dependencies=[VIEWER], responses=problems(*_WHO)
    )
    async def list_rules() -> Response:
        return answer(service.rules())

    @router.patch(
        "/rules/{name}",
        response_model=schemas.Rule,
        openapi_extra=body_of(schemas.Mode),
        responses=problems(*_BODY, *_WHO, _NONE, *_NOT_NOW),
    )
    async def set_mode(name: Name, request: Request, who: Admin) -> Response:
        asked = await read_model(request, schemas.Mode)
        return answer(await service.set_mode(name, asked.mode, who.name))


def _event_routes(router: APIRouter, service: TwinService) -> None:
    @router.get(
        "/events",
        dependencies=[VIEWER],
        response_class=Response,
        responses={
            200: {
                "description": "Events `twin`, `alarm`, `connection`; `reset`: read all again.",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            },
            **problems(*_WHO, _NONE),
        },
    )
    async def follow_events(
        device: Annotated[str | None, Query(max_length=253)] = None,
        last_event_id: Annotated[str | None, Header(max_length=64)] = None,
    ) -> Response:
        if device is not None:
            service.device(device)
        return EventStream(service.events, service.now, device=device, after=last_event_id)
