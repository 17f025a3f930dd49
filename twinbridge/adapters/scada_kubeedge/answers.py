"""Answers what applications and mappers ask, one request after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NoReturn

from twinbridge.adapters.scada_kubeedge import messages, requests
from twinbridge.adapters.scada_kubeedge.allowance import Allowance
from twinbridge.adapters.scada_kubeedge.inbox import Inbox, Request
from twinbridge.adapters.scada_kubeedge.journal import Journal
from twinbridge.adapters.scada_kubeedge.messages import Event
from twinbridge.adapters.scada_kubeedge.metrics import REQUESTS
from twinbridge.adapters.scada_kubeedge.outlet import Outlet
from twinbridge.adapters.scada_kubeedge.presenter import Presenter
from twinbridge.adapters.scada_kubeedge.requests import Refused
from twinbridge.adapters.scada_kubeedge.shown import Desired, twins_of
from twinbridge.adapters.scada_kubeedge.topics import MALFORMED_UPDATES, Topics, Verb
from twinbridge.core.model import DeviceSpec
from twinbridge.errors import Conflict, InvalidDesired, TwinBridgeError, UnknownName
from twinbridge.ports import Actor, Twins

UPDATES_RATE = 20
UPDATES_BURST = 100
_OK = 200
_SAID_AS = {"ok": "online"}
"""A mapper's words for a state that have another here."""


class Answers:
    def __init__(
        self,
        twins: Twins,
        topics: Topics,
        actor: Actor,
        inbox: Inbox,
        out: Outlet,
        presenter: Presenter,
        journal: Journal,
        *,
        take_updates: bool,
    ) -> None:
        self._twins = twins
        self._topics = topics
        self._actor = actor
        self._inbox = inbox
        self._out = out
        self._presenter = presenter
        self._journal = journal
        self._take_updates = take_updates
        self._updates = Allowance(UPDATES_RATE, UPDATES_BURST)

    async def run(self) -> NoReturn:
        while True:
            await self._answer(await self._inbox.next())
            await asyncio.sleep(0)

    async def _answer(self, request: Request) -> None:
        topic = self._topics.result(request.asked)
        try:
            match request.asked.verb:
                case Verb.TWIN_UPDATE:
                    await self._update(request, topic)
                case Verb.TWIN_GET:
                    self._out.send(topic, self._twin(request))
                case Verb.STATE_UPDATE:
                    self._out.send(topic, self._state(request))
                case Verb.MEMBERSHIP_GET:
                    self._out.send(topic, await self._members(request, with_twins=False))
                case Verb.MEMBERSHIP_DETAIL:
                    self._out.send(topic, await self._members(request, with_twins=True))
        except Refused as refused:
            self._refuse(request, topic, refused)
        else:
            REQUESTS.labels(str(_OK)).inc()

    def _refuse(self, request: Request, topic: str, refused: Refused) -> None:
        REQUESTS.labels(str(refused.code)).inc()
        self._journal.note(f"{request.asked.verb} {refused.code}", request.topic, refused.reason)
        said = messages.refusal(self._event(refused.event_id), refused.code, refused.reason)
        self._out.send(topic, said)
        if request.asked.verb is Verb.TWIN_UPDATE and refused.malformed:
            self._out.send(MALFORMED_UPDATES, said)

    # A device.

    async def _update(self, request: Request, topic: str) -> None:
        event_id, asked = requests.twin_update(request.payload)
        spec = self._device(request, event_id)
        if not self._take_updates:
            why = "expected values are not taken here: the face's commands are refused"
            raise Refused(requests.BAD_REQUEST, why, event_id)
        patch = requests.patch(spec, asked, event_id)
        if not self._updates.take():
            why = f"more than {UPDATES_RATE} updates a second: this one is not taken"
            raise Refused(requests.CONFLICT, why, event_id)
        if patch:
            await self._desire(spec.name, patch, event_id)
        desired = self._desired(spec.name)
        points = {point.spec.name: point.spec for point in spec.points}
        changed = {
            name: None if value is None else messages.twin(points[name], None, desired(name))
            for name, value in patch.items()
        }
        self._out.send(topic, messages.twin_result(self._event(event_id), changed))
        self._presenter.tell_now(spec.name, patch, event_id)

    async def _desire(self, device: str, patch: Mapping[str, object], event_id: str) -> None:
        try:
            await self._twins.desire(device, patch, self._actor)
        except InvalidDesired as error:
            why = f"{error}; allowed: {error.allowed}"
            raise Refused(requests.BAD_REQUEST, why, event_id) from error
        except UnknownName as error:
            raise Refused(requests.NOT_FOUND, str(error), event_id) from error
        except Conflict as error:
            raise Refused(requests.CONFLICT, str(error), event_id) from error
        except TwinBridgeError as error:
            raise Refused(requests.INTERNAL_ERROR, str(error), event_id) from error

    def _twin(self, request: Request) -> bytes:
        event_id = requests.question(request.payload)
        spec = self._device(request, event_id)
        twins = twins_of(self._twins.twin(spec.name), self._desired(spec.name))
        return messages.twin_result(self._event(event_id), twins)

    def _state(self, request: Request) -> bytes:
        """A mapper's word on a state is no news here: it is told what is known."""
        event_id, said = requests.state_update(request.payload)
        view = self._twins.twin(self._device(request, event_id).name)
        known = messages.state(view)
        if _SAID_AS.get(said, said) != known:
            why = f"the device is {known}, as TwinBridge itself sees it"
            raise Refused(requests.CONFLICT, why, event_id)
        return messages.state_result(self._event(event_id), view)

    def _device(self, request: Request, event_id: str) -> DeviceSpec:
        spec = self._topics.find(self._twins.devices(), request.asked.id)
        if spec is None:
            why = f"no device has the id {request.asked.id} on {self._twins.node}"
            raise Refused(requests.NOT_FOUND, why, event_id)
        return spec

    # The node.

    async def _members(self, request: Request, *, with_twins: bool) -> bytes:
        """The larger the plant, the longer until the node may be asked again."""
        event_id = requests.question(request.payload)
        devices = tuple(self._twins.devices())
        self._inbox.charge_node(len(devices) // 20)
        content = []
        for name in devices:
            content.append(self._member(name, with_twins=with_twins))
            await asyncio.sleep(0)
        return messages.members(self._event(event_id), filter(None, content))

    def _member(self, name: str, *, with_twins: bool) -> bytes:
        """Empty when the device has gone meanwhile."""
        spec = self._twins.devices().get(name)
        if spec is None:
            return b""
        view = self._twins.twin(name)
        twins = twins_of(view, self._desired(name)) if with_twins else None
        return messages.encode(messages.device(self._topics.id(spec), view, twins))

    def _desired(self, device: str) -> Desired:
        return lambda name: self._twins.desired(device, name)

    def _event(self, event_id: str) -> Event:
        return Event(self._twins.now(), event_id)
