"""Pieces of the OpenAPI document that FastAPI cannot know by itself."""

from __future__ import annotations

from http import HTTPStatus

from pydantic import BaseModel

from twinbridge.rest import schemas
from twinbridge.rest.problems import MEDIA_TYPE

_PROBLEM = {"$ref": "#/components/schemas/Problem"}


def problems(*statuses: HTTPStatus) -> dict[int | str, dict[str, object]]:
    """The documented refusals of a route; 422 goes with every parameter."""
    return {
        status.value: {
            "description": status.phrase,
            "model": schemas.Problem,
            "content": {MEDIA_TYPE: {"schema": _PROBLEM}},
        }
        for status in (*statuses, HTTPStatus.UNPROCESSABLE_ENTITY)
    }


def body_of(model: type[BaseModel], *, required: bool = True) -> dict[str, object]:
    """The request body of a route that reads it itself."""
    schema = model.model_json_schema(by_alias=True)
    return {
        "requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}
    }


def _patch_schema() -> dict[str, object]:
    wish = schemas.Wish.model_json_schema()
    scalars = [{"type": t} for t in ("boolean", "integer", "number", "string", "null")]
    return {
        "type": "object",
        "description": "By property: a value, a value with an expiry, or null to withdraw.",
        "additionalProperties": {"anyOf": [*scalars, wish]},
        "examples": [{"run": True}, {"run": {"value": True, "validFor": "10s"}}],
    }


PATCH_BODY: dict[str, object] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/merge-patch+json": {"schema": _patch_schema()},
            "application/json": {"schema": _patch_schema()},
        },
    }
}
