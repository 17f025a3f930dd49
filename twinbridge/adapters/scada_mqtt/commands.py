"""What clients ask by topic: heard at once, carried out by a few workers, answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple, TypeVar

from twinbridge.adapters.scada_mqtt import requests
from twinbridge.adapters.scada_mqtt.limits import (
    BURST,
    PER_SECOND,
    REFUSAL,
    Allowance,
    RefusalDigest,
)
from twinbridge.adapters.scada_mqtt.metrics import COMMANDS
from twinbridge.adapters.scada_mqtt.outlet import Outlet
from twinbridge.adapters.scada_mqtt.payload import encode
from twinbridge.adapters.scada_mqtt.requests import Refused
from twinbridge.adapters.scada_mqtt.topics import Layout, Target, Topics, Verb, clean
from twinbridge.adapters.scada_mqtt.waiting import FairQueue
from twinbridge.api.wire import Json
from twinbridge.errors import TwinBridgeError, Unreachable
from twinbridge.mqtt.connection import Message
from twinbridge.mqtt.session import Told
from twinbridge.ports import Actor, Twins

WORKERS = 4
ORIGIN = "mqtt"
_LONGEST_TOPIC = 65_535
_ALLOWED = f"{BURST:.0f} at once, then {PER_SECOND:.0f} a second for each device"

Answer = TypeVar("Answer")


class _Command(NamedTuple):
    target: Target
    message: Message
    heard: float
    """s of the monotonic clock."""

    @property
    def key(self) -> str:
        """Commands with one key keep their order. No alarm and no stranger is a device."""
        return f"device {self.target.device}" if self.target.device else self.target.verb


class CommandDesk:
    """Lives as long as the face; `open` gives it the way for answers of one connection."""

    def __init__(
        self, topics: Topics, twins: Twins, address: str, mono: Callable[[], float]
    ) -> None:
        self._topics = topics
        self._twins = twins
        self._address = address
        self._mono = mono
        self._waiting: FairQueue[_Command] = FairQueue()
        self._allowance = Allowance(mono)
        self._digest = RefusalDigest(twins, self._actor(ORIGIN))
        self._outlet: Outlet | None = None
        self._layout: Callable[[], Layout] = Layout

    def open(self, outlet: Outlet, layout: Callable[[], Layout]) -> None:
        self._outlet, self._layout = outlet, layout

    def close(self) -> None:
        """What is at work is finished, but can no longer be answered."""
        self._outlet = None

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._digest.run(), name="mqtt face journal")
            for number in range(WORKERS):
                tasks.create_task(self._work(), name=f"mqtt face commands {number}")

    def hear(self, message: Message) -> None:
        """Take note of what came on a command topic."""
        target = self._topics.target(message.topic, self._layout())
        if target is None or (message.retained and not message.payload):
            return  # the latter clears a retained message
        command = _Command(target, message, self._mono())
        if message.retained:
            self._refuse(
                command,
                Refused(
                    requests.UNPROCESSABLE,
                    "a retained command is dropped: it would be given again at every connection",
                    allowed="the same with retain=0",
                ),
                "retained",
            )
        elif not self._waiting.put(command.key, command):
            self._refuse(
                command,
                Refused(requests.TOO_MANY, "too many commands wait; this one is dropped"),
                "dropped",
            )

    async def _work(self) -> None:
        while True:
            key, command = await self._waiting.take()
            try:
                await self._serve(command)
            finally:
                self._waiting.done(key)

    async def _serve(self, command: _Command) -> None:
        try:
            self._check(command)
            said = await self._carry_out(command)
        except Refused as refusal:
            self._refuse(command, refusal)
        except TwinBridgeError as error:
            self._refuse(command, error)
        else:
            COMMANDS.labels("taken").inc()
            self._answer(command, said)

    def _check(self, command: _Command) -> None:
        requests.check_size(command.message.payload)
        expiry = command.message.told.expiry
        if expiry is not None and self._mono() - command.heard >= expiry:
            raise Refused(requests.EXPIRED, "the command expired before it could be carried out")

    async def _carry_out(self, command: _Command) -> Json:
        target, message = command.target, command.message
        if target.verb not in (Verb.DESIRE, Verb.SET):
            return await self._carry_out_alarm(command)
        spec = self._twins.devices().get(target.device)
        if spec is None:
            raise Refused(requests.NOT_FOUND, f"{message.topic}: no such device")
        if target.verb is Verb.DESIRE:
            patch = requests.patch(spec, message.payload)
        else:
            place = self._layout().places.get(target.device)
            name = place.settable.get(target.name) if place is not None else None
            if name is None:
                raise Refused(requests.NOT_FOUND, f"{message.topic}: no property that can be set")
            patch = requests.scalar(spec, name, message.payload)
        actor = self._actor(ORIGIN)
        version = await self._asked(command, partial(self._twins.desire, spec.name, patch, actor))
        return {"version": version}

    async def _carry_out_alarm(self, command: _Command) -> Json:
        target, content = command.target, command.message.payload
        found = (a.id for a in self._twins.alarms() if target.name in (a.id, clean(a.id)))
        alarm = next(found, None)
        if alarm is None:
            raise Refused(requests.NOT_FOUND, f"no alarm that stands has the id {target.name!r}")
        if target.verb is Verb.ACKNOWLEDGE:
            ack = requests.body(requests.Ack, content)
            ask = partial(self._twins.acknowledge, alarm, self._actor(ack.who), ack.comment)
        elif target.verb is Verb.SHELVE:
            shelve = requests.body(requests.Shelve, content)
            actor = self._actor(shelve.who)
            ask = partial(self._twins.shelve, alarm, shelve.length, actor, shelve.reason)
        else:
            reset = requests.body(requests.Reset, content)
            ask = partial(self._twins.reset, alarm, self._actor(reset.who), reset.reason)
        await self._asked(command, ask)
        return {"done": target.verb.value}

    async def _asked(self, command: _Command, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """Ask the agent; what it takes or refuses goes to disk, so there is a limit to it."""
        if not self._allowance.spend(command.key):
            raise Refused(requests.TOO_MANY, "too many commands in a short time", allowed=_ALLOWED)
        try:
            return await ask()
        except TwinBridgeError:
            self._allowance.spend(command.key, REFUSAL)
            raise

    def _refuse(
        self, command: _Command, why: Refused | TwinBridgeError, outcome: str = "refused"
    ) -> None:
        COMMANDS.labels(outcome).inc()
        said = why.problem if isinstance(why, Refused) else requests.problem(why)
        self._digest.note(command.message.topic, str(said["status"]), str(why))
        self._answer(command, said)

    def _answer(self, command: _Command, said: Json) -> None:
        if self._outlet is None:
            return
        told = command.message.told
        asked_for = told.response_topic
        with suppress(Unreachable):  # who asked has lost the broker's news as well
            if asked_for and self._may_answer_on(asked_for):
                answer = Told(correlation=told.correlation)
                self._outlet.answer(asked_for, encode(said), answer)
                return
            if told.correlation:
                said = {"id": told.correlation.decode("utf-8", "replace"), **said}
            self._outlet.answer(command.target.answer, encode(said), None)

    def _may_answer_on(self, topic: str) -> bool:
        """A client names the topic: not one that ends our session, nor one of our own."""
        own = topic.startswith(f"{self._topics.prefix}/") and not topic.endswith("/result")
        sound = not topic.startswith("$") and not set(topic) & set("+#\0")
        return sound and not own and len(topic.encode()) <= _LONGEST_TOPIC

    def _actor(self, who: str) -> Actor:
        return Actor(who, ORIGIN, self._address)
