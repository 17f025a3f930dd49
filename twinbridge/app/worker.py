"""One task that owns one link: trips first, then writes, then polls, one request at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import cast

import structlog
from pydantic import BaseModel

from twinbridge.app.clock import Clock, Doorbell
from twinbridge.app.command import Command
from twinbridge.app.device import Device, Scan, Station
from twinbridge.app.interlock import Interlock
from twinbridge.app.metrics import (
    DROPS,
    ERRORS,
    MAILBOX,
    POLL_SECONDS,
    POLLS,
    POLLS_LATE,
    POLLS_SKIPPED,
)
from twinbridge.app.pipeline import Pipeline
from twinbridge.app.scanning import Schedule, arrange, late
from twinbridge.app.stop_write import STUBBORN_PAUSE, StopWrite
from twinbridge.app.supervise import Backoff
from twinbridge.core.messages import DesiredState
from twinbridge.core.model import SECOND, PropertyRef, Reason
from twinbridge.errors import DeviceBusy, DeviceError, LinkLost, NoResponse
from twinbridge.ports import Cautious, Link, PushLink, ReadRequest

log = structlog.get_logger()

MAILBOX_LIMIT = 1000
RECONNECT_FIRST, RECONNECT_LONGEST = 0.1, 4.0
"""Seconds between tries to open the link."""
PUSHES_AT_ONCE = 50
"""Answers that are taken before others get their turn."""
READ_TRIES = 2
"""A device that does not answer is asked once more before it counts as lost."""
CIRCUIT_FAILURES = 3
PROBE_FIRST, PROBE_LONGEST = 0.2, 4.0
"""Seconds between questions to a silent unit that keeps nobody waiting."""
PROBE_SHARE = 0.1
"""Of a shared link's time, what asking its silent units may take at most."""
SHARED_PROBE_LONGEST = 60.0


@dataclass(slots=True)
class Mailbox:
    """What waits for the link. A newer command for a property replaces the one that waits."""

    stops: list[StopWrite] = field(default_factory=list)
    commands: dict[PropertyRef, Command] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.stops) + len(self.commands)


