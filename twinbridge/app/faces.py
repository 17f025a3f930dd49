"""The twins as SCADA faces see them: the port `Twins`, over the agent and its service."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress

from twinbridge.api.wire import Json
from twinbridge.app.agent import Agent
from twinbridge.app.service import TwinService
from twinbridge.core.alarm import Alarm
from twinbridge.core.messages import Audit
from twinbridge.core.model import DeviceSpec
from twinbridge.errors import StoreUnavailable, UnknownName
from twinbridge.ports import Actor, Change, HistoryRow, TwinView


class AgentTwins:
    """Fills `twinbridge.ports.Twins`."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._service = TwinService(agent)

    @property
    def node(self) -> str:
        return self._agent.node

    def now(self) -> int:
        return self._agent.clock.wall()

    def devices(self) -> Mapping[str, DeviceSpec]:
        return self._agent.devices

    def twin(self, device: str) -> TwinView:
        spec = self._agent.device(device)
        try:
            twin = self._agent.twin(device)
        except KeyError:  # new definitions are just being taken up
            raise UnknownName(f"{device!r} has no twin yet") from None
        return TwinView(spec, twin.reported, twin.connected, twin.last_contact, twin.message)

    def desired(self, device: str, name: str) -> Json | None:
        return self._agent.desired.view(device, name)

    def alarms(self) -> Sequence[Alarm]:
        return self._agent.alarms.listed()

    async def follow(self, heartbeat: float = 15.0) -> AsyncGenerator[Sequence[Change], None]:
        async for batch in self._agent.events.follow(None, heartbeat):
            yield [event.change for event in batch]

    async def desire(self, device: str, patch: Mapping[str, object], actor: Actor) -> int:
        version, _ = await self._service.desire(device, patch, actor)
        return version

    async def acknowledge(self, alarm: str, actor: Actor, comment: str) -> None:
        await self._service.acknowledge(alarm, _who(actor), comment)

    async def shelve(self, alarm: str, length: str, actor: Actor, reason: str) -> None:
        await self._service.shelve(alarm, length, _who(actor), reason)

    async def reset(self, alarm: str, actor: Actor, reason: str) -> None:
        await self._service.reset(alarm, _who(actor), reason)

    async def recorded(
        self, device: str, name: str, start: int, end: int, limit: int = 10_000
    ) -> Sequence[HistoryRow]:
        return await self._agent.store.history(device, name, start, end, 0, limit)

    async def audit(
        self, kind: str, subject: str, actor: Actor, detail: Mapping[str, object]
    ) -> None:
        clock = self._agent.clock
        said = {"who": actor.name, "from": actor.address, **detail}
        with suppress(StoreUnavailable):
            await self._agent.store.append_audit(
                Audit(kind, subject, actor.origin, said, clock.wall(), clock.mono())
            )


def _who(actor: Actor) -> str:
    """The journal tells which way somebody came: a name that MQTT gives is only a claim."""
    return actor.name if actor.name == actor.origin else f"{actor.name} by {actor.origin}"
