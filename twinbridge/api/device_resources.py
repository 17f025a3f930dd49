"""DeviceModel and Device: what a machine is, and where one is reached."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, model_validator

from twinbridge.api.base import (
    API_VERSION,
    WRITTEN_WHOLE,
    Json,
    Metadata,
    Model,
    Named,
    PropertyName,
    ResourceName,
    Scalar,
    StatusCondition,
    Timestamp,
    cel,
)
from twinbridge.api.durations import Duration
from twinbridge.core.model import Access, Quality, ValueType

LIST_MAP: dict[str, JsonValue] = {
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["name"],
}
MOST_PROPERTIES = 2000


class Report(Model):
    """Which changes go to history and up to the hub."""

    deadband: float = Field(default=0.0, ge=0, description="Smaller changes wait; in the unit.")
    min_interval: Duration = Field(
        default="0s", validate_default=True, description="Shortest time between two reports."
    )
    max_interval: Duration = Field(
        default="0s",
        validate_default=True,
        description="Report after this time though nothing changed; 0s is never.",
    )


class PropertyPoll(Model):
    """How often this property is read."""

    interval: Duration = Field(gt=0, description="Time between two reads; the device's if absent.")


class FeedbackBlock(Model):
    """Another property that shows independently that a written stop took effect."""

    property: PropertyName = Field(description="The property that shows it.")
    equals: Scalar = Field(description="The value that it then has.")
    within: Duration = Field(gt=0, description="How long the machine may take.")


def _range_is_ordered(minimum: float | None, maximum: float | None) -> None:
    if minimum is not None and maximum is not None and minimum > maximum:
        raise ValueError(f"minimum ({minimum:g}) must not be above maximum ({maximum:g})")


RANGE = cel(
    "!has(self.minimum) || !has(self.maximum) || self.minimum <= self.maximum",
    "minimum must not be above maximum",
)
NEVER_WRITTEN = "a ReadOnly property is never written: no pulse, feedback or onReconnect: Reapply"
READ_ONLY = cel(
    "(has(self.access) && self.access != 'ReadOnly') || (!has(self.pulse) && !has(self.feedback)"
    " && (!has(self.onReconnect) || self.onReconnect == 'Hold'))",
    NEVER_WRITTEN,
)


class Property(Model):
    """A named value of a device. A block named after the protocol says where it lives."""

    model_config = ConfigDict(
        extra="allow", json_schema_extra={"x-kubernetes-validations": [RANGE, READ_ONLY]}
    )

    name: PropertyName = Field(description="Name, unique in the model.")
    type: Annotated[ValueType, Field(strict=False)] = Field(
        description="What a value is: bool, int, float or string."
    )
    unit: str = Field(default="", max_length=64, description="UCUM unit, e.g. Cel, A, kW.h.")
    access: Annotated[Access, Field(strict=False)] = Field(
        default=Access.READ_ONLY, description="ReadOnly, ReadWrite or WriteOnly."
    )
    minimum: float | None = Field(default=None, description="Least value that may be written.")
    maximum: float | None = Field(default=None, description="Greatest value that may be written.")
    tolerance: float = Field(
        default=0.0, ge=0, description="Desired and reported agree within this; in the unit."
    )
    on_reconnect: Literal["Hold", "Reapply"] = Field(
        default="Hold", description="Whether a desired value is written again after an outage."
    )
    pulse: bool | None = Field(
        default=None, description="A write starts an action; it is never repeated by itself."
    )
    feedback: FeedbackBlock | None = Field(
        default=None, description="What shows independently that a written stop took effect."
    )
    read_back_within: Duration = Field(
        default="1s",
        validate_default=True,
        gt=0,
        description="How long the device may take to report a value that was written.",
    )
    report: Report = Field(default_factory=Report, description="Which changes are reported.")
    poll: PropertyPoll | None = Field(default=None, description="How often it is read.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _range_is_ordered(self.minimum, self.maximum)
        written = self.pulse is not None or self.feedback or self.on_reconnect == "Reapply"
        if self.access is Access.READ_ONLY and written:
            raise ValueError(NEVER_WRITTEN)
        return self


class PropertyOverride(Model):
    """What differs on this device. A protocol block replaces the model's block as a whole."""

    model_config = ConfigDict(
        extra="allow", json_schema_extra={"x-kubernetes-validations": [RANGE]}
    )

    name: PropertyName = Field(description="A property of the model.")
    minimum: float | None = Field(default=None, description="Least value that may be written.")
    maximum: float | None = Field(default=None, description="Greatest value that may be written.")
    tolerance: float | None = Field(
        default=None, ge=0, description="Desired and reported agree within this; in the unit."
    )
    report: Report | None = Field(default=None, description="Which changes are reported.")
    poll: PropertyPoll | None = Field(default=None, description="How often it is read.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _range_is_ordered(self.minimum, self.maximum)
        return self


class DeviceModelSpec(Model):
    """What all devices of a kind have in common."""

    description: str = Field(default="", max_length=1024, description="For people.")
    properties: list[Property] = Field(
        min_length=1,
        max_length=MOST_PROPERTIES,
        description="The named values of the device.",
        json_schema_extra=LIST_MAP,
    )


class DeviceModel(Model):
    """A kind of device: its properties and where they live in the protocol."""

    api_version: Literal["devices.twinbridge.io/v1alpha1"] = Field(description=API_VERSION)
    kind: Literal["DeviceModel"] = Field(description="DeviceModel")
    metadata: Metadata = Field(description="Object metadata.")
    spec: DeviceModelSpec = Field(description="What all devices of a kind have in common.")


class DevicePoll(Model):
    """How often the device is read."""

    interval: Duration = Field(
        default="1s", validate_default=True, gt=0, description="Time between two reads."
    )
    trip_interval: Duration | None = Field(
        default=None,
        gt=0,
        description="The same for inputs of rules that trip; the lesser of interval and 100ms.",
    )


class DesiredEntry(Model):
    """A value that the property shall have."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                cel(
                    "!has(self.validUntil) || !has(self.validFor)",
                    "give validUntil or validFor, not both",
                )
            ]
        }
    )

    name: PropertyName = Field(description="A writable property.")
    value: Scalar = Field(description="The value, as itself: true, 12.5, text.")
    valid_until: Timestamp | None = Field(
        default=None, description="Expires then, RFC 3339; never applied later."
    )
    valid_for: Duration | None = Field(
        default=None, gt=0, description="Expires so long after it was accepted."
    )
    given_at: Timestamp | None = Field(
        default=None,
        description="When it was given, RFC 3339. A new time asks for the same value anew, as after"
        " a trip; the fleet's API notes it.",
    )

    @model_validator(mode="after")
    def _one_expiry(self) -> Self:
        if self.valid_until is not None and self.valid_for is not None:
            raise ValueError("give validUntil or validFor, not both")
        return self


class Overrides(Model):
    """What a value that is desired at the edge (REST, SCADA) does to one desired here."""

    policy: Literal["Local", "Hub"] = Field(
        default="Local",
        description="Local: it wins while it lasts, and the one here is shown as overridden."
        " Hub: it is refused while a value is desired here.",
    )
    longest: Duration = Field(
        default="8h",
        validate_default=True,
        gt=0,
        description="It lasts so long at most. What it replaced comes back by itself only where"
        " the property says onReconnect: Reapply.",
    )


class DeviceSpecBlock(Model):
    """One machine: its model, where it runs, how it is reached."""

    description: str = Field(default="", max_length=1024, description="For people.")
    model_ref: Named = Field(description="The DeviceModel.")
    node_name: ResourceName = Field(description="The edge node that serves it.")
    connection: dict[str, Json] = Field(
        description="How it is reached: exactly one block, named after the protocol."
    )
    poll: DevicePoll = Field(default_factory=DevicePoll, description="How often it is read.")
    properties: list[PropertyOverride] = Field(
        default_factory=list,
        max_length=MOST_PROPERTIES,
        description="What differs from the model, by property name.",
        json_schema_extra=LIST_MAP,
    )
    desired: list[DesiredEntry] = Field(
        default_factory=list,
        max_length=MOST_PROPERTIES,
        description="Values that properties shall have.",
        json_schema_extra=LIST_MAP,
    )
    overrides: Overrides = Field(
        default_factory=Overrides, description="Who wins when the edge desires something else."
    )


class ReportedTwin(Model):
    """What the device last said."""

    value: Scalar | None = Field(default=None, description="The last value; none before the first.")
    quality: Annotated[Quality, Field(strict=False)] = Field(description="good, uncertain or bad.")
    reason: str = Field(default="", description="Why it is not good.")
    timestamp: str = Field(default="", description="Source time, RFC 3339.")


class DesiredTwin(Model):
    """What is desired of the device, and what became of it."""

    value: Scalar = Field(description="The desired value.")
    version: int = Field(default=0, description="Counts desired values of this property.")
    origin: str = Field(default="", description="Who asked for it.")
    state: Literal["pending", "applied", "rejected", "expired", "blocked", "overridden"] = Field(
        description="What became of it."
    )
    message: str = Field(default="", description="Why, for a person.")
    timestamp: str = Field(default="", description="When the state changed, RFC 3339.")


class Twin(Model):
    """One property's twin."""

    model_config = WRITTEN_WHOLE

    name: PropertyName = Field(description="The property.")
    reported: ReportedTwin | None = Field(default=None, description="What the device last said.")
    desired: DesiredTwin | None = Field(default=None, description="What is desired of it.")


class DeviceStatus(Model):
    """What the agent reports."""

    observed_generation: int = Field(default=0, description="The generation that is in force.")
    conditions: list[StatusCondition] = Field(
        default_factory=list,
        description="Accepted, Connected, Synced, Tripped.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    )
    twins: list[Twin] = Field(
        default_factory=list,
        description="The properties' twins.",
        json_schema_extra=LIST_MAP,
    )
    last_contact: str = Field(default="", description="When the device last answered, RFC 3339.")


class Device(Model):
    """One machine."""

    api_version: Literal["devices.twinbridge.io/v1alpha1"] = Field(description=API_VERSION)
    kind: Literal["Device"] = Field(description="Device")
    metadata: Metadata = Field(description="Object metadata.")
    spec: DeviceSpecBlock = Field(description="Its model, where it runs, how it is reached.")
    status: DeviceStatus | None = Field(default=None, description="What the agent reports.")
