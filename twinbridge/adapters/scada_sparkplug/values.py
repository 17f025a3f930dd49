"""Values of twins ↔ values of metrics: types, ranges, two's complement."""

from __future__ import annotations

from typing import Final

from twinbridge.adapters.scada_sparkplug.payload import FIELDS, DataType, Field, Metric, Raw
from twinbridge.core.model import PropertySpec, Quality, Reason, Sample, Value, ValueType, finite

GOOD: Final = 192
BAD: Final = 0
STALE: Final = 500

_INT64: Final = (-(2**63), 2**63 - 1)
_WIDTHS: Final = {
    DataType.INT8: 8,
    DataType.INT16: 16,
    DataType.INT32: 32,
    DataType.INT64: 64,
    DataType.UINT8: 8,
    DataType.UINT16: 16,
    DataType.UINT32: 32,
    DataType.UINT64: 64,
}
_SIGNED: Final = {DataType.INT8, DataType.INT16, DataType.INT32, DataType.INT64}
_TYPES: Final = {
    ValueType.BOOL: DataType.BOOLEAN,
    ValueType.INT: DataType.INT64,
    ValueType.FLOAT: DataType.DOUBLE,
    ValueType.STRING: DataType.STRING,
}


def datatype(spec: PropertySpec) -> DataType:
    """Int64 for integers, but UInt64 where `maximum` says that they go beyond it."""
    if spec.type is ValueType.INT and spec.maximum is not None and spec.maximum > _INT64[1]:
        return DataType.UINT64
    return _TYPES[spec.type]


def quality(sample: Sample) -> int:
    """One of the three codes that Sparkplug has (6.4.9): uncertain is shown as stale."""
    if sample.quality is Quality.GOOD:
        return GOOD
    if sample.quality is Quality.UNCERTAIN or sample.reason is Reason.STALE:
        return STALE
    return BAD


def pack(kind: DataType, value: Value) -> tuple[Field, Raw]:
    """A value as it is written. Raises ValueError when it is none of that type."""
    field = FIELDS[kind]
    if field in (Field.INT, Field.LONG):
        return field, _packed(kind, value)
    if field in (Field.DOUBLE, Field.FLOAT):
        if isinstance(value, bool | str) or not finite(value):
            raise ValueError(f"{value!r} is no number")
        return field, float(value)
    if field is Field.BOOLEAN and isinstance(value, bool):
        return field, value
    if field is Field.STRING and isinstance(value, str):
        value.encode()  # half a surrogate pair, as JSON can have it, is no text: a ValueError
        return field, value
    raise ValueError(f"{value!r} is no {kind.name}")


def _packed(kind: DataType, value: Value) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r} is no whole number")
    width = _WIDTHS[kind]
    half = 1 << (width - 1)
    low, high = (-half, half - 1) if kind in _SIGNED else (0, 2 * half - 1)
    if not low <= value <= high:
        raise ValueError(f"{value} does not fit {kind.name}")
    return value & ((1 << 64) - 1 if FIELDS[kind] is Field.LONG else (1 << 32) - 1)


def unpack(kind: DataType, metric: Metric) -> Value:
    """What a command asks of a metric of type `kind`. Raises ValueError naming what is wrong.

    A command need not say its type (tck-id-payloads-metric-datatype-not-req): then it is that of
    the birth. One that says another type of number is read as that.
    """
    value, field = metric.value, metric.field
    if metric.is_null or field is None or value is None:
        raise ValueError("it has no value")
    if kind is DataType.BOOLEAN and field is Field.BOOLEAN:
        return bool(value)
    if kind is DataType.STRING and field is Field.STRING:
        return str(value)
    if kind in _WIDTHS and field in (Field.INT, Field.LONG):
        return _integer(kind, metric)
    if kind is DataType.DOUBLE and isinstance(value, int | float) and field is not Field.BOOLEAN:
        return float(value) if isinstance(value, float) else _integer(DataType.INT64, metric)
    raise ValueError(f"it is a {field}, and the metric is a {kind.name.title()}")


def _integer(kind: DataType, metric: Metric) -> int:
    """Undo two's complement: by the type that the command says, else by that of the birth."""
    raw = metric.value
    if not isinstance(raw, int):
        raise ValueError("it is no whole number")  # noqa: TRY004 - of a payload
    said = _said(metric)
    if said is None:
        said = kind
        if metric.field is Field.INT:
            # 32 bits for a type of 64: whether its top bit is a sign, nobody has said.
            if kind in _SIGNED and raw >> 31:
                raise ValueError(f"{raw} may be a negative number: its type is not said")
            return raw
    width = _WIDTHS[said]
    raw &= (1 << width) - 1
    return raw - (1 << width) if said in _SIGNED and raw >> (width - 1) else raw


def _said(metric: Metric) -> DataType | None:
    if not metric.datatype:
        return None
    try:
        said = DataType(metric.datatype)
        width = _WIDTHS[said]
    except (ValueError, KeyError):
        raise ValueError(f"its type {metric.datatype} is no integer") from None
    if width == 64 and metric.field is Field.INT and metric.value:  # noqa: PLR2004 - bits
        raise ValueError(f"it says {said.name.title()} and has 32 bits")
    return said
