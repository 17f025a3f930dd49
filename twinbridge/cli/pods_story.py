"""What the demo tells besides, when its edge is processes: each is killed, and nothing is lost.

The driver that stopped the motor dies, and the trip stands. The broker dies, and values come
again. The agent dies, the motor overheats and is stopped all the same, and the agent knows of it
once it is back.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
from typing_extensions import override

from twinbridge.cli.story import MOTOR, Step, Story, StoryError

ONCE = Counter({"trip": 1, "trip.acknowledged": 1, "trip.verified": 1})
"""What the audit holds of a trip."""


class Processes(Protocol):
    """The processes of the edge, to somebody who kills them."""

    async def kill(self, name: str) -> None: ...

    async def start(self, name: str) -> None: ...

    def audit(self, subject: str) -> Counter[str]:
        """How often the agent has recorded what of an alarm."""


@dataclass(slots=True)
class PodsStory(Story):
    """Two are named for their protocol: `modbus`, of the motor, and the `broker` between all."""

    processes: Processes | None = None

    @override
    def plot(self) -> list[Step]:
        steps = Story.plot(self)
        after = steps.index(self.refuse_reset) + 1
        steps.insert(after, self.driver_dies)
        after = steps.index(self.restart) + 1
        steps[after:after] = [self.broker_dies, self.agent_dies, self.agent_knows, self.go_on]
        return steps

    async def driver_dies(self) -> None:
        """The latch is on the driver's disk."""
        before = await self._overheated()
        await self._processes.kill("modbus")
        await self._until(lambda: self._connected(False), "the motor shown as lost")
        await self._processes.start("modbus")
        await self._until(lambda: self._connected(True), "the motor connected again")
        after = await self._overheated()
        if (after["id"], after["trip"]["state"]) != (before["id"], before["trip"]["state"]):
            raise StoryError(f"the trip before the driver was killed: {before}; after: {after}")
        answer = await self._ask("PATCH", f"/devices/{MOTOR}/desired", json={"run": True})
        self._expect(answer, 409, "a restart while the trip stands")
        self.say("the Modbus driver is killed and started: the trip stands, the motor too")

    async def broker_dies(self) -> None:
        await self._processes.kill("broker")
        await self._until(lambda: self._connected(False), "the motor shown as lost")
        if not self.plant.motor_runs():
            raise StoryError("the motor stopped because the broker is gone")
        lost = await self._motor_told()
        await self._processes.start("broker")

        async def told_again() -> bool:
            return await self._connected(True) and await self._motor_told() > lost

        await self._until(told_again, "values after the broker's return")
        await self._set(MOTOR, "run", wanted=True)
        self.say("the broker is killed and started: the motor ran on, values come, commands go")

    async def agent_dies(self) -> None:
        """Nobody needs an agent to stop a motor."""
        await self._processes.kill("agent")
        self.plant.overheat(MOTOR)
        self.say("the agent is killed, and the motor overheats")
        await self._until(lambda: not self.plant.motor_runs(), "the motor stands still")
        self.say("it is stopped all the same")

    async def agent_knows(self) -> None:
        await self._processes.start("agent")
        await self._until(self._answers, "the agent answers")
        await self._tripped(MOTOR, "agent_gone")
        alarm = await self._overheated()

        def recorded() -> bool:
            return self._processes.audit(alarm["id"]).keys() >= ONCE.keys()

        await self._until(recorded, "the audit of the trip")
        await self._until(lambda: self._connected(True), "the motor connected")
        found = self._processes.audit(alarm["id"])
        if found != ONCE:
            raise StoryError(f"the audit of one trip: {dict(found)}; expected {dict(ONCE)}")
        self.say("the agent is started: it shows the trip, and has its audit exactly once")

    async def go_on(self) -> None:
        await self.release()
        await self.restart()

    @property
    def _processes(self) -> Processes:
        if self.processes is None:
            raise TypeError("a story of pods is told of processes")
        return self.processes

    async def _answers(self) -> bool:
        try:
            return (await self.api.get("/devices")).is_success
        except httpx.TransportError:
            return False

    async def _connected(self, wanted: bool) -> bool:  # noqa: FBT001 - reads as a sentence
        return bool((await self._get(f"/devices/{MOTOR}"))["connected"]) is wanted

    async def _motor_told(self) -> str:
        """When the motor's temperature was read, RFC 3339."""
        twin = await self._get(f"/devices/{MOTOR}")
        return str(twin["properties"]["temperature"]["reported"]["timestamp"])

    async def _overheated(self) -> dict[str, Any]:
        """The one trip for it; on a busy machine there may be others, for values that came late."""
        found = [alarm for alarm in await self._trips() if alarm["rule"] == "motor-overheat"]
        if len(found) != 1:
            raise StoryError(f"of motor-overheat there is to be one trip: {found}")
        return found[0]
