"""An agent over a memory bus, a scripted machines' side, and the API on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import httpx
from prometheus_client import CollectorRegistry

from twinbridge.adapters.bus_memory import MemoryBus
from twinbridge.app.agent import Agent
from twinbridge.app.clock import SystemClock
from twinbridge.app.service import TwinService
from twinbridge.core.alarm import Alarm, TripState
from twinbridge.core.messages import (
    Acknowledge,
    AlarmChanged,
    Contact,
    Desire,
    DesiredState,
    Outcome,
    Request,
    ResetTrip,
    Samples,
    SetMode,
)
from twinbridge.core.model import (
    MILLISECOND,
    SECOND,
    Access,
    DesiredSpec,
    DeviceSpec,
    Point,
    PropertyRef,
    PropertySpec,
    Quality,
    Reason,
    ReportPolicy,
    Sample,
    Value,
    ValueType,
)
from twinbridge.core.rule import Compare, Mode, OnBad, Op, RuleInstance, Severity, Trip, Write
from twinbridge.errors import ResetRefused, TwinBridgeError
from twinbridge.rest.app import create_app
from twinbridge.rest.server import serve
from twinbridge.rest.tokens import Tokens
from twinbridge.testing.fakes import FakeDisk, FakeStore

BOUND = 5.0
"""Seconds after which a test that waits gives up."""

PROPERTIES = (
    PropertySpec("temperature", ValueType.FLOAT, unit="Cel", report=ReportPolicy(deadband=0.5)),
    PropertySpec("run", ValueType.BOOL, Access.READ_WRITE),
    PropertySpec("speed", ValueType.INT, Access.READ_WRITE, minimum=0, maximum=1500),
    PropertySpec("label", ValueType.STRING, Access.READ_WRITE),
    PropertySpec("setpoint", ValueType.FLOAT, Access.READ_WRITE, reapply=True),
    PropertySpec("start", ValueType.BOOL, Access.WRITE_ONLY, pulse=True),
)


def device(
    name: str = "pump-1",
    *,
    digest: str = "d1",
    labels: tuple[tuple[str, str], ...] = (("line", "bottling"),),
    desired: tuple[DesiredSpec, ...] = (),
) -> DeviceSpec:
    points = tuple(
        Point(PropertyRef(name, spec.name), spec, None, 500 * MILLISECOND) for spec in PROPERTIES
    )
    return DeviceSpec(
        name, "pump-drive", "edge-1", "fake", None, points, labels, desired=desired, digest=digest
    )


def overheat(name: str = "pump-1") -> RuleInstance:
    return RuleInstance(
        "overheat",
        name,
        Compare(PropertyRef(name, "temperature"), Op.ABOVE, limit=85.0),
        OnBad.TRIP,
        Severity.CRITICAL,
        Mode.ARMED,
        trip=Trip((Write(PropertyRef(name, "run"), value=False),)),
        latch=True,
    )


def trip_alarm(name: str = "pump-1", occurrence: str = "overheat-1") -> Alarm:
    return Alarm(
        occurrence,
        "overheat",
        name,
        Severity.CRITICAL,
        "temperature above 85",
        since=1_700_000_000 * SECOND,
        latched=True,
        trip=TripState.VERIFIED,
        detect_to_ack=3 * MILLISECOND,
        inputs=((f"{name}/temperature", 91.5, "good"),),
        holds=((name, "run", False),),
    )


def good(value: Value, seq: int = 1, at: int = 0) -> Sample:
    return Sample(value, Quality.GOOD, Reason.NONE, at or SystemClock().wall(), seq)


@dataclass
class Machines:
    """The other side of the bus: answers every desired value as `answer` says."""

    bus: MemoryBus
    answer: Callable[[Desire], tuple[DesiredState, str] | None] = lambda _: (
        DesiredState.APPLIED,
        "",
    )
    asked: list[Request] = field(default_factory=list)
    alarm: Alarm | None = None
    refuses: TwinBridgeError | None = None

    async def handle(self, request: Request) -> None:
        self.asked.append(request)
        if self.refuses is not None:
            raise self.refuses
        match request:
            case Desire():
                self._desire(request)
            case Acknowledge(alarm=_, who=who) if self.alarm:
                self.tell(replace(self.alarm, acked=True, acked_by=who))
            case ResetTrip() if self.alarm:
                if self.alarm.active:
                    raise ResetRefused("the condition is not clear")
                self.tell(replace(self.alarm, latched=False, acked=True))
            case SetMode():
                pass

    def _desire(self, desire: Desire) -> None:
        answer = self.answer(desire)
        if answer is not None:
            at = SystemClock().wall()
            self.bus.publish(Outcome(desire.device, desire.property, desire.version, *answer, at))

    def tell(self, alarm: Alarm) -> None:
        self.alarm = alarm
        self.bus.publish(AlarmChanged(alarm))

    def report(self, name: str, **values: Value) -> None:
        self.bus.publish(Samples(name, tuple((n, good(v)) for n, v in values.items())))

    def contact(self, name: str, *, connected: bool) -> None:
        self.bus.publish(Contact(name, connected, SystemClock().wall()))

    @property
    def desires(self) -> list[Desire]:
        return [request for request in self.asked if isinstance(request, Desire)]


@dataclass
class Edge:
    """An agent that runs, and what is around it."""

    agent: Agent
    machines: Machines
    store: FakeStore
    url: str = ""
    http: httpx.AsyncClient = field(default_factory=httpx.AsyncClient)

    def state(self, name: str, device_name: str = "pump-1") -> str | None:
        entry = self.agent.desired.entry(device_name, name)
        return entry.state if entry else None


@asynccontextmanager
async def running_agent(
    *devices: DeviceSpec, disk: FakeDisk | None = None, rules: tuple[RuleInstance, ...] = ()
) -> AsyncIterator[Edge]:
    bus = MemoryBus()
    store = FakeStore(disk)
    agent = Agent(store, bus, "edge-1")
    machines = Machines(bus)
    bus.serve(machines.handle)
    await agent.set_plant({spec.name: spec for spec in devices or (device(),)}, rules)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(agent.run(), name="agent")
        await agent.started.wait()
        try:
            yield Edge(agent, machines, store)
        finally:
            task.cancel()


@asynccontextmanager
async def running_api(
    *devices: DeviceSpec,
    disk: FakeDisk | None = None,
    rules: tuple[RuleInstance, ...] = (),
    tokens: Tokens | None = None,
) -> AsyncIterator[Edge]:
    async with running_agent(*devices, disk=disk, rules=rules) as edge:
        app = create_app(TwinService(edge.agent), tokens=tokens, metrics=CollectorRegistry())
        async with (
            serve(app, "127.0.0.1", 0) as url,
            httpx.AsyncClient(base_url=f"{url}/api/v1", timeout=BOUND) as http,
        ):
            edge.url, edge.http = url, http
            yield edge


async def until(condition: Callable[[], object]) -> None:
    """Poll until it holds; fails after BOUND seconds."""
    async with asyncio.timeout(BOUND):
        while not condition():  # noqa: ASYNC110 - it looks at ordinary state, which has no event
            await asyncio.sleep(0.005)
