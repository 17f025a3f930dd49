"""When a rule is active: comparisons of inputs, and groups of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import ConfigDict, Field, JsonValue, model_validator

from twinbridge.api.base import Model, PropertyName, ResourceName, Scalar, cel
from twinbridge.api.durations import Duration
from twinbridge.core.rule import OnBad

OPERATORS = (
    "above", "below", "equals", "notEquals", "inside", "outside", "rateAbove", "deviation",
)  # fmt: skip
GROUPS = ("all", "any", "atLeast")
MOST_CONDITIONS = 16


def _choice(*fields: str) -> list[JsonValue]:
    return [{"required": [field]} for field in fields]


ONE_INPUT = "a comparison takes a property or an input: exactly one of the two"
OWN_DEVICE = "device goes with property; an input names its device among the rule's inputs"
COMPARISON_RULES: list[JsonValue] = [
    cel("!has(self.property) || !has(self.input)", ONE_INPUT),
    cel("!has(self.device) || !has(self.input)", OWN_DEVICE),
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
        " !(has(self.property) || has(self.input) || has(self.device) || has(self.deadband))",
        "property, input, device and deadband belong to the conditions within all, any and of",
    ),
    cel(
        "has(self.property) || has(self.input) ||"
        " has(self.all) || has(self.any) || has(self.atLeast)",
        ONE_INPUT,
    ),
]


ONE_OTHER = "give exactly one of from and input: what it is compared with"


class Deviation(Model):
    """How far the property may be from another one."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [cel("has(self.from) != has(self.input)", ONE_OTHER)]
        }
    )

    other: PropertyName | None = Field(
        default=None, alias="from", description="A property of the same device."
    )
    input_name: PropertyName | None = Field(
        default=None, alias="input", description="One of the rule's inputs, instead of from."
    )
    above: float = Field(ge=0, description="Active when the two differ by this or more.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.other is None) == (self.input_name is None):
            raise ValueError(ONE_OTHER)
        return self


Band = Annotated[list[float], Field(min_length=2, max_length=2)]


class Comparison(Model):
    """One property against limits: exactly one of above, below, equals, … ."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": _choice(*OPERATORS),
            "x-kubernetes-validations": [
                *COMPARISON_RULES,
                cel("has(self.property) || has(self.input)", ONE_INPUT),
            ],
        }
    )

    input: PropertyName | None = Field(
        default=None, alias="property", description="The property watched."
    )
    input_name: PropertyName | None = Field(
        default=None, alias="input", description="One of the rule's inputs, instead of property."
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
    def watched(self) -> tuple[str | None, ...]:
        """Equal for comparisons of the same thing."""
        return self.device, self.input, self.input_name

    @property
    def label(self) -> str:
        return self.input or self.input_name or ""

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
        if (self.input is None) == (self.input_name is None):
            raise ValueError(ONE_INPUT)
        if self.device is not None and self.input is None:
            raise ValueError(OWN_DEVICE)
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
        if self.given[0] in GROUPS and any(
            part is not None for part in (self.input, self.input_name, self.device, self.deadband)
        ):
            raise ValueError(
                "property, input, device and deadband belong to the conditions within all, any"
                " and of"
            )
        return self


def _check_limits(conditions: Sequence[Comparison]) -> None:
    """Of limits that are joined by any, the low ones lie below the high ones, deadband and all."""
    for low, high in itertools.product(conditions, repeat=2):
        same = low.watched == high.watched
        if not same or low.below is None or high.above is None:
            continue
        if low.below >= high.above:
            raise ValueError(
                f"below {low.below:g} and above {high.above:g} of {low.label} leave no value"
                " between them"
            )
        if max(low.deadband or 0.0, high.deadband or 0.0) >= high.above - low.below:
            raise ValueError(f"the deadband of {low.label} must be smaller than the band between")


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


class RuleInput(Model):
    """A property of any device of the node, by the name that conditions call it."""

    name: PropertyName = Field(description="Name, unique in the rule.")
    device: ResourceName | None = Field(
        default=None, description="Its device, if it is not the one that the rule is applied to."
    )
    property: PropertyName = Field(description="The property that is read.")
    stale_after: Duration | None = Field(
        default=None, gt=0, description="As in a condition, wherever the input is compared."
    )


class EnabledWhen(Model):
    """The rule is watched only while this holds."""

    condition: Condition = Field(description="The condition under which the rule is watched.")
    inhibit: Duration = Field(
        default="0s", validate_default=True, description="How long after it began to hold."
    )
