"""Request bodies: bounded, strict JSON, an object, no name twice."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError

from twinbridge.rest.problems import Refused

LIMIT = 256 * 1024
"""Bytes."""
MEDIA_TYPES = ("application/json", "application/merge-patch+json")

Model = TypeVar("Model", bound=BaseModel)


async def read_object(request: Request) -> dict[str, object]:
    """The body as a JSON object. Raises Refused: 400, 413 or 415."""
    media = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media not in MEDIA_TYPES:
        # A browser sends other types across origins without asking; these it does not.
        raise Refused(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Type {media!r} is not taken here",
            field="Content-Type",
            allowed=", ".join(MEDIA_TYPES),
        )
    return parse_object(await _bounded(request))


async def _bounded(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LIMIT:
            raise Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "the body is too large",
                allowed=f"at most {LIMIT} bytes",
            )
    return bytes(body)


def parse_object(body: bytes) -> dict[str, object]:
    """Strict: no NaN, no duplicate names, no numbers beyond 64 bit, valid UTF-8. Raises Refused."""
    try:
        found = json.loads(
            body.decode(),
            object_pairs_hook=_once,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
        orjson.dumps(found)  # finds lone surrogates and integers that no consumer could read
    except (ValueError, TypeError, RecursionError) as error:
        raise Refused(HTTPStatus.BAD_REQUEST, f"the body is no valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise Refused(
            HTTPStatus.BAD_REQUEST, "the body is not a JSON object", allowed='{"name": value, …}'
        )
    return found


async def read_model(request: Request, model: type[Model]) -> Model:
    """The body as that model, strictly. Raises Refused: 422 for the first field that is wrong."""
    found = await read_object(request)
    try:
        return model.model_validate(found, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Refused(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"{place}: {first['msg']}",
            field=place,
            allowed=", ".join(model.model_fields),
        ) from None


def _once(pairs: list[tuple[str, object]]) -> Mapping[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is given twice")
    return found


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is out of range")
    return value
