"""Rule: a condition over properties that alarms, trips or acts."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from twinbridge.api.base import (
    API_VERSION,
    Metadata,
    Model,
    PropertyName,
    ResourceName,
    Scalar,
    StatusCondition,
    cel,
)
from twinbridge.api.durations import Duration
from twinbridge.api.rule_condition import EnabledWhen, RuleInput, When
from twinbridge.core.rule import Mode, OnBad, Severity

MOST_WRITES = 16
MOST_INPUTS = 16


class WriteEntry(Model):
    """A value that is written."""

    property: PropertyName = Field(description="A writable property.")
    value: Scalar = Field(description="The value, as itself.")
    device: ResourceName | None = Field(
        default=None, description="Its device, if it is not the one that the rule is applied to."
    )


Writes = Annotated[list[WriteEntry], Field(min_length=1, max_length=MOST_WRITES)]


class Verify(Model):
    """How a trip makes sure."""

    within: Duration = Field(
        default="500ms", validate_default=True, gt=0, description="The read-back shows it by then."
    )
    retries: int = Field(default=3, ge=0, le=100, description="Quick repeats before TripFailed.")


class TripBlock(Model):
    """What stops the machine. Latched and interlocked; released by a person only."""

    write: Writes = Field(description="The writes that stop it.")
    verify: Verify = Field(default_factory=Verify, description="How the trip makes sure.")


class ActBlock(Model):
    """Plain automation: not latched; a trip beats it."""

    write: Writes = Field(description="Written when the condition becomes active.")
    on_clear: list[WriteEntry] = Field(
        default_factory=list, max_length=MOST_WRITES, description="Written when it clears."
    )


class LabelSelector(Model):
    """Devices that carry all these labels."""

    match_labels: dict[str, str] = Field(min_length=1, description="Labels and their values.")


class RuleDevices(Model):
    """The devices that the rule is applied to, one instance each: exactly one of the two."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                cel("has(self.name) != has(self.selector)", "give exactly one of name and selector")
            ]
        }
    )

    name: ResourceName | None = Field(default=None, description="One device.")
    selector: LabelSelector | None = Field(default=None, description="Devices by their labels.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.name is None) == (self.selector is None):
            raise ValueError("give exactly one of name and selector")
        return self


PURPOSE = "give exactly one of trip, act and latch (latch: false is a plain alarm)"
ON_BAD = "a rule with a trip must say when.onBad: Trip, Alarm or Ignore; it has no default"
TRIPS_ONLY = "onBad: Trip is for rules with a trip"


class RuleSpec(Model):
    """When it is active, and what follows."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                cel("[has(self.trip), has(self.act), has(self.latch)].exists_one(x, x)", PURPOSE),
                cel("!has(self.trip) || has(self.when.onBad)", ON_BAD),
                cel(
                    "has(self.trip) || !has(self.when.onBad) || self.when.onBad != 'Trip'",
                    TRIPS_ONLY,
                ),
            ]
        }
    )

    description: str = Field(default="", max_length=1024, description="For people.")
    node_name: ResourceName = Field(description="The edge node that runs it.")
    devices: RuleDevices = Field(description="The devices that the rule is applied to.")
    inputs: list[RuleInput] = Field(
        default_factory=list,
        max_length=MOST_INPUTS,
        description="Properties by the names that conditions call them; of any device of the node.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
    )
    when: When = Field(description="When it is active.")
    enabled_when: EnabledWhen | None = Field(
        default=None, description="The rule is watched only while this holds."
    )
    severity: Annotated[Severity, Field(strict=False)] = Field(
        description="info, low, medium, high or critical."
    )
    message: str = Field(default="", max_length=1024, description="What an operator reads.")
    latch: bool | None = Field(
        default=None,
        description="For a rule that only alarms: whether the alarm stays until it is reset.",
    )
    trip: TripBlock | None = Field(default=None, description="What stops the machine.")
    act: ActBlock | None = Field(default=None, description="Plain automation.")
    mode: Annotated[Mode, Field(strict=False)] = Field(
        description="Armed, DryRun (says what it would do) or Disabled."
    )
    max_latency: Duration | None = Field(
        default=None, gt=0, description="`twinbridge plan` refuses a rule that may take longer."
    )

    @model_validator(mode="after")
    def _one_purpose(self) -> Self:
        given = [g for g in (self.trip, self.act, self.latch) if g is not None]
        if len(given) != 1:
            raise ValueError(PURPOSE)
        if self.trip and self.when.on_bad is None:
            raise ValueError(ON_BAD)
        if not self.trip and self.when.on_bad is OnBad.TRIP:
            raise ValueError(TRIPS_ONLY)
        return self


class RuleInstances(Model):
    """The devices to which it is applied."""

    count: int = Field(default=0, description="Devices that the rule watches.")
    alarms: int = Field(default=0, description="Of them with an alarm that stands.")


class RuleStatus(Model):
    """What the agent reports."""

    observed_generation: int = Field(default=0, description="The generation that is in force.")
    conditions: list[StatusCondition] = Field(
        default_factory=list,
        description="Accepted, Tripped.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    )
    instances: RuleInstances | None = Field(
        default=None, description="The devices to which it is applied."
    )


class Rule(Model):
    """A condition over properties that alarms, trips or acts. Non-safety: no SIL or PL claim."""

    api_version: Literal["devices.twinbridge.io/v1alpha1"] = Field(description=API_VERSION)
    kind: Literal["Rule"] = Field(description="Rule")
    metadata: Metadata = Field(description="Object metadata.")
    spec: RuleSpec = Field(description="When it is active, and what follows.")
    status: RuleStatus | None = Field(default=None, description="What the agent reports.")
