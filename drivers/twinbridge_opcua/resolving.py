"""Which node of this server, in its present numbering, a property is."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import cast

from asyncua import ua
from asyncua.ua.object_ids import ObjectIds

from twinbridge.core.model import Point
from twinbridge_opcua.address import BrowsePath, bound
from twinbridge_opcua.session import Session
from twinbridge_opcua.status import said

ASK_AGAIN = 60.0
"""Seconds until a node that the server did not have is looked for again."""
FORWARD = cast("ua.Boolean", False)
_HIERARCHICAL = ua.NodeId(ua.Int32(ObjectIds.HierarchicalReferences))
_OBJECTS = ua.NodeId(ua.Int32(ObjectIds.ObjectsFolder))


class Resolver:
    """Good for one session: another may number namespaces and nodes otherwise."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._nodes: dict[Point, ua.NodeId] = {}
        self._missing: dict[Point, tuple[str, float]] = {}

    def node(self, point: Point) -> ua.NodeId | None:
        return self._nodes.get(point)

    def missing(self, point: Point) -> str:
        """Why a property has no node here; '' if it has."""
        return self._missing.get(point, ("", 0.0))[0]

    def due(self) -> list[Point]:
        """What was missing and is to be looked for again by now."""
        now = monotonic()
        return [point for point, (_, again) in self._missing.items() if again <= now]

    def lack(self, point: Point, why: str) -> None:
        """The node is gone: it is looked for again after a while."""
        self._nodes.pop(point, None)
        self._missing[point] = why, monotonic() + ASK_AGAIN

    async def resolve(self, points: Sequence[Point]) -> None:
        """Find the nodes of these points, or why they have none. Raises DeviceError."""
        now = monotonic()
        wanted = [
            point
            for point in points
            if point not in self._nodes and self._missing.get(point, ("", 0.0))[1] <= now
        ]
        if any(point in self._missing for point in wanted):
            await self._session.learn_namespaces()
        paths: list[tuple[Point, ua.BrowsePath]] = []
        for point in wanted:
            place = bound(point).place
            if isinstance(place, BrowsePath):
                if (index := self._session.namespace(place.uri)) is not None:
                    paths.append((point, _path(place, index)))
                else:
                    self.lack(point, _no_namespace(place.uri))
            elif place is not None:
                self._take(point, self._session.node_id(place), _no_namespace(place.uri))
        if paths:
            await self._follow(paths)

    async def _follow(self, paths: Sequence[tuple[Point, ua.BrowsePath]]) -> None:
        results = await self._session.translate([path for _, path in paths])
        for (point, _), result in zip(paths, results, strict=True):
            found = result.Targets[0].TargetId if result.Targets else None
            node = ua.NodeId(found.Identifier, found.NamespaceIndex) if found else None
            self._take(point, node, f"{bound(point).place}: {said(result.StatusCode.value)}")

    def _take(self, point: Point, node: ua.NodeId | None, otherwise: str) -> None:
        if node is None:
            self.lack(point, otherwise)
        else:
            self._nodes[point] = node
            self._missing.pop(point, None)


def _no_namespace(uri: str) -> str:
    return f"the server has no namespace {uri}; `twinbridge browse opcua` shows those that it has"


def _path(place: BrowsePath, index: int) -> ua.BrowsePath:
    elements = [
        ua.RelativePathElement(
            ReferenceTypeId=_HIERARCHICAL,
            IsInverse=FORWARD,
            TargetName=ua.QualifiedName(name, ua.Int16(index)),
        )
        for name in place.names
    ]
    return ua.BrowsePath(_OBJECTS, ua.RelativePath(elements))
