"""Commands on their way: published, acknowledged by the broker, answered by the device."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Callable
from itertools import count
from time import time_ns

from twinbridge.core.model import MILLISECOND, SECOND, Point, Value
from twinbridge.errors import LinkLost, NoResponse, WriteRejected
from twinbridge.mqtt import faults
from twinbridge.mqtt.session import Session, Told
from twinbridge_mqtt.address import bound, resolve
from twinbridge_mqtt.commands import Answer, parse_answer, payload_of
from twinbridge_mqtt.config import CommandOptions, MqttConnection, Response
from twinbridge_mqtt.message import LARGEST
from twinbridge_mqtt.refusal import BadPayload
from twinbridge_mqtt.routes import Routes


class Writer:
    """Serves one link; one command at a time."""

    def __init__(
        self, connection: MqttConnection, routes: Routes, subscribe: Callable[[], None]
    ) -> None:
        self._endpoint = connection.endpoint
        self._timeout = connection.timeout / SECOND
        self._routes = routes
        self._subscribe = subscribe
        self._session: Session | None = None
        self._stem = uuid.uuid4().hex[:12]
        self._numbers = count(1)
        self._answering: dict[str, tuple[Response, asyncio.Future[Answer]]] = {}
        """By command id."""
        self._granted = asyncio.Event()

    def attach(self, session: Session) -> None:
        self._session = session

    async def write(self, point: Point, value: Value) -> None:
        """Raises WriteRejected, NoResponse or LinkLost; publishes once."""
        where = bound(point)
        command = where.command
        if command is None:
            raise WriteRejected(f"{point.ref} has no command")
        command_id = f"{self._stem}-{next(self._numbers)}"
        expires = (time_ns() + command.expiry) // MILLISECOND
        try:
            payload = payload_of(
                point.spec, where.model, value, command_id=command_id, expires=expires
            )
        except ValueError as error:
            raise WriteRejected(f"{point.ref}: {error}") from error
        if len(payload) > LARGEST:
            raise WriteRejected(f"{point.ref}: a command has at most {LARGEST} bytes")
        told = Told(math.ceil(command.expiry / SECOND))
        if command.response is None:
            await self._publish(point, command, payload, told)
        else:
            await self._ask(point, command, payload, command_id)

    def answered(self, topic: str, payload: bytes, correlation: str) -> None:
        """A message on a topic where devices answer; one that answers nothing here is passed."""
        del topic
        for command_id, (response, waiter) in self._answering.items():
            try:
                answer = parse_answer(response, payload, correlation)
            except BadPayload:
                continue
            if answer.id == command_id and not waiter.done():
                waiter.set_result(answer)

    def granted(self) -> None:
        """The broker has answered a subscription."""
        self._granted.set()

    async def _ask(
        self, point: Point, command: CommandOptions, payload: bytes, command_id: str
    ) -> None:
        response = command.response
        if response is None:
            raise ValueError("the command has no response")
        topic = resolve(response.topic, point)
        waiter: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._answering[command_id] = response, waiter
        try:
            async with asyncio.timeout(self._timeout):
                await self._hear(topic)
                told = Told(math.ceil(command.expiry / SECOND), topic, command_id.encode())
                await self._publish(point, command, payload, told)
                answer = await waiter
        except TimeoutError as error:
            raise NoResponse(
                f"{point.ref.device} did not answer the command on {topic} in {self._timeout:g} s"
            ) from error
        finally:
            del self._answering[command_id]
        if not answer.done:
            raise WriteRejected(f"{point.ref.device} refuses: {answer.said}")

    async def _hear(self, topic: str) -> None:
        """Subscribe to where the device answers; it stays so."""
        route = self._routes.use(topic, 1)
        route.answers = True
        while not route.granted:
            if route.refused:
                raise NoResponse(f"{self._endpoint}: {route.refused}")
            self._granted.clear()
            self._subscribe()
            await self._granted.wait()

    async def _publish(
        self, point: Point, command: CommandOptions, payload: bytes, told: Told
    ) -> None:
        if self._session is None:
            raise LinkLost(f"{self._endpoint}: not open")
        topic = resolve(command.topic, point)
        code = await self._session.publish(topic, payload, told, self._timeout)
        if code == faults.NOBODY_LISTENS:
            raise NoResponse(f"{point.ref.device} does not listen on {topic}: nobody does")
        if faults.refused(code):
            raise WriteRejected(f"the broker refuses the command on {topic}: {faults.reason(code)}")
