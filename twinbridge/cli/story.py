"""The demo's story: a motor overheats, is stopped, refuses to restart, and is released.

Every step is done over the public REST API and judged by what the simulated machine really does.
A step that does not happen raises StoryError.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

from twinbridge.errors import TwinBridgeError

MOTOR = "motor-1"
STEP_TIMEOUT = 40.0
"""Seconds that one step may take; the motor needs some to heat up and to cool down."""


class StoryError(TwinBridgeError):
    """A step of the story did not happen."""


class Plant(Protocol):
    """The simulated machine, as somebody standing beside it sees and abuses it."""

    def overheat(self) -> None: ...

    def recover(self) -> None: ...

    def running(self) -> bool: ...


@dataclass(slots=True)
class Story:
    """`say` is called with each step as it has happened."""

    api: httpx.AsyncClient
    plant: Plant
    say: Callable[[str], None]
    pace: float = 0.0
    """Seconds between steps, for those who watch."""
    figures: dict[str, Any] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)

    async def tell(self) -> None:
        for step in (
            self.connect,
            self.start,
            self.overheat,
            self.refuse_restart,
            self.refuse_reset,
            self.release,
            self.restart,
        ):
            await step()
            self.steps.append(step.__name__)
            await asyncio.sleep(self.pace)

    async def connect(self) -> None:
        """Every device answers and has good values."""

        async def all_good() -> bool:
            devices = (await self._get("/devices"))["items"]
            values = [p["reported"] for d in devices for p in d["properties"].values()]
            good = sum(v is not None and v["quality"] == "good" for v in values)
            self.figures["devices"], self.figures["good_values"] = len(devices), good
            return bool(devices) and all(d["connected"] for d in devices) and good > 0

        await self._until(all_good, "all devices connected")
        self.say(f"{self.figures['devices']} devices answer, {self.figures['good_values']} values")

    async def start(self) -> None:
        await self._set_run(wanted=True)
        await self._until(self._running, "the motor runs")
        self.say("run=true desired, written, read back: the motor runs")

    async def overheat(self) -> None:
        """The motor heats up; a rule stops it next to the machine."""
        self.plant.overheat()
        self.say("the motor overheats")
        await self._until(self._trip_verified, "a trip, verified")
        await self._until(self._stands_still, "the simulated motor stands still")
        first = min((a["trip"] for a in await self._trips()), key=lambda t: t["detectToAckMs"])
        self.figures["detect_to_ack_ms"] = first["detectToAckMs"]
        self.figures["detect_to_verified_ms"] = first["detectToVerifiedMs"]
        self.say(
            f"tripped: detect → acknowledged {first['detectToAckMs']:.1f} ms,"
            f" → seen stopped {first['detectToVerifiedMs']:.1f} ms"
        )

    async def refuse_restart(self) -> None:
        answer = await self.api.patch(f"/devices/{MOTOR}/desired", json={"run": True})
        self._expect(answer, 409, "a restart while the trip stands")
        self.say(f"restart refused: {answer.json().get('detail', '')}")

    async def refuse_reset(self) -> None:
        refused = [a for a in await self._reset("trying my luck while it is hot") if a.is_error]
        if not refused:
            raise StoryError("a trip was reset while its condition held")
        self._expect(refused[0], 409, "a reset while the condition holds")
        self.say(f"reset refused: {refused[0].json().get('detail', '')}")

    async def release(self) -> None:
        """The cause is removed, the motor cools down, a person resets: and nothing starts."""
        self.plant.recover()
        self.say("the cause is removed; waiting for the motor to cool down")

        async def released() -> bool:
            await self._reset("cause removed, bearing checked")
            return not await self._trips()

        await self._until(released, "the reset once the condition is clear")
        if await self._running():
            raise StoryError("the motor started by itself after the reset")
        self.say("reset by a person; the motor still stands: a start is a new command")

    async def restart(self) -> None:
        await self._set_run(wanted=True)
        await self._until(self._running, "the motor runs again")
        await self._set_run(wanted=False)
        await self._until(self._stands_still, "the motor stops on command")
        self.say("started and stopped again by new commands")

    async def _set_run(self, *, wanted: bool) -> None:
        answer = await self.api.patch(f"/devices/{MOTOR}/desired", json={"run": wanted})
        self._expect(answer, 202, f"desired run={wanted}")

        async def applied() -> bool:
            twin = await self._get(f"/devices/{MOTOR}")
            desired = twin["properties"]["run"]["desired"]
            return bool(desired and desired["state"] == "applied")

        await self._until(applied, f"run={wanted} applied")

    async def _reset(self, reason: str) -> list[httpx.Response]:
        return [
            await self.api.post(f"/alarms/{alarm['id']}/reset", json={"reason": reason})
            for alarm in await self._trips()
        ]

    async def _trips(self) -> list[dict[str, Any]]:
        """The trips of the motor that stand."""
        alarms = (await self._get("/alarms"))["items"]
        return [a for a in alarms if a["device"] == MOTOR and a["latched"]]

    async def _trip_verified(self) -> bool:
        trips = await self._trips()
        return bool(trips) and all(a["trip"]["state"] == "verified" for a in trips)

    async def _running(self) -> bool:
        return self.plant.running()

    async def _stands_still(self) -> bool:
        return not self.plant.running()

    async def _get(self, path: str) -> dict[str, Any]:
        answer = await self.api.get(path)
        self._expect(answer, 200, f"GET {path}")
        return dict(answer.json())

    @staticmethod
    def _expect(answer: httpx.Response, status: int, what: str) -> None:
        if answer.status_code != status:
            raise StoryError(f"{what}: expected {status}, got {answer.status_code}: {answer.text}")

    @staticmethod
    async def _until(seen: Callable[[], Awaitable[bool]], what: str) -> None:
        try:
            async with asyncio.timeout(STEP_TIMEOUT):
                while not await seen():  # noqa: ASYNC110 - the state is another process's
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise StoryError(f"never came: {what}, within {STEP_TIMEOUT:.0f} s") from None
