"""Rule: a condition over properties that alarms, trips or acts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, model_validator

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
from twinbridge.core.rule import Mode, OnBad, Severity

OPERATORS = (
    "above", "below", "equals", "notEquals", "inside", "outside", "rateAbove", "deviation",
)  # fmt: skip
GROUPS = ("all", "any", "atLeast")
MOST_CONDITIONS = 16
MOST_WRITES = 16


def _choice(*fields: str) -> list[JsonValue]:
    return [{"required": [field]} for field in fields]


COMPARISON_RULES: list[JsonValue] = [
    cel("has(self.window) == has(self.rateAbove)", "rateAbove and window belong together"),
    cel(
        "!has(self.inside) || (self.inside.size() == 2 && self.inside[0] < self.inside[1])",
        "inside takes [low, high] with low below high",
    ),
    cel(
        "!has(self.outside) || (self.outside.size() == 2 && self.outside[0] < self.outside[1])",
        "outside takes [low, high] with low below high",
    ),
]
GROUP_RULES: list[JsonValue] = [
    cel("has(self.atLeast) == has(self.of)", "atLeast and of belong together"),
    cel(
        "!has(self.atLeast) || !has(self.of) || self.atLeast <= self.of.size()",
        "atLeast must not be more than the conditions under of",
    ),
    cel(
        "!(has(self.all) || has(self.any) || has(self.atLeast)) ||"
        " !(has(self.property) || has(self.device) || has(self.deadband))",
        "property, device and deadband belong to the conditions within all, any and of",
    ),
    cel(
        "has(self.property) || has(self.all) || has(self.any) || has(self.atLeast)",
        "a comparison needs a property",
    ),
]


class Deviation(Model):
    """How far the property may be from another one."""

    other: PropertyName = Field(alias="from", description="The property that it is compared with.")
    above: float = Field(ge=0, description="Active when the two differ by this or more.")


Band = Annotated[list[float], Field(min_length=2, max_length=2)]


class Comparison(Model):
    """One property against limits: exactly one of above, below, equals, … ."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": _choice(*OPERATORS),
            "required": ["property"],
            "x-kubernetes-validations": COMPARISON_RULES,
        }
    )

    input: PropertyName | None = Field(
        default=None, alias="property", description="The property watched."
    )
    device: ResourceName | None = Field(
        default=None, description="Its device, if it is not the one that the rule is applied to."
    )
    above: float | None = Field(default=None, description="Active at this value and above.")
    below: float | None = Field(default=None, description="Active at this value and below.")
    equals: Scalar | None = Field(default=None, description="Active at this value.")
    not_equals: Scalar | None = Field(default=None, description="Active at every other value.")
    inside: Band | None = Field(default=None, description="Active from low to high: [low, high].")
    outside: Band | None = Field(default=None, description="Active below low or above high.")
    rate_above: float | None = Field(
        default=None, gt=0, description="Active when it rises by this or more, units per second."
    )
    window: Duration | None = Field(
        default=None, gt=0, description="The time over which rateAbove is taken."
    )
    deviation: Deviation | None = Field(
        default=None, description="Active when it is this far from another property."
    )
    deadband: float | None = Field(
        default=None, ge=0, description="Clears only so far behind the limit; in the unit."
    )
    stale_after: Duration | None = Field(
        default=None,
        gt=0,
        description="Bad after so long without a good sample; the greater of 3 polls and 2s.",
    )

    @property
    def given(self) -> tuple[str, ...]:
        """Which comparisons and groups are given, by their names in YAML."""
        by_alias = {
            info.alias: getattr(self, name) for name, info in type(self).model_fields.items()
        }
        return tuple(f for f in (*OPERATORS, *GROUPS) if by_alias.get(f) is not None)

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        given = self.given
        if len(given) != 1:
            what = f"not {' and '.join(given)}" if given else "none is given"
            groups = GROUPS if isinstance(self, Group) else ()
            raise ValueError(f"give exactly one of {', '.join((*OPERATORS, *groups))}; {what}")
        if given[0] in OPERATORS:
            self._check_comparison()
        return self

    def _check_comparison(self) -> None:
        if self.input is None:
            raise ValueError("a comparison needs a property")
        if (self.window is None) != (self.rate_above is None):
            raise ValueError("rateAbove and window belong together")
        for name, band in (("inside", self.inside), ("outside", self.outside)):
            if band is not None and band[0] >= band[1]:
                raise ValueError(f"{name} takes [low, high] with low below high")
        if self.outside and (self.deadband or 0.0) >= self.outside[1] - self.outside[0]:
            raise ValueError("the deadband must be smaller than the band of outside")
        if self.deadband is not None and self.given[0] in ("equals", "notEquals"):
            raise ValueError("a deadband is for limits, not for equals and notEquals")


