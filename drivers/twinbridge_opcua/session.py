"""One session with a server: bounded calls, in portions that the server bears."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from asyncua import ua
from asyncua.client.client import Client
from asyncua.client.ua_session import UaSession
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaStatusCodeError

from twinbridge.core.model import SECOND
from twinbridge.errors import LinkLost, NoResponse
from twinbridge_opcua.config import OpcUaConnection
from twinbridge_opcua.nodes import BASE, NodeName
from twinbridge_opcua.status import bare, translated
from twinbridge_opcua.trust.refusal import refusal
from twinbridge_opcua.trust.security import secure

Item = TypeVar("Item")
Result = TypeVar("Result")
Answer = TypeVar("Answer")

CONNECT_TIMEOUTS = 5
"""Socket, hello, channel, session, activation: a timeout for each."""
CLOSE_WITHIN = 1.0
"""Seconds that a server is given to take leave."""
MOST_PER_CALL = 1000
"""Nodes per request however many the server says it bears, for a request has its time."""
SILENT_CALLS = 3
"""Calls without an answer in a row, after which the link is built anew."""

_LIMITS = {
    "read": ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
    "monitor": ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
    "translate": (
        ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerTranslateBrowsePathsToNodeIds
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

# What goes wrong is raised, told on the twin and counted; the library would say it once more.
logging.getLogger("asyncua").setLevel(logging.CRITICAL)


class _TooMuch(Exception):
    """The server does not take so much in one call."""

    def __init__(self, error: UaStatusCodeError) -> None:
        super().__init__(error)
        self.error = error


class Session:
    """Raises only DeviceErrors. `lost` is set when the connection has ended by itself."""

    def __init__(self, client: Client, connection: OpcUaConnection, endpoint: str) -> None:
        self.endpoint = endpoint
        self.lost = asyncio.Event()
        self._client = client
        self._timeout = connection.timeout / SECOND
        self._portion = dict.fromkeys(_LIMITS, connection.max_per_call)
        self._namespaces: dict[str, int] = {}
        self._silent = 0
        client.connection_lost_callback = self._has_ended

    async def _has_ended(self, _why: Exception) -> None:
        self.lost.set()

    @property
    def portion(self) -> int:
        """How many nodes one read may ask for."""
        return self._portion["read"]

    @property
    def monitored_at_once(self) -> int:
        """How many nodes one request may begin to monitor."""
        return self._portion["monitor"]

    async def begin(self) -> None:
        """Learn the server's limits and namespaces."""
        nodes = [ua.NodeId(ua.Int32(limit)) for limit in _LIMITS.values()]
        for kind, answer in zip(_LIMITS, await self.read_values(nodes), strict=True):
            limit = answer.Value.Value if answer.Value is not None else None
            if isinstance(limit, int) and limit > 0:
                self._portion[kind] = min(limit, MOST_PER_CALL)
        await self.learn_namespaces()

    async def learn_namespaces(self) -> None:
        """The numbers of the namespaces, which may differ after the server's next start."""
        (answer,) = await self.read_values([ua.NodeId(ua.Int32(ObjectIds.Server_NamespaceArray))])
        uris = answer.Value.Value if answer.Value is not None else None
        if not isinstance(uris, list):
            raise LinkLost(f"{self.endpoint}: the server does not tell its namespaces")
        self._namespaces = {uri: index for index, uri in enumerate(uris)}

    def namespace(self, uri: str) -> int | None:
        return 0 if uri == BASE else self._namespaces.get(uri)

    def node_id(self, name: NodeName) -> ua.NodeId | None:
        """None when the server does not know the namespace."""
        index = self.namespace(name.uri)
        return None if index is None else ua.NodeId(name.name, index)  # type: ignore[arg-type]  # the library's own aliases of int and str

    async def read_values(
        self, nodes: Sequence[ua.NodeId], attribute: AttributeIds = AttributeIds.Value
    ) -> list[ua.DataValue]:
        return await self.read([ua.ReadValueId(node, attribute) for node in nodes])

    async def read(self, nodes: Sequence[ua.ReadValueId]) -> list[ua.DataValue]:
        def ask(part: Sequence[ua.ReadValueId]) -> Awaitable[list[ua.DataValue]]:
            parameters = ua.ReadParameters(
                TimestampsToReturn=ua.TimestampsToReturn.Both, NodesToRead=list(part)
            )
            return self.raw.read(parameters)

        return await self._in_portions("read", nodes, ask)

    async def translate(self, paths: Sequence[ua.BrowsePath]) -> list[ua.BrowsePathResult]:
        return await self._in_portions(
            "translate", paths, lambda part: self.raw.translate_browsepaths_to_nodeids(list(part))
        )

    async def monitor(
        self, subscription: int, items: Sequence[ua.MonitoredItemCreateRequest]
    ) -> list[ua.MonitoredItemCreateResult]:
        def ask(
            part: Sequence[ua.MonitoredItemCreateRequest],
        ) -> Awaitable[list[ua.MonitoredItemCreateResult]]:
            parameters = ua.CreateMonitoredItemsParameters(
                SubscriptionId=ua.IntegerId(subscription),
                TimestampsToReturn=ua.TimestampsToReturn.Both,
                ItemsToCreate=list(part),
            )
            return self.raw.create_monitored_items(parameters)

        return await self._in_portions("monitor", items, ask)

    async def forget(self, subscription: int, items: Sequence[int]) -> None:
        """Stop monitoring; what the server no longer knows is as well forgotten."""

        def ask(part: Sequence[int]) -> Awaitable[list[ua.StatusCode]]:
            parameters = ua.DeleteMonitoredItemsParameters(
                SubscriptionId=ua.IntegerId(subscription),
                MonitoredItemIds=[ua.IntegerId(item) for item in part],
            )
            return self.raw.delete_monitored_items(parameters)

        await self._in_portions("monitor", items, ask)

    @property
    def raw(self) -> UaSession:
        """The library's session, for `ask`."""
        return self._client.uaclient.session

    async def ask(self, call: Awaitable[Answer]) -> Answer:
        """One call to the server, bounded and translated."""
        try:
            return await self._ask(call)
        except _TooMuch as error:
            raise translated(error.error, self.endpoint) from error.error

    async def _ask(self, call: Awaitable[Answer]) -> Answer:
        """As `ask`, but for what might do in smaller portions: _TooMuch."""
        try:
            async with asyncio.timeout(self._timeout):
                answer = await call
        except Exception as error:
            if isinstance(error, UaStatusCodeError) and bare(error.code) in _TOO_MUCH:
                raise _TooMuch(error) from error
            failed = translated(error, self.endpoint)
            if isinstance(failed, NoResponse):
                self._silent += 1
                if self._silent >= SILENT_CALLS:
                    raise LinkLost(f"{failed}; {self._silent} times in a row") from error
            raise failed from error
        self._silent = 0
        return answer

    async def _in_portions(
        self,
        kind: str,
        items: Sequence[Item],
        ask: Callable[[Sequence[Item]], Awaitable[list[Result]]],
    ) -> list[Result]:
        """In calls no larger than the server bears; one that was too large is halved."""
        found: list[Result] = []
        while len(found) < len(items):
            part = items[len(found) : len(found) + self._portion[kind]]
            try:
                results = await self._ask(ask(part))
            except _TooMuch as error:
                if len(part) == 1:
                    raise translated(error.error, self.endpoint) from error.error
                self._portion[kind] = len(part) // 2
                continue
            if len(results) != len(part):
                raise LinkLost(f"{self.endpoint}: {len(part)} asked, {len(results)} answered")
            found += results
        return found