class Worker:
    """Serves the devices of one endpoint. `open_link` makes a new connection."""

    def __init__(
        self,
        endpoint: str,
        connection: BaseModel,
        open_link: Callable[[BaseModel], AbstractAsyncContextManager[Link]],
        *,
        pipeline: Pipeline,
        interlock: Interlock,
        clock: Clock,
    ) -> None:
        self.endpoint = endpoint
        self.connection = connection
        self._open_link = open_link
        self._pipeline = pipeline
        self._interlock = interlock
        self._clock = clock
        self._bell = Doorbell()
        self._mailbox = Mailbox()
        self._writing: Command | None = None
        self._link: Link | None = None
        self._lost = False
        self._schedule = Schedule()
        self._pushed: dict[ReadRequest, Scan] = {}
        self._devices: dict[str, Device] = {}
        self._changed = False
        self._depth = MAILBOX.labels(endpoint)

    @property
    def devices(self) -> Iterable[Device]:
        return self._devices.values()

    @property
    def tried(self) -> bool:
        """Whether opening the link has succeeded or failed at least once."""
        return self._link is not None or self._lost

    def serve(self, devices: Iterable[Device]) -> tuple[list[StopWrite], list[Command]]:
        """Serve these from now on; those served before keep their schedule.

        Returns what waited for devices that are no longer served as they were.
        """
        self._devices = {d.name: d for d in devices}
        self._changed = True
        self._bell.ring()
        mailbox = self._mailbox
        stops = [s for s in mailbox.stops if s.waiting and not self._serves(s.device)]
        # One that is being written is finished here: nobody may write it a second time.
        waiting = [c for c in mailbox.commands.values() if c is not self._writing]
        commands = [c for c in waiting if not self._serves(c.device)]
        mailbox.stops = [s for s in mailbox.stops if s not in stops]
        mailbox.commands = {c.point.ref: c for c in mailbox.commands.values() if c not in commands}
        self._note_depth()
        return stops, commands

    def _serves(self, device: Device) -> bool:
        return self._devices.get(device.name) is device

    def press(self, stop: StopWrite) -> None:
        """A trip's write: next on the wire, after the request in flight."""
        if stop not in self._mailbox.stops:
            self._mailbox.stops.append(stop)
        self._note_depth()
        self._bell.ring()

    def submit(self, command: Command) -> None:
        """A desired value; at the limit the command is refused and answered so."""
        older = self._mailbox.commands.pop(command.point.ref, None)
        if older is not None:
            older.finish(DesiredState.OVERRIDDEN, "a newer value came first", self._clock)
        if len(self._mailbox.commands) >= MAILBOX_LIMIT:
            DROPS.labels("mailbox").inc()
            command.finish(DesiredState.REJECTED, "too many writes wait for this link", self._clock)
            return
        self._mailbox.commands[command.point.ref] = command
        self._note_depth()
        self._bell.ring()

    def recheck(self) -> None:
        """A trip has come: what it forbids is answered now, not when its turn comes."""
        for command in list(self._mailbox.commands.values()):
            if refusal := command.refusal(self._interlock, self._clock):
                command.finish(*refusal, self._clock)
        self._sweep()

    def lose_all(self, error: Exception) -> None:
        """Every device of the link is lost; trips that wait for it take note."""
        now = self._clock.mono()
        for device in self._devices.values():
            self._pipeline.lose(device, str(error), now)
        for stop in self._mailbox.stops:
            if stop.waiting and stop.due <= now:
                stop.miss(str(error), now)

    def cautions(self) -> Mapping[str, str] | None:
        """What the open link says of trouble to come; None: nobody knows now."""
        if isinstance(self._link, Cautious):
            return self._link.cautions()
        return None

    async def run(self) -> None:
        """Open the link and serve it; open it anew whenever it is lost. Never returns."""
        backoff = Backoff(RECONNECT_FIRST, RECONNECT_LONGEST)
        while True:
            try:
                async with self._open_link(self.connection) as link:
                    self._link = link
                    await self._serve(link, backoff)
            except DeviceError as error:
                self._link = None
                ERRORS.labels(error.kind).inc()
                self._say_lost(error)
                self.lose_all(error)
            self.recheck()
            await self._bell.wait(self.until_reconnect(backoff.next()))

    def _say_lost(self, error: DeviceError) -> None:
        """Once per outage; the tries that follow are of interest to who looks for them."""
        say = log.debug if self._lost else log.warning
        say("link lost", endpoint=self.endpoint, devices=len(self._devices), why=str(error))
        self._lost = True

    def _note_answer(self, backoff: Backoff) -> None:
        backoff.reset()
        if self._lost:
            self._lost = False
            log.info("link is back", endpoint=self.endpoint, devices=len(self._devices))

    def until_reconnect(self, wait: float) -> float:
        """Seconds until the link is tried again: a trip that waits for it does not wait longer."""
        stops = any(stop.waiting for stop in self._mailbox.stops)
        return min(wait, STUBBORN_PAUSE / SECOND) if stops else wait

    async def _serve(self, link: Link, backoff: Backoff) -> None:
        """Never returns. A link whose device speaks by itself is listened to meanwhile."""
        self._arrange(link, fresh=True)
        if not hasattr(link, "samples"):
            await self._ask(link, backoff)
            return
        pushing = cast("PushLink", link)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen(pushing, backoff), name=f"hear {self.endpoint}")
                tasks.create_task(self._ask(link, backoff), name=f"ask {self.endpoint}")
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _listen(self, link: PushLink, backoff: Backoff) -> None:
        """Take what comes, and let those write meanwhile who must stop a machine.

        Devices are planned anew only once all of a batch has been taken.
        """
        async for batch in link.samples():
            answered: dict[Device, None] = {}
            for begin in range(0, len(batch), PUSHES_AT_ONCE):
                for request, result in batch[begin : begin + PUSHES_AT_ONCE]:
                    scan = self._pushed.get(request)
                    if scan is None:
                        continue
                    if isinstance(result, DeviceError):
                        self._told_failure(scan, result)
                    else:
                        self._pipeline.take(scan, result)
                        answered[scan.device] = None
                await asyncio.sleep(0)
            if answered:
                self._note_answer(backoff)
                self._plan_answered(answered, link)
                if self._mailbox.commands:
                    self._bell.ring()  # a device that has told all takes writes from now on
        raise LinkLost(f"{self.endpoint}: the link has ended")

    def _plan_answered(self, devices: Iterable[Device], link: Link) -> None:
        for device in devices:
            if device.replan and self._serves(device):
                self._plan_anew(device, link)
                self._bell.ring()

    def _told_failure(self, scan: Scan, error: DeviceError) -> None:
        """One device is lost; the next answer to one of its requests says that it is back."""
        ERRORS.labels(error.kind).inc()
        reason = Reason.COMM_LOST if isinstance(error, NoResponse) else Reason.DEVICE_FAULT
        self._pipeline.lose(scan.device, str(error), self._clock.mono(), reason)

    async def _ask(self, link: Link, backoff: Backoff) -> None:
        """A poll that is late by an interval goes before writes; on a line too slow for all its
        polls they take turns, so that neither waits for ever.
        """
        yielded = False
        while True:
            if self._changed:
                self._arrange(link, fresh=False)
            now = self._clock.mono()
            scan = self._schedule.due(now)
            if stop := self._due_stop(now):
                await self._do_stop(stop, link)
            elif scan and scan.due + scan.interval <= now and not yielded:
                yielded = True
                await self._poll(scan, link, now, backoff)
            elif command := self._due_command(now):
                yielded = False
                await self._do_command(command, link)
            elif scan:
                await self._poll(scan, link, now, backoff)
            else:
                yielded = False
                await self._bell.wait(self._until_next(now))

    def _arrange(self, link: Link, *, fresh: bool) -> None:
        self._changed = False
        for device in self._devices.values():
            if fresh or not device.scans:
                device.replan = False
                arrange(device, link, self._clock.mono())
        self._fill_schedule(link)

    def _fill_schedule(self, link: Link) -> None:
        scans = [scan for device in self._devices.values() for scan in device.scans]
        self._schedule.fill(scan for scan in scans if not scan.pushed)
        self._pushed = {scan.request: scan for scan in scans if scan.pushed}
        if hasattr(link, "follow"):
            cast("PushLink", link).follow(list(self._pushed))

    def _due_stop(self, now: int) -> StopWrite | None:
        stops = self._mailbox.stops
        return next((s for s in stops if s.waiting and s.due <= now), None) if stops else None

    def _due_command(self, now: int) -> Command | None:
        if not self._mailbox.commands:
            return None
        return next((c for c in self._ready_commands() if c.due <= now), None)

    def _ready_commands(self) -> Iterator[Command]:
        """While writes are withheld only those that are written already, to see what they did."""
        withheld = self._interlock.withheld
        for command in self._mailbox.commands.values():
            if command.device.scanned and (command.deadline or not withheld):
                yield command

    def _until_next(self, now: int) -> float | None:
        """Seconds until something is due; None: until the bell rings."""
        dues = [s.due for s in self._mailbox.stops if s.waiting]
        dues += [command.due for command in self._ready_commands()]
        if (first := self._schedule.first()) is not None:
            dues.append(first)
        return (min(dues) - now) / SECOND if dues else None

    async def _do_stop(self, stop: StopWrite, link: Link) -> None:
        try:
            await stop.step(link, self._pipeline, self._clock)
        except LinkLost:
            raise
        except DeviceError as error:
            ERRORS.labels(error.kind).inc()
        # Turns are taken among several stops of one link.
        if stop in self._mailbox.stops:
            self._mailbox.stops.remove(stop)
            if stop.waiting:
                self._mailbox.stops.append(stop)
        self._note_depth()

    async def _do_command(self, command: Command, link: Link) -> None:
        self._writing = command
        try:
            await command.step(link, self._pipeline, self._interlock, self._clock)
        finally:
            self._writing = None
            self._sweep()

    def _sweep(self) -> None:
        for ref, command in list(self._mailbox.commands.items()):
            if command.done:
                del self._mailbox.commands[ref]
        self._note_depth()

    def _note_depth(self) -> None:
        self._depth.set(len(self._mailbox))

    async def _poll(self, scan: Scan, link: Link, now: int, backoff: Backoff) -> None:
        POLLS.inc()
        if late(scan, now):
            POLLS_LATE.inc()
        try:
            await self._read(scan, link)
        except LinkLost:
            raise
        except DeviceError as error:
            self._failed(scan, error, now)
            return
        self._note_answer(backoff)
        after = self._clock.mono()
        POLL_SECONDS.observe((after - now) / SECOND)
        if skipped := self._schedule.advance(scan, after):
            POLLS_SKIPPED.inc(skipped)
        if scan.device.station.failures:
            self._answered_again(scan, after)
        if scan.device.replan:
            self._plan_anew(scan.device, link)

    async def _read(self, scan: Scan, link: Link) -> None:
        for _ in range(READ_TRIES - 1):
            try:
                return await self._pipeline.read(scan, link)
            except (NoResponse, DeviceBusy) as error:
                if self._mailbox.stops or scan.device.station.failures:
                    raise
                ERRORS.labels(error.kind).inc()
        return await self._pipeline.read(scan, link)

    def _plan_anew(self, device: Device, link: Link) -> None:
        device.replan = False
        arrange(device, link, self._clock.mono(), served=device.scanned)
        self._fill_schedule(link)

    def _failed(self, scan: Scan, error: DeviceError, asked: int) -> None:
        """The device did not give its values: it is lost, and asked less often from now on."""
        ERRORS.labels(error.kind).inc()
        now = self._clock.mono()
        station = scan.device.station
        station.failures += 1
        wait = self._probe_after(station, (now - asked) / SECOND)
        if isinstance(error, NoResponse):
            for device in self._devices.values():
                if device.station is station:
                    self._pipeline.lose(device, str(error), now)
        else:
            self._pipeline.lose(scan.device, str(error), now, Reason.DEVICE_FAULT)
        station.silent_until = now + int(wait * SECOND)
        self._schedule.postpone(station)

    def _probe_after(self, station: Station, took: float) -> float:
        """Seconds until a silent unit is asked again; `took`: how long it was waited for.

        Where others are behind the same gateway, it is left alone after three failures for as
        long as it takes that all the silent ones together cost them a tenth of the link's time.
        """
        station.backoff = min(max(PROBE_FIRST, station.backoff * 2), PROBE_LONGEST)
        stations = {d.station for d in self._devices.values()}
        if len(stations) == 1 or station.failures < CIRCUIT_FAILURES:
            return station.backoff
        silent = sum(s.failures >= CIRCUIT_FAILURES for s in stations)
        return min(max(station.backoff, silent * took / PROBE_SHARE), SHARED_PROBE_LONGEST)

    def _answered_again(self, scan: Scan, now: int) -> None:
        station = scan.device.station
        station.failures = 0
        station.backoff = 0.0
        station.silent_until = 0
        self._schedule.recall(scan, now)
