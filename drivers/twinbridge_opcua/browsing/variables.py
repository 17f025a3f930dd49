"""What a variable holds: its type, access, value, range and unit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIdNames
from asyncua.ua.status_codes import StatusCodes, get_name_and_doc
from asyncua.ua.uaerrors import UaStatusCodeError

from twinbridge.core.model import Access, ValueType
from twinbridge_opcua.browsing.units import ucum

_LONGEST_TEXT = 60
_TYPES = {
    ua.VariantType.Boolean: ValueType.BOOL,
    **dict.fromkeys(
        (
            ua.VariantType.SByte,
            ua.VariantType.Byte,
            ua.VariantType.Int16,
            ua.VariantType.UInt16,
            ua.VariantType.Int32,
            ua.VariantType.UInt32,
            ua.VariantType.Int64,
            ua.VariantType.UInt64,
        ),
        ValueType.INT,
    ),
    **dict.fromkeys((ua.VariantType.Float, ua.VariantType.Double), ValueType.FLOAT),
    **dict.fromkeys(
        (
            ua.VariantType.String,
            ua.VariantType.DateTime,
            ua.VariantType.Guid,
            ua.VariantType.ByteString,
            ua.VariantType.NodeId,
            ua.VariantType.QualifiedName,
            ua.VariantType.LocalizedText,
        ),
        ValueType.STRING,
    ),
}
_TOO_MUCH = frozenset(
    {
        StatusCodes.BadTooManyOperations,
        StatusCodes.BadEncodingLimitsExceeded,
        StatusCodes.BadRequestTooLarge,
        StatusCodes.BadResponseTooLarge,
    }
)


@dataclass(frozen=True, slots=True)
class Variable:
    """As a person sees it; `type` None where a property cannot hold it."""

    type_name: str
    """`Double`, `Int32[8]`."""
    type: ValueType | None
    access: Access | None
    shown: str
    """The value, or the status code in place of one."""
    minimum: float | None = None
    maximum: float | None = None
    unit: str = ""
    """As the server shows it."""
    ucum: str | None = None
    """The same as a UCUM code, where that is certain."""


async def read_variables(
    client: Client, asked: Sequence[tuple[ua.NodeId, Mapping[str, ua.NodeId]]], per_read: int
) -> list[Variable]:
    """Of nodes with their properties by name. One that cannot be read says so in `shown`."""
    value, access = AttributeIds.Value, AttributeIds.UserAccessLevel
    wanted: list[tuple[ua.NodeId, AttributeIds]] = []
    for node, properties in asked:
        wanted += [(node, value), (node, access)]
        wanted += [(properties[name], value) for name in _described(properties)]
    answers = iter(await _read(client, wanted, per_read))
    found = []
    for _, properties in asked:
        told, may = next(answers), next(answers)
        more = {name: _content(next(answers)) for name in _described(properties)}
        found.append(_variable(told, may, more))
    return await _with_types(client, asked, found, per_read)


def _described(properties: Mapping[str, ua.NodeId]) -> Iterable[str]:
    return [name for name in ("EURange", "EngineeringUnits") if name in properties]


async def _read(
    client: Client, wanted: Sequence[tuple[ua.NodeId, AttributeIds]], most: int
) -> list[ua.DataValue]:
    """In requests of at most so many; a request that is too large all the same is halved."""
    answers: list[ua.DataValue] = []
    for first in range(0, len(wanted), most):
        part = wanted[first : first + most]
        nodes = [ua.ReadValueId(NodeId=node, AttributeId=attribute) for node, attribute in part]
        try:
            answers += await client.uaclient.read(ua.ReadParameters(NodesToRead=nodes))
        except UaStatusCodeError as error:
            if error.code not in _TOO_MUCH or len(part) == 1:
                raise
            answers += await _read(client, part, len(part) // 2)
    return answers


def _variable(told: ua.DataValue, may: ua.DataValue, more: Mapping[str, Any]) -> Variable:
    variant = told.Value if told.Value is not None else ua.Variant()
    single = not isinstance(variant.Value, list)
    type_name = "" if variant.Value is None else variant.VariantType.name
    if isinstance(variant.Value, list):
        type_name += f"[{len(variant.Value)}]"
    span = more.get("EURange")
    low, high = (span.Low, span.High) if isinstance(span, ua.Range) else (None, None)
    unit = more.get("EngineeringUnits")
    unit = unit if isinstance(unit, ua.EUInformation) else None
    return Variable(
        type_name,
        _TYPES.get(variant.VariantType) if single and variant.Value is not None else None,
        _access(_content(may)),
        _shown(told, variant.Value),
        _finite(low),
        _finite(high),
        (unit.DisplayName.Text or "") if unit else "",
        ucum(unit) if unit else None,
    )


async def _with_types(
    client: Client,
    asked: Sequence[tuple[ua.NodeId, Mapping[str, ua.NodeId]]],
    found: list[Variable],
    per_read: int,
) -> list[Variable]:
    """Where there is no value to tell the type, ask what it would be."""
    unknown = [index for index, variable in enumerate(found) if not variable.type_name]
    kind, rank = AttributeIds.DataType, AttributeIds.ValueRank
    wanted = [(asked[index][0], each) for index in unknown for each in (kind, rank)]
    answers = iter(await _read(client, wanted, per_read))
    for index in unknown:
        data_type, array = _content(next(answers)), _content(next(answers)) not in (None, -1)
        found[index] = _typed(found[index], data_type, array=array)
    return found


def _typed(variable: Variable, data_type: object, *, array: bool) -> Variable:
    """Types of the standard that a property can hold have the number of their encoding."""
    if not isinstance(data_type, ua.NodeId) or data_type.NamespaceIndex:
        return variable
    number = data_type.Identifier
    if not isinstance(number, int):
        return variable
    name = ObjectIdNames.get(number, "")
    encoding = next((each for each in _TYPES if each.value == number), None)
    single = _TYPES[encoding] if encoding is not None and not array else None
    return replace(variable, type_name=name + ("[]" if array else ""), type=single)


def _content(told: ua.DataValue) -> Any:  # noqa: ANN401 - whatever the server holds
    return told.Value.Value if told.Value is not None else None


def _access(mask: object) -> Access | None:
    """None where neither the present value can be read nor written."""
    if not isinstance(mask, int):
        return Access.READ_ONLY
    reads = bool(mask & 1 << ua.AccessLevel.CurrentRead)
    writes = bool(mask & 1 << ua.AccessLevel.CurrentWrite)
    if reads:
        return Access.READ_WRITE if writes else Access.READ_ONLY
    return Access.WRITE_ONLY if writes else None


def _shown(told: ua.DataValue, value: object) -> str:
    if told.StatusCode is not None and not told.StatusCode.is_good():
        return get_name_and_doc(told.StatusCode.value)[0]
    text = _text(value)
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"


_TEXTS: dict[type, Callable[[Any], str]] = {
    type(None): lambda _: "-",
    bool: lambda value: "true" if value else "false",
    float: lambda value: f"{value:.6g}",
    list: lambda _: "…",
    bytes: lambda value: value.hex(),
    datetime: lambda value: value.isoformat(" ", "seconds"),
    ua.LocalizedText: lambda value: value.Text or "",
    ua.QualifiedName: lambda value: value.Name or "",
}


def _text(value: object) -> str:
    if isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    return _TEXTS.get(type(value), lambda value: type(value).__name__)(value)


def _finite(number: object) -> float | None:
    return number if isinstance(number, float) and math.isfinite(number) else None