class Group(Comparison):
    """A comparison, or all, any or atLeast of several."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": _choice(*OPERATORS, *GROUPS),
            "x-kubernetes-validations": [*COMPARISON_RULES, *GROUP_RULES],
        }
    )

    all_of: Sequence[Comparison] | None = Field(
        default=None,
        alias="all",
        min_length=1,
        max_length=MOST_CONDITIONS,
        description="Every one is active.",
    )
    any_of: Sequence[Comparison] | None = Field(
        default=None,
        alias="any",
        min_length=1,
        max_length=MOST_CONDITIONS,
        description="One is active.",
    )
    at_least: int | None = Field(default=None, ge=1, description="So many of `of` are active.")
    of: Sequence[Comparison] | None = Field(
        default=None, min_length=1, max_length=MOST_CONDITIONS, description="What atLeast counts."
    )

    @model_validator(mode="after")
    def _consistent_group(self) -> Self:
        if (self.at_least is None) != (self.of is None):
            raise ValueError("atLeast and of belong together")
        if self.at_least and self.of and self.at_least > len(self.of):
            raise ValueError(
                f"atLeast ({self.at_least}) must not be more than the {len(self.of)} of `of`"
            )
        _check_limits(self.any_of or ())
        if self.given[0] in GROUPS and (self.input or self.device or self.deadband is not None):
            raise ValueError(
                "property, device and deadband belong to the conditions within all, any and of"
            )
        return self


def _check_limits(conditions: Sequence[Comparison]) -> None:
    """Of limits that are joined by any, the low ones lie below the high ones, deadband and all."""
    for low, high in itertools.product(conditions, repeat=2):
        same = (low.device, low.input) == (high.device, high.input)
        if not same or low.below is None or high.above is None:
            continue
        if low.below >= high.above:
            raise ValueError(
                f"below {low.below:g} and above {high.above:g} of {low.input} leave no value"
                " between them"
            )
        if max(low.deadband or 0.0, high.deadband or 0.0) >= high.above - low.below:
            raise ValueError(f"the deadband of {low.input} must be smaller than the band between")


class Condition(Group):
    """A comparison, or all, any or atLeast of several, each of which may be a group again."""

    all_of: Sequence[Group] | None = Field(
        default=None,
        alias="all",
        min_length=1,
        max_length=MOST_CONDITIONS,
        description="Every one is active.",
    )
    any_of: Sequence[Group] | None = Field(
        default=None,
        alias="any",
        min_length=1,
        max_length=MOST_CONDITIONS,
        description="One is active.",
    )
    of: Sequence[Group] | None = Field(
        default=None, min_length=1, max_length=MOST_CONDITIONS, description="What atLeast counts."
    )


class When(Condition):
    """The condition, how long it must hold, and what bad inputs mean."""

    on_delay: Duration | None = Field(
        default=None, alias="for", description="Active only after the condition held so long."
    )
    clear_for: Duration | None = Field(
        default=None, description="Clears only after the condition was gone so long."
    )
    on_bad: Annotated[OnBad, Field(strict=False)] | None = Field(
        default=None,
        description="What bad or stale inputs mean: Trip, Alarm or Ignore. Required with trip;"
        " else Alarm.",
    )


class EnabledWhen(Model):
    """The rule is watched only while this holds."""

    condition: Condition = Field(description="The condition under which the rule is watched.")
    inhibit: Duration = Field(
        default="0s", validate_default=True, description="How long after it began to hold."
    )


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


class Rule(Model):
    """A condition over properties that alarms, trips or acts. Non-safety: no SIL or PL claim."""

    api_version: Literal["devices.twinbridge.io/v1alpha1"] = Field(description=API_VERSION)
    kind: Literal["Rule"] = Field(description="Rule")
    metadata: Metadata = Field(description="Object metadata.")
    spec: RuleSpec = Field(description="When it is active, and what follows.")
    status: RuleStatus | None = Field(default=None, description="What the agent reports.")
