"""Errors as RFC 9457 problem details: one place that says which error is which status."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from twinbridge.errors import (
    Conflict,
    InvalidDesired,
    InvalidInput,
    StaleVersion,
    StoreUnavailable,
    TwinBridgeError,
    UnknownName,
    Unreachable,
)

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"

_STATUS: tuple[tuple[type[TwinBridgeError], HTTPStatus], ...] = (
    (UnknownName, HTTPStatus.NOT_FOUND),
    (InvalidInput, HTTPStatus.UNPROCESSABLE_ENTITY),
    (StaleVersion, HTTPStatus.PRECONDITION_FAILED),
    (Conflict, HTTPStatus.CONFLICT),
    (StoreUnavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (Unreachable, HTTPStatus.SERVICE_UNAVAILABLE),
)


class Refused(Exception):
    """A request that the API itself refuses, before anything else sees it."""

    def __init__(
        self, status: HTTPStatus, detail: str, *, field: str = "", allowed: str = ""
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.field = field
        self.allowed = allowed


def problem(
    status: HTTPStatus,
    detail: str,
    *,
    kind: str = "",
    field: str = "",
    allowed: str = "",
    headers: Mapping[str, str] | None = None,
) -> Response:
    body = {
        "type": f"urn:twinbridge:problem:{kind}" if kind else "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
    }
    if field:
        body["field"] = field
    if allowed:
        body["allowed"] = allowed
    return Response(orjson.dumps(body), status, dict(headers or {}), MEDIA_TYPE)


def of_refusal(error: Refused) -> Response:
    challenge = {"WWW-Authenticate": "Bearer"} if error.status == HTTPStatus.UNAUTHORIZED else {}
    return problem(
        error.status, str(error), field=error.field, allowed=error.allowed, headers=challenge
    )


def of_error(error: TwinBridgeError) -> Response:
    found = (status for kind, status in _STATUS if isinstance(error, kind))
    status = next(found, HTTPStatus.INTERNAL_SERVER_ERROR)
    field, allowed = (error.field, error.allowed) if isinstance(error, InvalidDesired) else ("", "")
    later = {"Retry-After": "2"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return problem(
        status,
        str(error),
        kind=type(error).__name__,
        field=field,
        allowed=allowed,
        headers=later,
    )


def _of_validation(error: RequestValidationError) -> Response:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:])
    return problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        f"{place}: {first['msg']}",
        field=place,
        allowed=str(first["msg"]),
    )


def _of_http(error: HTTPException) -> Response:
    return problem(HTTPStatus(error.status_code), str(error.detail), headers=error.headers)


def install(app: FastAPI) -> None:
    """Make every error that leaves the app a problem; an unforeseen one tells nothing inner."""

    @app.exception_handler(Refused)
    async def _refused(_request: Request, error: Refused) -> Response:
        return of_refusal(error)

    @app.exception_handler(TwinBridgeError)
    async def _known(_request: Request, error: TwinBridgeError) -> Response:
        return of_error(error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_request: Request, error: RequestValidationError) -> Response:
        return _of_validation(error)

    @app.exception_handler(HTTPException)
    async def _http(_request: Request, error: HTTPException) -> Response:
        return _of_http(error)

    @app.exception_handler(Exception)
    async def _unforeseen(request: Request, _error: Exception) -> Response:
        log.error("request failed", method=request.method, path=request.url.path)
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "unexpected; the agent's log says more")
