"""What a driver's author says about a protocol so that `DriverContract` can play on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from twinbridge.core.model import Value
from twinbridge.ports import Driver


@dataclass(frozen=True, slots=True)
class Cell:
    """One property of the machine that has one of everything.

    `block` is its address as a Device says it, below the driver's name. `values` are what it can
    have, the extremes among them: least and greatest, empty and longest; two or more.
    """

    name: str
    type: str
    """bool, int, float or string."""
    block: Mapping[str, object]
    values: Sequence[Value]
    writable: bool = True


@dataclass(frozen=True, slots=True)
class Mistake:
    """An address that must be refused, with a part of what is said of it."""

    type: str
    block: Mapping[str, object]
    words: str
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Traits:
    """What is special to the protocol. A story that it cannot tell is skipped, and says so."""

    client_libraries: Sequence[str] = ()
    """Top-level modules that importing the driver must not load."""
    stations: int = 1
    """How many machines are behind the one endpoint; three or more can be told apart."""
    notices: float = 3.0
    """Seconds within which the driver must see that nothing comes any more."""
    refuses: bool = True
    """The machine can refuse a write; else it can at most ignore it."""
    nan: str = ""
    """A float cell that can have NaN; '' if the protocol has none."""
    doubts: bool = False
    """The machine can call a value uncertain: `doubt`."""
    interval: str = "20ms"
    """Poll interval of the stories."""
    delay: float = 0.02
    """Seconds by which a chunk may come late without harm."""
    machine_tasks: Sequence[str] = ()
    """How the names of coroutines begin that a machine of this process keeps for a lost client."""
    rate: int = 20_000
    """Bytes per second on which the driver must still work."""


class DriverStage(Protocol):
    """A driver and real machines behind it, which the stories order about.

    Three cells play in the stories and must be among `cells`: `temperature` (float), `speed`
    (int, takes 0 to 100, writable) and `run` (bool, writable). Stations are numbered from 0; each
    has all the cells. At first every cell has the first of its values.
    """

    @property
    def driver(self) -> Driver: ...

    @property
    def traits(self) -> Traits: ...

    @property
    def cells(self) -> Sequence[Cell]: ...

    @property
    def mistakes(self) -> Sequence[Mistake]: ...

    @property
    def port(self) -> int:
        """The TCP port of 127.0.0.1 that the machines are behind; the same after a restart."""

    def connection(self, port: int, station: int) -> Mapping[str, object]:
        """A Device's connection, below the driver's name; `port` may be that of a proxy."""

    async def start(self) -> None:
        """Listen; on the same port as before."""

    async def stop(self) -> None:
        """Close every connection and listen no more; the machines keep their values."""

    async def set(self, name: str, value: Value, station: int = 0) -> None:
        """The machine has this value from now on."""

    async def value(self, name: str, station: int = 0) -> Value:
        """What the machine really has."""

    def writes(self, station: int = 0) -> Sequence[tuple[str, Value]]:
        """All that was written and has reached the machine, in order, refused ones not."""

    async def refuse(self, name: str) -> None:
        """Writes of this cell of station 0 are refused."""

    async def ignore(self, name: str) -> None:
        """Writes of this cell of station 0 are acknowledged and change nothing."""

    async def fail(self, name: str) -> None:
        """This cell of station 0 can't be given: an exception, a bad status, a wrong payload."""

    async def doubt(self, name: str) -> None:
        """This cell of station 0 is uncertain. Only where `Traits.doubts`."""

    async def mute(self, station: int) -> None:
        """This station does not answer; the others do. Only with several stations."""

    async def slow(self, seconds: float) -> None:
        """Answers take so much longer."""

    async def heal(self) -> None:
        """End whatever refuse, ignore, fail, doubt, mute and slow have done."""
