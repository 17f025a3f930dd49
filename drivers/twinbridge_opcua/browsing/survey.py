"""Walks an address space, level by level, and never further than a limit of nodes.

Requests are as large as the server takes; long answers are fetched page by page with
continuation points (OPC UA Part 4, 5.9.2 and 7.9), and one that is not wanted to its end is
released.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes, get_name_and_doc

from twinbridge.errors import InvalidInput
from twinbridge_opcua.browsing.variables import Variable
from twinbridge_opcua.nodes import NodeName, parse_node, parse_path

PAGE = 1000
"""References of one node per answer."""
MOST_PER_CALL = 1000
_LONGEST_LIST = 10
_KINDS = {
    ua.NodeClass.Object: "object",
    ua.NodeClass.Variable: "variable",
    ua.NodeClass.Method: "method",
}
_TYPE_LETTERS = {ua.NodeIdType.String: "s", ua.NodeIdType.Guid: "g", ua.NodeIdType.ByteString: "b"}
_OBJECTS, _SERVER, _HIERARCHY, _HAS_PROPERTY, _PER_BROWSE, _PER_READ = (
    ua.NodeId(ua.Int32(identifier))
    for identifier in (
        ObjectIds.ObjectsFolder,
        ObjectIds.Server,
        ObjectIds.HierarchicalReferences,
        ObjectIds.HasProperty,
        ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse,
        ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
    )
)


@dataclass(slots=True)
class Branch:
    """A node and what is below it."""

    name: str
    kind: str
    """object, variable or method."""
    node: ua.NodeId
    address: str
    """`nsu=URI;s=NAME`, as a Device writes it."""
    variable: Variable | None = None
    children: list[Branch] = field(default_factory=list)
    properties: dict[str, ua.NodeId] = field(default_factory=dict)
    """EURange, EngineeringUnits and the like, by name."""
    hidden: str = ""
    """What below it is not shown, and why: `49,000 more`; '' if all is."""

    def walk(self) -> Iterator[Branch]:
        """Itself and all below, in the order of a tree."""
        pending = [self]
        while pending:
            branch = pending.pop()
            yield branch
            pending += reversed(branch.children)


@dataclass(frozen=True, slots=True)
class Scope:
    """Which part of the address space is wanted."""

    path: str | None = None
    """`Boiler/Sensors` from the Objects folder on, or a node id; None for all objects."""
    depth: int = 10
    limit: int = 1000
    """Nodes at most below the start; those nearest to it are kept."""


@dataclass(frozen=True, slots=True)
class _Below:
    """A node's references, or why they are not all there."""

    references: Sequence[ua.ReferenceDescription] = ()
    more: bool = False
    refused: str = ""


async def survey(client: Client, scope: Scope, per_call: int) -> tuple[Branch, int]:
    """The wanted part, and how many nodes one read may ask for.

    `per_call` holds where the server names no limit. Raises InvalidInput for a wrong path.
    """
    limits = await client.uaclient.read_attributes([_PER_BROWSE, _PER_READ], AttributeIds.Value)
    given = [limit.Value.Value if limit.Value is not None else None for limit in limits]
    per_browse, per_read = (min(n, MOST_PER_CALL) if n else per_call for n in given)
    walk = _Walk(client, await client.get_namespace_array(), per_browse)
    start = await walk.start(scope.path)
    await walk.descend(start, scope)
    return start, per_read


