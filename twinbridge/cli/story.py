"""The demo's story, over three protocols: what goes wrong at one machine stops another.

A motor (Modbus) overheats, is stopped, refuses to restart, and is released. The boiler (OPC UA)
overheats and the motor is stopped. Water on the floor (MQTT) shuts the boiler down and stops the
fan (MQTT).

Every step is done over the public REST API and judged by what the simulated machine really does.
A step that does not happen raises StoryError.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import httpx

from twinbridge.errors import TwinBridgeError

MOTOR, BOILER, LEAK, FAN = "motor-1", "boiler-1", "leak-1", "fan-1"
STEP_TIMEOUT = 40.0
"""Seconds that one step may take; machines need some to heat up and to cool down."""


Step: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class StoryError(TwinBridgeError):
    """A step of the story did not happen."""


class Plant(Protocol):
    """The simulated machines, as somebody standing beside them sees and abuses them."""

    def overheat(self, machine: str) -> None: ...

    def spill(self) -> None:
        """Water runs over the floor."""

    def recover(self, machine: str) -> None: ...

    def motor_runs(self) -> bool: ...

    def fan_runs(self) -> bool: ...

    def burner_burns(self) -> bool: ...

    def unlock_boiler(self) -> None:
        """After an emergency shutdown, by hand."""


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
        for step in self.plot():
            await step()
            self.steps.append(step.__name__)
            await asyncio.sleep(self.pace)

    def plot(self) -> list[Step]:
        return [
            self.connect,
            self.start,
            self.overheat,
            self.refuse_restart,
            self.refuse_reset,
            self.release,
            self.restart,
            self.steam_stops_motor,
            self.release_steam,
            self.leak_shuts_boiler_down,
            self.release_leak,
        ]

    async def connect(self) -> None:
        """Every device answers and has good values."""

        async def all_good() -> bool:
            devices = (await self._get("/devices"))["items"]
            values = [p["reported"] for d in devices for p in d["properties"].values()]
            good = sum(v is not None and v["quality"] == "good" for v in values)
            self.figures["devices"], self.figures["good_values"] = len(devices), good
            return bool(devices) and all(d["connected"] for d in devices) and good > 0

        await self._until(all_good, "all devices connected")
        # On a busy machine the first values may come late, and what is not known may trip.
        await self._released("trips of the start-up")
        self.say(f"{self.figures['devices']} devices answer, {self.figures['good_values']} values")

    async def start(self) -> None:
        await self._set(MOTOR, "run", wanted=True)
        await self._until(self.plant.motor_runs, "the motor runs")
        self.say("run=true desired, written, read back: the motor runs (Modbus)")

    async def overheat(self) -> None:
        """The motor heats up; a rule stops it next to the machine."""
        self.plant.overheat(MOTOR)
        self.say("the motor overheats")
        await self._tripped(MOTOR, "overheat")
        await self._until(lambda: not self.plant.motor_runs(), "the motor stands still")

    async def refuse_restart(self) -> None:
        answer = await self._ask("PATCH", f"/devices/{MOTOR}/desired", json={"run": True})
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
        self.plant.recover(MOTOR)
        self.say("the cause is removed; waiting for the motor to cool down")
        await self._released("cause removed, bearing checked")
        if self.plant.motor_runs():
            raise StoryError("the motor started by itself after the reset")
        self.say("reset by a person; the motor still stands: a start is a new command")

    async def restart(self) -> None:
        await self._set(MOTOR, "run", wanted=True)
        await self._until(self.plant.motor_runs, "the motor runs again")
        self.say("started again by a new command")

    async def steam_stops_motor(self) -> None:
        """What OPC UA tells of one machine stops another behind Modbus."""
        self.plant.overheat(BOILER)
        self.say("the boiler's thermostat fails: full fire")
        await self._tripped(MOTOR, "steam")
        await self._until(lambda: not self.plant.motor_runs(), "the motor stands still")
        await self._tripped(BOILER, "pressure")
        await self._until(lambda: not self.plant.burner_burns(), "the burner is out")
        self.say("its pressure goes on rising: the burner is out, the steam valve open (OPC UA)")

    async def release_steam(self) -> None:
        self.plant.recover(BOILER)
        await self._released("thermostat replaced")
        await self._set(BOILER, "burner-enabled", wanted=True)
        await self._set(FAN, "run", wanted=True)
        await self._until(self.plant.fan_runs, "the fan runs")
        self.say("thermostat replaced, trips reset, burner enabled; the fan runs (MQTT)")

    async def leak_shuts_boiler_down(self) -> None:
        """A battery-powered sensor stops two machines of two protocols."""
        self.plant.spill()
        self.say("water runs over the floor; the sensor says so")
        await self._tripped(BOILER, "leak")
        await self._until(lambda: not self.plant.burner_burns(), "the burner is out")
        await self._until(lambda: not self.plant.fan_runs(), "the fan stands still")
        self.say("the boiler is shut down by a method call (OPC UA), the fan is stopped (MQTT)")

    async def release_leak(self) -> None:
        self.plant.recover(LEAK)
        self.plant.unlock_boiler()
        await self._released("floor dried, gasket replaced")
        if self.plant.burner_burns() or self.plant.fan_runs():
            raise StoryError("a machine started by itself after the reset")
        self.say("reset by a person; nothing starts by itself")

    async def _set(self, device: str, name: str, *, wanted: bool) -> None:
        answer = await self._ask("PATCH", f"/devices/{device}/desired", json={name: wanted})
        self._expect(answer, 202, f"desired {device} {name}={wanted}")

        async def applied() -> bool:
            twin = await self._get(f"/devices/{device}")
            desired = twin["properties"][name]["desired"]
            return bool(desired and desired["state"] == "applied")

        await self._until(applied, f"{device} {name}={wanted} applied")

    async def _tripped(self, device: str, what: str) -> None:
        """A trip that stops the device has been written and seen to have worked."""

        async def verified() -> bool:
            trips = [a["trip"] for a in await self._trips() if a["device"] == device]
            return bool(trips) and all(trip["state"] == "verified" for trip in trips)

        await self._until(verified, f"a trip of {device}, verified")
        trips = [a["trip"] for a in await self._trips() if a["device"] == device]
        first = min(trips, key=lambda t: t["detectToAckMs"])
        self.figures[f"{what}_detect_to_ack_ms"] = first["detectToAckMs"]
        self.figures[f"{what}_detect_to_verified_ms"] = first["detectToVerifiedMs"]
        self.say(
            f"{device} tripped: detect → acknowledged {first['detectToAckMs']:.1f} ms,"
            f" → seen stopped {first['detectToVerifiedMs']:.1f} ms"
        )

    async def _released(self, reason: str) -> None:
        """Every trip is reset, as soon as its condition is clear."""

        async def released() -> bool:
            await self._reset(reason)
            return not await self._trips()

        await self._until(released, "the reset once the condition is clear")

    async def _reset(self, reason: str) -> list[httpx.Response]:
        return [
            await self._ask("POST", f"/alarms/{alarm['id']}/reset", json={"reason": reason})
            for alarm in await self._trips()
        ]

    async def _trips(self) -> list[dict[str, Any]]:
        """The trips that stand."""
        alarms = (await self._get("/alarms"))["items"]
        return [a for a in alarms if a["latched"]]

    async def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:  # noqa: ANN401 - as httpx has it
        try:
            return await self.api.request(method, path, **more)
        except httpx.TransportError as error:
            raise StoryError(f"{method} {path}: no answer: {error!r}") from error

    async def _get(self, path: str) -> dict[str, Any]:
        answer = await self._ask("GET", path)
        self._expect(answer, 200, f"GET {path}")
        return dict(answer.json())

    @staticmethod
    def _expect(answer: httpx.Response, status: int, what: str) -> None:
        if answer.status_code != status:
            raise StoryError(f"{what}: expected {status}, got {answer.status_code}: {answer.text}")

    @staticmethod
    async def _until(seen: Callable[[], Awaitable[bool] | bool], what: str) -> None:
        try:
            async with asyncio.timeout(STEP_TIMEOUT):
                while True:
                    found = seen()
                    if await found if isinstance(found, Awaitable) else found:
                        return
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise StoryError(f"never came: {what}, within {STEP_TIMEOUT:.0f} s") from None
