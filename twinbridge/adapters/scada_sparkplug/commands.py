"""NCMD and DCMD: what hosts ask. What is not understood is ignored, counted and noted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from twinbridge.adapters.scada_sparkplug.device import ShownDevice
from twinbridge.adapters.scada_sparkplug.limits import REFUSAL, Allowance, Refusals, Waiting
from twinbridge.adapters.scada_sparkplug.metrics import COMMANDS
from twinbridge.adapters.scada_sparkplug.node import Node
from twinbridge.adapters.scada_sparkplug.own import REBIRTH
from twinbridge.adapters.scada_sparkplug.payload import Metric, decode
from twinbridge.adapters.scada_sparkplug.topics import Topics, Verb
from twinbridge.adapters.scada_sparkplug.values import unpack
from twinbridge.core.model import Value
from twinbridge.errors import TwinBridgeError
from twinbridge.mqtt.connection import Message
from twinbridge.ports import Actor, Twins

LONGEST: Final = 32_768
"""Bytes of a command: some hundred metrics."""
_AWAY: Final = "no device of that id is connected"
_SHOWN: Final = 200
"""Characters of a topic or name that a stranger gave, as the journal has them."""


class Refused(Exception):
    """A command that is not carried out; its text says why."""


class CommandDesk:
    """`allowed`: whether DCMD is taken at all. A rebirth may always be asked for."""

    def __init__(
        self,
        node: Node,
        topics: Topics,
        twins: Twins,
        actor: Actor,
        mono: Callable[[], float],
        *,
        allowed: bool,
    ) -> None:
        self._node = node
        self._topics = topics
        self._twins = twins
        self._actor = actor
        self._allowed = allowed
        self._allowance = Allowance(mono)
        self._waiting: Waiting[tuple[str, Message]] = Waiting()
        self._refusals = Refusals(twins, actor)

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._refusals.run(), name="sparkplug refusals")
            tasks.create_task(self._work(), name="sparkplug commands")

    def hear(self, message: Message) -> None:
        """Take note of what came on a command topic."""
        id_ = self._topics.commanded(message.topic)
        if id_ is None and message.topic != self._topics.of_node(Verb.NCMD):
            return
        if message.retained:
            if message.payload:  # without, it clears a retained message
                why = "a retained command is dropped: it would be given at every connection"
                self._refuse(message, why, "retained")
        elif len(message.payload) > LONGEST:
            self._refuse(message, f"it has more than {LONGEST} bytes")
        elif id_ is None:
            self._hear_node(message)
        elif self._node.device(id_) is None:
            self._refuse(message, _AWAY)
        elif not self._waiting.put(id_, (id_, message)):
            self._refuse(message, "too many commands wait", "dropped")

    def _hear_node(self, message: Message) -> None:
        try:
            asked = decode(message.payload).metrics
        except ValueError as error:
            self._refuse(message, str(error))
            return
        for metric in asked:
            if metric.name == REBIRTH and metric.value is True:
                COMMANDS.labels("rebirth").inc()
                self._node.ask_rebirth()
            elif not (metric.name == REBIRTH and metric.value is False):
                self._refuse(message, f"{_called(metric)}: the node has no such command")
        if not asked:
            self._refuse(message, "it has no metric")

    async def _work(self) -> None:
        while True:
            id_, message = await self._waiting.take()
            try:
                await self._carry_out(id_, message)
            except Refused as why:
                self._refuse(message, str(why))
            except TwinBridgeError:
                COMMANDS.labels("refused").inc()  # the agent has noted it
            else:
                COMMANDS.labels("taken").inc()
            await asyncio.sleep(0)  # garbage, too, lets others have their turn

    async def _carry_out(self, id_: str, message: Message) -> None:
        """All of it or nothing. Raises Refused, or what `Twins.desire` raises."""
        if not self._allowed:
            raise Refused("commands are refused here")
        device = self._node.device(id_)
        if device is None:
            raise Refused(_AWAY)
        patch = _patch(device, message.payload)
        name = device.spec.name
        if not self._allowance.spend(name):
            raise Refused(f"{name}: too many commands in a short time")
        try:
            await self._twins.desire(name, patch, self._actor)
        except TwinBridgeError:
            self._allowance.spend(name, REFUSAL)
            raise

    def _refuse(self, message: Message, why: str, outcome: str = "refused") -> None:
        COMMANDS.labels(outcome).inc()
        self._refusals.note(message.topic[:_SHOWN], why)


def _patch(device: ShownDevice, content: bytes) -> dict[str, Value]:
    """The values by property. Raises Refused."""
    try:
        asked = decode(content).metrics
    except ValueError as error:
        raise Refused(str(error)) from None
    if not asked:
        raise Refused("it has no metric")
    patch: dict[str, Value] = {}
    for metric in asked:
        name = _named(device, metric)
        try:
            patch[name] = unpack(device.metrics[name].type, metric)
        except ValueError as error:
            raise Refused(f"{name}: {error}") from None
    return patch


def _named(device: ShownDevice, metric: Metric) -> str:
    """By alias or by name; by both only if they agree. Raises Refused."""
    name = metric.name if metric.alias is None else device.by_alias.get(metric.alias)
    if name is None or name not in device.metrics or metric.name not in (None, name):
        raise Refused(f"{_called(metric)}: the device has no such metric")
    return name


def _called(metric: Metric) -> str:
    if metric.name is not None:
        return repr(metric.name[:_SHOWN])
    return "a metric without name" if metric.alias is None else f"alias {metric.alias}"
