"""Whether a value may be written to a property."""

from __future__ import annotations

from twinbridge.core.model import PropertySpec, Value, ValueType


def fit(spec: PropertySpec, value: Value) -> str | None:
    """What is wrong with the value's type, or None."""
    sound = {
        ValueType.BOOL: isinstance(value, bool),
        ValueType.INT: isinstance(value, int) and not isinstance(value, bool),
        ValueType.FLOAT: isinstance(value, int | float) and not isinstance(value, bool),
        ValueType.STRING: isinstance(value, str),
    }[spec.type]
    if not sound:
        return f"{value!r} is no {spec.type}, which {spec.name} is"
    return None


def refusal(spec: PropertySpec, value: Value) -> str | None:
    """Why the value cannot be written to the property: access, type, range; or None."""
    if not spec.access.writable:
        return f"{spec.name} is ReadOnly and cannot be written"
    wrong = fit(spec, value)
    if wrong or isinstance(value, str | bool):
        return wrong
    if spec.minimum is not None and value < spec.minimum:
        return f"{value} is below the minimum of {spec.name}, {spec.minimum:g}"
    if spec.maximum is not None and value > spec.maximum:
        return f"{value} is above the maximum of {spec.name}, {spec.maximum:g}"
    return None


def typed(spec: PropertySpec, value: Value) -> Value:
    """An int written for a float property is a float."""
    if spec.type is ValueType.FLOAT and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