@asynccontextmanager
async def open_session(connection: OpcUaConnection, endpoint: str) -> AsyncIterator[Session]:
    """Raises LinkLost when there is no session in time, or none that may be trusted."""
    timeout = connection.timeout / SECOND
    url = f"opc.tcp://{connection.where}"  # the library knows no port by itself
    client = Client(url, timeout=timeout, watchdog_intervall=max(1.0, timeout))
    client.name = client.description = "TwinBridge"
    client.session_timeout = connection.session_timeout // 1_000_000
    session = Session(client, connection, endpoint)
    try:
        await _connect(client, connection, endpoint)
        await session.begin()
        yield session
    finally:
        await _close(client)


async def _connect(client: Client, connection: OpcUaConnection, endpoint: str) -> None:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUTS * connection.timeout / SECOND):
            if connection.security is not None or connection.user is not None:
                await secure(client, connection, endpoint)
            await client.connect()
    except LinkLost:
        raise
    except Exception as error:
        words = refusal(error, connection)
        if words is None:
            raise LinkLost(str(translated(error, endpoint))) from error
        raise LinkLost(f"{endpoint}: {words}") from error


async def _close(client: Client) -> None:
    """Take leave if the server lets us; leave no task and no socket either way."""
    # The library leaves these behind when the server is gone, or does not read any more.
    publishing = client.uaclient._publish_task  # noqa: SLF001 - it has no other name
    protocol = client.uaclient.protocol
    try:
        with suppress(Exception):
            async with asyncio.timeout(CLOSE_WITHIN):
                await client.disconnect()
    finally:
        client.disconnect_socket()
        if protocol is not None and protocol.transport is not None:
            protocol.transport.abort()
        if publishing is not None:
            publishing.cancel()
            await asyncio.wait([publishing])