@dataclass(slots=True)
class _Walk:
    client: Client
    uris: Sequence[str]
    per_browse: int
    seen: set[ua.NodeId] = field(default_factory=set)

    async def start(self, path: str | None) -> Branch:
        at = Branch("Objects", "object", _OBJECTS, "i=85")
        if path is None or not path.strip("/"):
            return at
        try:
            if path.startswith(("nsu=", "i=", "s=", "g=", "b=")):
                return await self._at_node(parse_node(path))
            names = parse_path(path)
        except ValueError as error:
            raise InvalidInput(f"--path: {error}") from error
        for name in names:
            at = await self._child(at, name)
        return at

    async def _at_node(self, name: NodeName) -> Branch:
        if name.uri not in self.uris:
            known = ", ".join(self.uris)
            raise InvalidInput(f"--path: the server has no namespace {name.uri}; it has {known}")
        node = ua.NodeId(name.name, self.uris.index(name.uri))  # type: ignore[arg-type]  # the library's own aliases of int and str
        wanted = (AttributeIds.BrowseName, AttributeIds.NodeClass)
        shown = [(await self.client.uaclient.read_attributes([node], each))[0] for each in wanted]
        browse_name, node_class = (each.Value.Value if each.Value else None for each in shown)
        if not isinstance(browse_name, ua.QualifiedName):
            raise InvalidInput(f"--path: the server has no node {name}")
        kind = _KINDS.get(ua.NodeClass(node_class or 0), "object")
        return Branch(browse_name.Name or "", kind, node, str(name))

    async def _child(self, parent: Branch, name: str) -> Branch:
        (below,) = await self._references([parent.node], room=10_000_000)
        branches = [self._branch(ref) for ref in below.references]
        found = [branch for branch in branches if branch.name == name]
        if len(found) == 1:
            return found[0]
        if found:
            which = ", ".join(branch.address for branch in found)
            raise InvalidInput(f"--path: {parent.name} has several {name}; give one of {which}")
        names = sorted({branch.name for branch in branches})
        listed = ", ".join(names[:_LONGEST_LIST]) + (", …" if len(names) > _LONGEST_LIST else "")
        raise InvalidInput(
            f"--path: {parent.name} has no {name}; it has {listed or 'nothing below'}"
        )

    async def descend(self, start: Branch, scope: Scope) -> None:
        """Nearest nodes first, so that a limit cuts off what is deep, not what comes late."""
        self.seen.add(start.node)
        level, left = [start], scope.limit
        for depth in range(scope.depth + 1):
            rooms = 0 if depth == scope.depth else left
            told = await self._references([branch.node for branch in level], rooms)
            for branch, below in zip(level, told, strict=True):
                taken = 0 if depth == scope.depth else left
                left -= self._grow(branch, below, taken, deeper=depth < scope.depth)
            level = [child for branch in level for child in branch.children if _opens(child)]
            if not level:
                return

    def _grow(self, branch: Branch, below: _Below, room: int, *, deeper: bool) -> int:
        """Hang at most `room` children on a branch; gives how many."""
        left_out = 0
        for reference in below.references:
            child = self._branch(reference)
            if reference.ReferenceTypeId == _HAS_PROPERTY:
                branch.properties[child.name] = child.node
            elif child.node in self.seen:
                continue  # it has another parent too, and is shown there
            elif len(branch.children) < room:
                self.seen.add(child.node)
                branch.children.append(child)
            else:
                left_out += 1
        branch.hidden = below.refused or _left_out(left_out, more=below.more, deeper=deeper)
        return len(branch.children)

    def _branch(self, reference: ua.ReferenceDescription) -> Branch:
        given = reference.NodeId
        index = given.NamespaceIndex
        uri = getattr(given, "NamespaceUri", None)
        if uri in self.uris:
            index = self.uris.index(uri)
        node = ua.NodeId(given.Identifier, index, given.NodeIdType)
        letter = _TYPE_LETTERS.get(given.NodeIdType, "i")
        uri = self.uris[index] if index < len(self.uris) else f"(unknown namespace {index})"
        address = str(NodeName(uri, letter, given.Identifier))
        kind = _KINDS.get(reference.NodeClass, "object")
        branch = Branch(reference.BrowseName.Name or "", kind, node, address)
        if node == _SERVER:
            branch.hidden = "not opened; --path Server"
        return branch

    async def _references(self, nodes: Sequence[ua.NodeId], room: int) -> list[_Below]:
        """What is below each, about `room` references of one node at most."""
        answers: list[_Below] = []
        for first in range(0, len(nodes), self.per_browse):
            part = nodes[first : first + self.per_browse]
            for node, result in zip(part, await self._browse(part), strict=True):
                if result.StatusCode.value == StatusCodes.BadNoContinuationPoints:
                    # The others of this call held all that the server has; they are free by now.
                    (result,) = await self._browse([node])  # noqa: PLW2901 - the same, once more
                answers.append(await self._whole(result, room))
        return answers

    async def _browse(self, nodes: Sequence[ua.NodeId]) -> list[ua.BrowseResult]:
        wanted = ua.BrowseParameters(
            RequestedMaxReferencesPerNode=ua.UInt32(PAGE),
            NodesToBrowse=[_everything_below(node) for node in nodes],
        )
        return await self.client.uaclient.browse(wanted)

    async def _whole(self, result: ua.BrowseResult, room: int) -> _Below:
        found = list(result.References or ())
        while result.ContinuationPoint and len(found) < room:
            (result,) = await self._next(result.ContinuationPoint, release=False)
            found += result.References or ()
        if result.ContinuationPoint:
            await self._next(result.ContinuationPoint, release=True)
        if not result.StatusCode.is_good():
            name, _ = get_name_and_doc(result.StatusCode.value)
            return _Below(found, refused=f"the server does not tell ({name})")
        local = [ref for ref in found if not getattr(ref.NodeId, "ServerIndex", 0)]
        return _Below(local, more=bool(result.ContinuationPoint))

    async def _next(self, point: bytes, *, release: bool) -> list[ua.BrowseResult]:
        wanted = ua.BrowseNextParameters(
            ReleaseContinuationPoints=release, ContinuationPoints=[point]
        )
        return await self.client.uaclient.browse_next(wanted)


def _everything_below(node: ua.NodeId) -> ua.BrowseDescription:
    classes = ua.NodeClass.Object | ua.NodeClass.Variable | ua.NodeClass.Method
    return ua.BrowseDescription(
        NodeId=node,
        BrowseDirection=ua.BrowseDirection.Forward,
        ReferenceTypeId=_HIERARCHY,
        IncludeSubtypes=True,
        NodeClassMask=ua.UInt32(classes),
        ResultMask=ua.UInt32(ua.BrowseResultMask.All),
    )


def _opens(branch: Branch) -> bool:
    """Whether to look below: a method has but its arguments, and Server is another matter."""
    return branch.kind != "method" and branch.node != _SERVER


def _left_out(count: int, *, more: bool, deeper: bool) -> str:
    if not count and not more:
        return ""
    how_many = f"at least {max(count, 1):,}" if more else f"{count:,}"
    return f"{how_many} more; --limit" if deeper else f"{how_many} below; --depth"
