"""From a value to what a node or a method takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from uuid import UUID

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes

from twinbridge.core.model import Point, Value
from twinbridge.core.scaling import unscaled
from twinbridge.errors import DeviceError, WriteRejected
from twinbridge_opcua.address import bound
from twinbridge_opcua.config import VALUE, Method
from twinbridge_opcua.nodes import parse_node
from twinbridge_opcua.reading import value_of
from twinbridge_opcua.resolving import FORWARD
from twinbridge_opcua.session import Session
from twinbridge_opcua.status import bare, of_status, said

_WHOLE: dict[ua.VariantType, tuple[int, int]] = {
    ua.VariantType.SByte: (-(2**7), 2**7 - 1),
    ua.VariantType.Byte: (0, 2**8 - 1),
    ua.VariantType.Int16: (-(2**15), 2**15 - 1),
    ua.VariantType.UInt16: (0, 2**16 - 1),
    ua.VariantType.Int32: (-(2**31), 2**31 - 1),
    ua.VariantType.UInt32: (0, 2**32 - 1),
    ua.VariantType.Int64: (-(2**63), 2**63 - 1),
    ua.VariantType.UInt64: (0, 2**64 - 1),
}
_BROKEN = (ua.VariantType.Float, ua.VariantType.Double)
_FLOAT_MAX = 3.4028234663852886e38
_REFUSED = frozenset(
    {
        StatusCodes.BadNotWritable,
        StatusCodes.BadTypeMismatch,
        StatusCodes.BadOutOfRange,
        StatusCodes.BadUserAccessDenied,
        StatusCodes.BadNodeIdUnknown,
        StatusCodes.BadNodeIdInvalid,
        StatusCodes.BadAttributeIdInvalid,
        StatusCodes.BadWriteNotSupported,
        StatusCodes.BadIndexRangeInvalid,
        StatusCodes.BadIndexRangeNoData,
        StatusCodes.BadInvalidArgument,
        StatusCodes.BadArgumentsMissing,
        StatusCodes.BadTooManyArguments,
        StatusCodes.BadMethodInvalid,
        StatusCodes.BadNotExecutable,
        StatusCodes.BadNotSupported,
        StatusCodes.BadInvalidState,
    }
)
_LAST_BUILT_IN = 25
_KINDS: dict[int, ua.VariantType] = {
    ObjectIds.Enumeration: ua.VariantType.Int32,
    ObjectIds.Duration: ua.VariantType.Double,
    ObjectIds.UtcTime: ua.VariantType.DateTime,
    ObjectIds.LocaleId: ua.VariantType.String,
    ObjectIds.Counter: ua.VariantType.UInt32,
    ObjectIds.IntegerId: ua.VariantType.UInt32,
}


class Unfit(Exception):
    """The value is none that the node can hold; the text says what it holds."""


def raw_of(point: Point, value: Value) -> Value:
    """What the node has when the property has this value. Raises Unfit."""
    model = bound(point).model
    if model.labels is not None:
        for number, label in model.labels.items():
            if label == value:
                return number
        raise Unfit(f"{value!r} is none of {', '.join(model.labels.values())}")
    if (model.scale is None and not model.offset) or isinstance(value, bool | str):
        return value
    if not math.isfinite(value):
        raise Unfit(f"{value!r} is no number that a node can be set to")
    raw = unscaled(value, model.scale, model.offset)
    try:
        return raw.numerator if raw.denominator == 1 else float(raw)
    except OverflowError:
        raise Unfit(f"{value!r} is too large for the scale of the node") from None


def coerced(raw: object, kind: ua.VariantType, *, scaled: bool = False) -> object:
    """The value as the node's own type. Raises Unfit, naming what that type holds.

    What was `scaled` is rounded to a node of whole numbers; anything else must be one.
    """
    if kind is ua.VariantType.Boolean:
        if isinstance(raw, bool):
            return raw
        raise Unfit(f"{raw!r} is no Boolean")
    if kind in _WHOLE:
        return _whole(raw, kind, scaled=scaled)
    if kind in _BROKEN:
        return _broken(raw, kind)
    if not isinstance(raw, str):
        raise Unfit(f"{raw!r} is no {kind.name}")
    return _from_text(raw, kind)


def _whole(raw: object, kind: ua.VariantType, *, scaled: bool) -> int:
    low, high = _WHOLE[kind]
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw):
        raise Unfit(f"{raw!r} is no {kind.name}")
    number = round(raw)
    if number != raw and not scaled:
        raise Unfit(f"{raw!r} is no whole number, and the node's {kind.name} holds no other")
    if not low <= number <= high:
        raise Unfit(f"{raw!r} does not fit the node's {kind.name}, {low} to {high}")
    return number


def _broken(raw: object, kind: ua.VariantType) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise Unfit(f"{raw!r} is no {kind.name}")
    number = float(raw)
    if kind is ua.VariantType.Float and math.isfinite(number) and abs(number) > _FLOAT_MAX:
        raise Unfit(f"{raw!r} does not fit the node's Float")
    return number


def _from_text(raw: str, kind: ua.VariantType) -> object:
    try:
        match kind:
            case ua.VariantType.String:
                return raw
            case ua.VariantType.LocalizedText:
                return ua.LocalizedText(raw)
            case ua.VariantType.DateTime:
                return datetime.fromisoformat(raw)
            case ua.VariantType.Guid:
                return UUID(raw)
            case ua.VariantType.ByteString:
                return bytes.fromhex(raw)
    except ValueError:
        raise Unfit(f"{raw!r} is no {kind.name}") from None
    raise Unfit(f"a {kind.name} cannot be written")


class Writer:
    """Knows the type of each node that was written in this session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._kinds: dict[Point, ua.VariantType] = {}
        self._arguments: dict[Point, Sequence[ua.Argument]] = {}

    async def write(self, point: Point, node: ua.NodeId, value: Value) -> None:
        """The value alone, with no status and no times. Raises WriteRejected, DeviceError."""
        if point not in self._kinds:
            self._kinds[point] = await self._kind(point, node)
        model, kind = bound(point).model, self._kinds[point]
        index, scaled = model.index, model.scale is not None or bool(model.offset)
        try:
            raw = coerced(raw_of(point, value), kind, scaled=scaled)
        except Unfit as unfit:
            raise WriteRejected(f"{point.ref}: {unfit}") from unfit
        variant = ua.Variant([raw] if index is not None else raw, kind)
        entry = ua.WriteValue(
            NodeId=node,
            AttributeId=ua.IntegerId(AttributeIds.Value),
            IndexRange=None if index is None else ua.String(index),
            Value=ua.DataValue(variant, StatusCode=None),
        )
        (status,) = await self._session.ask(
            self._session.raw.write(ua.WriteParameters(NodesToWrite=[entry]))
        )
        if not status.is_good():
            # Should the node have become another, its type is asked for anew.
            self._kinds.pop(point, None)
            raise self._refused(point, status)

    async def call(self, point: Point, method: Method, value: Value) -> None:
        """Call the method that writes the property. Raises WriteRejected, DeviceError."""
        owner, target = (
            self._session.node_id(parse_node(name)) for name in (method.object, method.method)
        )
        if owner is None or target is None:
            raise WriteRejected(f"{point.ref}: the server has no namespace of {method.method}")
        if point not in self._arguments:
            self._arguments[point] = await self._inputs(target)
        request = ua.CallMethodRequest(owner, target, self._typed(point, method, value))
        (result,) = await self._session.ask(self._session.raw.call([request]))
        if not result.StatusCode.is_good():
            raise self._refused(point, result.StatusCode)

    async def learn(self, nodes: Mapping[Point, ua.NodeId]) -> None:
        """Ask for the types of these nodes ahead: a stop then takes one request.

        What cannot be written is left for its first write to say. Raises DeviceError.
        """
        wanted = [point for point in nodes if point not in self._kinds]
        asked = [part for point in wanted for part in _type_of(point, nodes[point])]
        answers = iter(await self._session.read(asked))
        for point, value, data_type in zip(wanted, answers, answers, strict=True):
            with suppress(DeviceError):
                self._kinds[point] = self._fitting(point, value, data_type)

    async def _kind(self, point: Point, node: ua.NodeId) -> ua.VariantType:
        value, data_type = await self._session.read(_type_of(point, node))
        return self._fitting(point, value, data_type)

    def _fitting(
        self, point: Point, value: ua.DataValue, data_type: ua.DataValue
    ) -> ua.VariantType:
        """The type of the value that the node has now, else its data type."""
        if value.Value is not None and value.Value.Value is not None:
            self._must_fit(point, value.Value.Value)
            return value.Value.VariantType
        if data_type.StatusCode is not None and not data_type.StatusCode.is_good():
            raise self._refused(point, data_type.StatusCode)
        declared = data_type.Value.Value if data_type.Value is not None else None
        kind = variant_type(declared)
        if kind is None:
            raise WriteRejected(f"{point.ref}: the node's type {declared} cannot be written")
        return kind

    @staticmethod
    def _must_fit(point: Point, present: object) -> None:
        """Raises WriteRejected where a write would replace a whole array by one value."""
        index = bound(point).model.index
        if not isinstance(present, list):
            if index is not None:
                raise WriteRejected(f"{point.ref}: the node is no array, so it has no index")
        elif index is None:
            raise WriteRejected(f"{point.ref}: the node is an array; say which index is written")
        elif len(present) != 1:
            raise WriteRejected(
                f"{point.ref}: the server cannot write one element of an array; the others"
                " would be lost"
            )

    async def _inputs(self, method: ua.NodeId) -> Sequence[ua.Argument]:
        """What the method takes; nothing when it declares nothing."""
        description = ua.BrowsePath(
            method,
            ua.RelativePath(
                [
                    ua.RelativePathElement(
                        ReferenceTypeId=ua.NodeId(ua.Int32(ObjectIds.HasProperty)),
                        IsInverse=FORWARD,
                        TargetName=ua.QualifiedName("InputArguments", ua.Int16(0)),
                    )
                ]
            ),
        )
        (found,) = await self._session.translate([description])
        if not found.Targets:
            return ()
        (answer,) = await self._session.read_values([found.Targets[0].TargetId])
        declared = answer.Value.Value if answer.Value is not None else None
        return declared if isinstance(declared, list) else ()

    def _typed(self, point: Point, method: Method, value: Value) -> list[ua.Variant]:
        declared = self._arguments[point]
        given = [raw_of(point, value) if a == VALUE else a for a in method.arguments]
        if len(given) != len(declared):
            self._arguments.pop(point)
            names = ", ".join(argument.Name or "?" for argument in declared) or "nothing"
            raise WriteRejected(f"{point.ref}: the method takes {names}; {len(given)} are given")
        try:
            return [_argument(a, g) for a, g in zip(declared, given, strict=True)]
        except Unfit as unfit:
            raise WriteRejected(f"{point.ref}: {unfit}") from unfit

    def _refused(self, point: Point, status: ua.StatusCode) -> DeviceError:
        if bare(status.value) in _REFUSED:
            return WriteRejected(f"{point.ref}: {said(status.value)}")
        return of_status(status.value, f"{self._session.endpoint} {point.ref}")


def _type_of(point: Point, node: ua.NodeId) -> list[ua.ReadValueId]:
    return [value_of(point, node), ua.ReadValueId(node, AttributeIds.DataType)]


def _argument(declared: ua.Argument, given: Value) -> ua.Variant:
    kind = variant_type(declared.DataType)
    if kind is None:
        raise Unfit(f"argument {declared.Name}: a value of this type cannot be given")
    try:
        return ua.Variant(coerced(given, kind), kind)
    except Unfit as unfit:
        raise Unfit(f"argument {declared.Name}: {unfit}") from unfit


def variant_type(data_type: object) -> ua.VariantType | None:
    """Of a built-in data type or one of its common subtypes."""
    if not isinstance(data_type, ua.NodeId) or data_type.NamespaceIndex:
        return None
    number = data_type.Identifier
    if not isinstance(number, int):
        return None
    return ua.VariantType(number) if 0 < number < _LAST_BUILT_IN else _KINDS.get(number)
