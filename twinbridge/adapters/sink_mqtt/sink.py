"""The sink: one connection, QoS 1, a bounded number of messages in flight."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from typing_extensions import override

from twinbridge.adapters.sink_mqtt.payload import messages
from twinbridge.api.broker import Broker
from twinbridge.core.model import SECOND
from twinbridge.errors import HubRefused, HubUnavailable, LinkLost, Unreachable
from twinbridge.mqtt import faults
from twinbridge.mqtt.connection import Connection, Message, connected, stay_connected
from twinbridge.ports import OutboxBatch, Sink

KINDS: Final = frozenset({"samples", "alarm", "audit", "gap"})
IN_FLIGHT: Final = 100
IN_FLIGHT_BYTES: Final = 65_536
"""What waits for acknowledgement at once: 8 s of a line of 64 kbit/s, less than a keep-alive."""
KEEPALIVE: Final = 30 * SECOND
_ITS_OWN_FAULT: Final = frozenset({144, 149, 153})
"""MQTT 5 (2.4): of the topic, the size, the format of this message, and of no other."""
_TAKE_SECONDS: Final = 30.0


class MqttUpstream(Sink):
    """Made by `open_mqtt_upstream`. `prefix`: where all topics begin."""

    def __init__(self, broker: Broker, prefix: str, node: str) -> None:
        self._broker = broker
        self._prefix = prefix
        self._node = node
        self._there: Connection | None = None
        self._count = 0
        self._heard = False
        self._why = f"{broker.endpoint}: not connected"

    @property
    @override
    def name(self) -> str:
        return "mqtt"

    @property
    @override
    def kinds(self) -> frozenset[str]:
        return KINDS

    @property
    @override
    def connection(self) -> int:
        return self._count

    @override
    async def takes_late(self, since: int) -> bool:
        return True

    @override
    async def send(self, batch: OutboxBatch) -> None:
        there = self._there
        if there is None:
            raise HubUnavailable(self._why)
        flying: list[asyncio.Future[int]] = []
        size = 0
        try:
            for topic, payload in messages(batch, self._prefix, self._node):
                if len(flying) == IN_FLIGHT or size >= IN_FLIGHT_BYTES:
                    await self._landed(flying)
                    flying, size = [], 0
                flying.append(there.publish_soon(topic, payload))
                size += len(payload)
            if flying:
                await self._landed(flying)
        except HubUnavailable:
            raise
        except (LinkLost, Unreachable, TimeoutError) as error:
            there.drop()  # what is under way on it is sent again, on another
            why = str(error) or "the broker does not acknowledge what it is sent"
            raise HubUnavailable(f"{self._broker.endpoint}: {why}") from error

    async def _landed(self, flying: list[asyncio.Future[int]]) -> None:
        """Wait until the broker has answered each; raises HubRefused, HubUnavailable."""
        async with asyncio.timeout(_TAKE_SECONDS):
            await asyncio.wait(flying)
        codes = {future.result() for future in flying}
        self._check_audience(codes)
        refused = {code for code in codes if faults.refused(code)}
        if not refused:
            return
        why = ", ".join(faults.reason(code) for code in sorted(refused))
        if refused <= _ITS_OWN_FAULT:
            raise HubRefused(f"{self._broker.endpoint}: it refuses a message: {why}")
        raise HubUnavailable(f"{self._broker.endpoint}: it takes no messages: {why}")

    def _check_audience(self, codes: set[int]) -> None:
        """After a crash a broker may have lost who subscribed: until somebody has heard one message
        of this connection, what nobody heard is sent again. Raises HubUnavailable.
        """
        if codes != {faults.NOBODY_LISTENS}:
            self._heard = True
        if not self._heard:
            where = f"{self._broker.endpoint}: {self._prefix}"
            raise HubUnavailable(f"{where}: nobody has subscribed; it is sent once somebody has")

    async def stay(self) -> None:
        """Keep the connection; never ends by itself."""
        await stay_connected("mqtt upstream", self._serve)

    async def _serve(self) -> None:
        try:
            async with connected(self._broker, _ignore) as self._there:
                self._count += 1
                self._heard = False
                await self._there.until_lost()
        except Unreachable as error:
            self._why = str(error)
            raise
        finally:
            self._there = None


def _ignore(_: Message) -> None:
    """Nothing is subscribed to."""


@asynccontextmanager
async def open_mqtt_upstream(broker: Broker, prefix: str, node: str) -> AsyncIterator[MqttUpstream]:
    """Messages go to topics such as `PREFIX/samples/DEVICE`."""
    sink = MqttUpstream(replace(broker, keepalive=KEEPALIVE), prefix, node)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(sink.stay(), name="mqtt upstream")
        try:
            yield sink
        finally:
            task.cancel()
