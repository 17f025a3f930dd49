"""What the demo tells of the hub: it starts and stops a motor, is unplugged, and misses nothing.

While the hub is away the motor overheats and is stopped, and the edge is killed and starts again in
the dark. Plugged in again, the hub shows the trip, and was told of it once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import httpx
from typing_extensions import override

from twinbridge.cli.story import MOTOR, Step, Story, StoryError

API = "devices.twinbridge.io/v1alpha1"
RESOURCES = f"/apis/{API}/namespaces/default"
EVENTS = "/api/v1/namespaces/default/events"
_MERGE = {"Content-Type": "application/merge-patch+json"}


class Site(Protocol):
    """The edge's process and its cable, to somebody who kills the one and pulls the other."""

    async def kill_edge(self) -> None: ...

    async def start_edge(self) -> None: ...

    async def unplug(self) -> None: ...

    async def plug(self) -> None: ...


@dataclass(slots=True)
class HubStory(Story):
    hub: httpx.AsyncClient | None = None
    site: Site | None = None

    @override
    def plot(self) -> list[Step]:
        return [
            self.connect,
            self.hub_starts_motor,
            self.hub_stops_motor,
            self.unplugged,
            self.in_the_dark,
            self.plugged,
            self.release,
            self.hub_restarts_motor,
        ]

    async def hub_starts_motor(self) -> None:
        await self._desired(True)
        await self._until(self.plant.motor_runs, "the motor runs")
        await self._until(lambda: self._state("applied"), "applied, at the hub")
        self.say("desired at the hub: the motor runs, and the hub shows that it was applied")

    async def hub_stops_motor(self) -> None:
        await self._desired(False)
        await self._until(lambda: not self.plant.motor_runs(), "the motor stands still")
        await self._desired(True)
        await self._until(self.plant.motor_runs, "the motor runs again")
        await self._until(lambda: self._state("applied"), "applied, at the hub")
        self.say("stopped at the hub, and started again")

    async def unplugged(self) -> None:
        await self._here.unplug()
        self.plant.overheat(MOTOR)
        self.say("the hub is unplugged, and the motor overheats")
        await self._tripped(MOTOR, "unplugged")
        await self._until(lambda: not self.plant.motor_runs(), "the motor stands still")
        if await self._events():
            raise StoryError("the hub knows of a trip while it is unplugged")

    async def in_the_dark(self) -> None:
        """The edge starts with what it knows."""
        await self._here.kill_edge()
        await self._here.start_edge()
        await self._until(self._serves, "the edge serves the motor, without the hub")
        if not [alarm for alarm in await self._trips() if alarm["device"] == MOTOR]:
            raise StoryError("the trip did not survive the edge's restart")
        if self.plant.motor_runs():
            raise StoryError("the motor started because the edge did")
        self.say("the edge is killed and starts in the dark: the trip stands, the motor too")

    async def plugged(self) -> None:
        await self._here.plug()
        await self._until(lambda: self._condition("Tripped"), "the trip, at the hub")
        await self._until(self._told, "the trip's Event, at the hub")
        told = await self._events()
        if len(told) != len(set(told)) or len(told) != len(await self._trips_of_motor()):
            raise StoryError(f"Events of the trip at the hub: {told}")
        self.say("the hub is plugged in: it shows the trip, and was told of it once")

    async def hub_restarts_motor(self) -> None:
        if await self._state("applied"):
            raise StoryError("what was desired before the trip is still in force")
        # A start that may have been given before the reset would be blocked.
        await self._until(self._released_at_hub, "the reset, at the hub")
        now = datetime.now(UTC).isoformat()
        await self._wish([{"name": "run", "value": True, "givenAt": now}])
        await self._until(self.plant.motor_runs, "the motor runs again")
        self.say("desired anew at the hub: the motor runs")

    # The hub.

    @property
    def _here(self) -> Site:
        if self.site is None:
            raise TypeError("a story of the hub is told of a site")
        return self.site

    async def _asked(self, method: str, path: str, **more: Any) -> Any:  # noqa: ANN401 - JSON
        if self.hub is None:
            raise TypeError("a story of the hub is told to a hub")
        try:
            answer = await self.hub.request(method, path, **more)
        except httpx.TransportError as error:
            raise StoryError(f"{method} {path}: no answer of the hub: {error!r}") from error
        if answer.is_error:
            raise StoryError(f"{method} {path}: {answer.status_code}: {answer.text}")
        return answer.json()

    async def _desired(self, run: bool) -> None:  # noqa: FBT001 - the value that is desired
        await self._wish([{"name": "run", "value": run}])

    async def _wish(self, wishes: list[dict[str, object]]) -> None:
        patch = {"spec": {"desired": wishes}}
        await self._asked("PATCH", f"{RESOURCES}/devices/{MOTOR}", json=patch, headers=_MERGE)

    async def _status(self) -> dict[str, Any]:
        return dict((await self._asked("GET", f"{RESOURCES}/devices/{MOTOR}")).get("status") or {})

    async def _condition(self, kind: str) -> bool:
        conditions = (await self._status()).get("conditions", ())
        return any(one["type"] == kind and one["status"] == "True" for one in conditions)

    async def _released_at_hub(self) -> bool:
        return not await self._condition("Tripped")

    async def _state(self, state: str) -> bool:
        """Of what is desired of the motor's `run`."""
        twins = (await self._status()).get("twins", ())
        found: dict[str, Any] = next((one for one in twins if one["name"] == "run"), {})
        return bool(found.get("desired", {}).get("state") == state)

    async def _told(self) -> bool:
        return bool(await self._events())

    async def _events(self) -> list[str]:
        """The trips of the motor that the hub was told of."""
        found = (await self._asked("GET", EVENTS))["items"]
        return [
            one["message"]
            for one in found
            if one["reason"] == "Tripped" and one["involvedObject"]["name"] == MOTOR
        ]

    async def _trips_of_motor(self) -> list[dict[str, Any]]:
        return [alarm for alarm in await self._trips() if alarm["device"] == MOTOR]

    async def _serves(self) -> bool:
        try:
            answer = await self.api.get(f"/devices/{MOTOR}")
        except httpx.TransportError:
            return False
        return answer.is_success and bool(answer.json()["connected"])
