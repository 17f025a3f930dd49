"""What the resources share: strict models in camelCase, scalars, names, times, metadata."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainValidator,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

from twinbridge.core.model import SECOND, Value

API_VERSION = "devices.twinbridge.io/v1alpha1"

Json: TypeAlias = dict[str, object]


class Model(BaseModel):
    """Every field is known, described, and of its own type; nothing is converted in silence."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=False,
        validate_by_alias=True,
        serialize_by_alias=True,
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
    )


def cel(rule: str, message: str) -> dict[str, JsonValue]:
    """A rule that the API server checks; the model's own validator says the same."""
    return {"rule": rule, "message": message}


def _scalar(value: object) -> Value:
    if not isinstance(value, bool | int | float | str):
        raise ValueError("give one value as itself: true, 12, 12.5 or text")  # noqa: TRY004 - pydantic reports ValueError
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("not a number and infinity are no values")
    return value


Scalar: TypeAlias = Annotated[
    Value,
    PlainValidator(_scalar),
    WithJsonSchema({"x-kubernetes-preserve-unknown-fields": True}),
]
"""A bool, int, float or string, written as itself. A structural schema has no word for that."""


def parse_time(text: object) -> int:
    """RFC 3339 with an offset → UTC ns. Raises ValueError."""
    try:
        when = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise ValueError(f"{text!r} is no RFC 3339 timestamp such as 2026-01-31T08:00:00Z")
    return int(when.replace(microsecond=0).timestamp()) * SECOND + when.microsecond * 1000


Timestamp: TypeAlias = Annotated[
    int,
    BeforeValidator(parse_time),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]

ResourceName: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
]
PropertyName: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")
]


class Metadata(Model):
    """The object metadata of Kubernetes; what a cluster adds is taken and not looked at."""

    name: ResourceName = Field(description="Name, unique among resources of its kind.")
    namespace: ResourceName = Field(default="default", description="Namespace.")
    labels: dict[str, str] = Field(default_factory=dict, description="Labels for selectors.")
    annotations: dict[str, str] = Field(default_factory=dict, description="Notes of any kind.")
    generation: int = Field(default=1, description="Counts changes of spec; set by the cluster.")
    uid: str = Field(default="", description="Set by the cluster.")
    resource_version: str = Field(default="", description="Set by the cluster.")
    creation_timestamp: str = Field(default="", description="Set by the cluster.")
    deletion_timestamp: str = Field(default="", description="Set by the cluster.")
    deletion_grace_period_seconds: int = Field(default=0, description="Set by the cluster.")
    finalizers: list[str] = Field(default_factory=list, description="Set by the cluster.")
    owner_references: list[Json] = Field(default_factory=list, description="Owners.")
    managed_fields: list[Json] = Field(default_factory=list, description="Set by the cluster.")


class Named(Model):
    """A reference by name."""

    name: ResourceName = Field(description="Name of the resource.")


WRITTEN_WHOLE: Final = ConfigDict(json_schema_extra={"x-kubernetes-map-type": "atomic"})
"""Of what is never written in part: `managedFields`, which a hub repeats in every answer and every
event of a watch, then name it in one word.
"""


class StatusCondition(Model):
    """A condition as Kubernetes writes it."""

    model_config = WRITTEN_WHOLE

    type: str = Field(max_length=316, description="Accepted, Connected, Synced or Tripped.")
    status: Literal["True", "False", "Unknown"] = Field(description="True, False or Unknown.")
    reason: str = Field(default="", description="Why, in one CamelCase word.")
    message: str = Field(default="", description="Why, for a person.")
    last_transition_time: str = Field(default="", description="Since when, RFC 3339.")
    observed_generation: int = Field(default=0, description="Generation this speaks of.")
