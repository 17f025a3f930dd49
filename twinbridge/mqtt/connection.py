"""A broker as the parts that stand on it see it: the bus and the SCADA faces."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from time import monotonic
from typing import NoReturn

import structlog

from twinbridge.api.broker import Broker, Will
from twinbridge.core.model import SECOND
from twinbridge.errors import DeviceError, Unreachable
from twinbridge.mqtt import faults
from twinbridge.mqtt.session import (
    GATHER_URGENT,
    NOTHING_MORE,
    Session,
    Told,
    client_id,
    open_session,
)

log = structlog.get_logger()

FIRST_WAIT = 0.1
LONGEST_WAIT = 5.0


@dataclass(frozen=True, slots=True)
class Message:
    topic: str
    payload: bytes
    retained: bool = False
    told: Told = NOTHING_MORE


OnMessage = Callable[[Message], None]
"""Called within the loop, and only to take note."""


class Connection:
    """From CONNECT to DISCONNECT, or until it is lost; made by `connected`.

    Raises Unreachable whenever the broker is lost, refuses, or does not answer in time.
    """

    def __init__(self, broker: Broker, on_message: OnMessage) -> None:
        self._broker = broker
        self._on_message = on_message
        self._within = broker.timeout / SECOND
        self._session: Session | None = None
        self._granted: dict[int, asyncio.Future[Sequence[int]]] = {}
        self._over = asyncio.Event()

    # `twinbridge.mqtt.session.Receiver`

    def received(self, topic: str, payload: bytes, told: Told, *, retained: bool) -> None:
        self._on_message(Message(topic, payload, retained, told))

    def granted(self, packet: int, codes: Sequence[int]) -> None:
        waiter = self._granted.pop(packet, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(codes)

    def lost(self) -> None:
        self._over.set()
        for waiter in self._granted.values():
            waiter.cancel()

    # What its owner calls.

    def attach(self, session: Session) -> None:
        session.gather = GATHER_URGENT
        self._session = session

    @property
    def alive(self) -> bool:
        return not self._over.is_set()

    @property
    def silence(self) -> float:
        """Seconds since the broker was last heard."""
        return monotonic() - self._there.heard

    @property
    def backlog(self) -> int:
        """Bytes that the system has not taken yet."""
        return self._there.backlog

    def send(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """With QoS 0; never waits."""
        try:
            self._there.send(topic, payload, retain=retain)
        except DeviceError as error:
            raise Unreachable(str(error)) from error

    def publish_soon(
        self, topic: str, payload: bytes, told: Told = NOTHING_MORE, *, retain: bool = False
    ) -> asyncio.Future[int]:
        """With QoS 1; the future gets the acknowledgement's code, or a LinkLost."""
        try:
            return self._there.publish_soon(topic, payload, told, retain=retain)
        except DeviceError as error:
            raise Unreachable(str(error)) from error

    async def publish(
        self, topic: str, payload: bytes, told: Told = NOTHING_MORE, *, retain: bool = False
    ) -> None:
        """With QoS 1; returns once the broker has it."""
        try:
            code = await self._there.publish(topic, payload, told, self._within, retain=retain)
        except DeviceError as error:
            raise Unreachable(str(error)) from error
        if faults.refused(code):
            said = faults.reason(code)
            raise Unreachable(f"{self._broker.endpoint}: it refuses a message on {topic}: {said}")

    async def subscribe(self, *filters: tuple[str, int], commands: bool = False) -> None:
        """Topic filters with their QoS; returns once the broker has granted all of them.

        `commands`: with MQTT 5, `Message.retained` is what the publisher said, also of what comes
        live, and nothing of our own comes back.
        """
        try:
            packet = self._there.subscribe(filters, commands=commands)
            waiter: asyncio.Future[Sequence[int]] = asyncio.get_running_loop().create_future()
            self._granted[packet] = waiter
            async with asyncio.timeout(self._within):
                codes = await self._answer(waiter)
        except DeviceError as error:
            raise Unreachable(str(error)) from error
        except TimeoutError:
            wanted = ", ".join(name for name, _ in filters)
            raise Unreachable(
                f"{self._broker.endpoint}: no answer to the subscription to {wanted}"
            ) from None
        for (name, _), code in zip(filters, codes, strict=False):
            if faults.refused(code):
                said = faults.reason(code)
                raise Unreachable(
                    f"{self._broker.endpoint}: it does not let us read {name}: {said}"
                )

    async def _answer(self, waiter: asyncio.Future[Sequence[int]]) -> Sequence[int]:
        await asyncio.wait([waiter])
        if waiter.cancelled():
            self._raise_lost()
        return waiter.result()

    def subscribe_soon(self, *filters: tuple[str, int]) -> None:
        """The same, without waiting; what is refused is not told."""
        try:
            self._there.subscribe(filters)
        except DeviceError as error:
            raise Unreachable(str(error)) from error

    def unsubscribe(self, *filters: str) -> None:
        try:
            self._there.unsubscribe(filters)
        except DeviceError as error:
            raise Unreachable(str(error)) from error

    async def drained(self, limit: int = 65_536) -> None:
        """Wait until at most `limit` bytes wait for the system to take them."""
        while self._there.backlog > limit:
            self.check()
            await asyncio.sleep(0.005)

    async def until_lost(self) -> NoReturn:
        """Raises Unreachable once the broker is gone."""
        await self._over.wait()
        self._raise_lost()

    def check(self) -> None:
        try:
            self._there.check()
        except DeviceError as error:
            raise Unreachable(str(error)) from error

    def drop(self) -> None:
        """Let go without a word: the broker then speaks the will."""
        self._there.drop()

    def _raise_lost(self) -> NoReturn:
        self.check()
        raise Unreachable(f"{self._broker.endpoint}: closed")

    @property
    def _there(self) -> Session:
        if self._session is None:
            raise Unreachable(f"{self._broker.endpoint}: not open")
        return self._session


