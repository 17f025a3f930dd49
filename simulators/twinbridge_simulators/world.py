"""What the simulation asks of a protocol: to serve machines, and to let faults strike them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from twinbridge.core.model import DeviceSpec
from twinbridge_simulators.faults import Fault, FaultKind
from twinbridge_simulators.machines.base import Machine

MACHINE_ANNOTATION = "simulator.twinbridge.io/machine"
OPTIONS_ANNOTATION = "simulator.twinbridge.io/options"


class Place(NamedTuple):
    """Where a machine is reached; the port is the real one once it is served."""

    host: str
    port: int


class World(Protocol):
    """All machines of one protocol, and what they are served by.

    `async with` serves them. Raises Unreachable when a port cannot be had.
    """

    @property
    def wire_faults(self) -> frozenset[FaultKind]:
        """What can go wrong between a machine and its client, whatever the machine is."""

    def add(self, spec: DeviceSpec, notes: Mapping[str, str], random: Random) -> Machine:
        """The machine for a Device; the same for two Devices that are views of one machine.

        Raises InvalidInput for what cannot be simulated.
        """

    def place(self, name: str) -> Place: ...

    def strike(self, name: str, fault: Fault) -> Fault | None:
        """One of `wire_faults` strikes. What stands from now on, None if it is over at once.

        Raises InvalidInput when the fault does not fit the machine.
        """

    def end(self, name: str, fault: Fault) -> None:
        """A fault that `strike` has returned is over."""

    async def show(self) -> None:
        """The physics have moved: show what is new."""

    def lines(self) -> Iterator[str]:
        """What is served where, a line per server."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