@asynccontextmanager
async def connected(
    broker: Broker, on_message: OnMessage, will: Will | Callable[[], Will] | None = None
) -> AsyncIterator[Connection]:
    """Raises Unreachable when the broker is not reached, or refuses, within its timeout.

    A will that is a function is asked for right before CONNECT; its owner names the client.
    """
    if not broker.client_id:
        # The parts of a process that share a broker differ by their wills. One that comes back
        # has its old id: the broker ends the old session, and its will speaks first.
        own = client_id(f"{broker.endpoint} {will.topic if isinstance(will, Will) else ''}")
        broker = replace(broker, client_id=own, called=broker.endpoint)
    connection = Connection(broker, on_message)
    async with AsyncExitStack() as stack:
        try:
            session = await stack.enter_async_context(open_session(broker, connection, will))
        except DeviceError as error:
            raise Unreachable(str(error)) from error
        connection.attach(session)
        yield connection


async def stay_connected(
    name: str,
    serve: Callable[[], Awaitable[None]],
    *,
    longest: float = LONGEST_WAIT,
) -> NoReturn:
    """Call `serve` (which connects, and then works until the broker is lost) for ever.

    An outage is said once, at its beginning; tries are 0.1 s to `longest` seconds apart.
    """
    wait, said = FIRST_WAIT, False
    loop = asyncio.get_running_loop()
    while True:
        began, why = loop.time(), ""
        try:
            await _alone(serve, name)
        except* Unreachable as lost:
            why = str(_first(lost))
        if loop.time() - began > LONGEST_WAIT:
            wait, said = FIRST_WAIT, False
        if why:
            (log.debug if said else log.warning)("broker lost", part=name, why=why)
            said = True
        await asyncio.sleep(wait * random.uniform(0.8, 1.2))  # noqa: S311 - spreads load, hides nothing
        wait = min(2 * wait, longest)


async def _alone(serve: Callable[[], Awaitable[None]], name: str) -> None:
    """In a task of its own, so that a cancellation from outside is told from one within.

    Before Python 3.13 a task group that fails in the very moment swallows the one, and of a task
    of its own that failed the other stays behind (`Task.cancelling`).
    """
    task = asyncio.ensure_future(_awaited(serve))
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            log.debug("broker lost while stopping", part=name, why=str(error))
        raise
    task.result()


async def _awaited(serve: Callable[[], Awaitable[None]]) -> None:
    await serve()


def _first(group: BaseExceptionGroup[Unreachable]) -> BaseException:
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first
