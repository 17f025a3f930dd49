"""What can go wrong with a simulated machine, on command."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from twinbridge.errors import InvalidInput
from twinbridge_simulators.registers import Table


class FaultKind(StrEnum):
    EXCEPTION = "exception"
    SLOW = "slow"
    LATE = "late"
    SILENT = "silent"
    GARBAGE = "garbage"
    CLOSE = "close"
    WRONG_TRANSACTION = "wrong-transaction"
    WRONG_UNIT = "wrong-unit"
    TRUNCATED = "truncated"
    REFUSE = "refuse"
    ONE_CLIENT = "one-client"
    HALF_OPEN = "half-open"
    STUCK = "stuck"
    OVERHEAT = "overheat"
    JAM = "jam"
    LEAK = "leak"
    RESTART = "restart"
    BAD_STATUS = "bad-status"
    DELETE_NODE = "delete-node"
    OFFLINE = "offline"
    HUGE = "huge"
    STORM = "storm"


SERVER_FAULTS = frozenset({FaultKind.REFUSE, FaultKind.ONE_CLIENT, FaultKind.HALF_OPEN})
"""These concern the port, and with it every machine behind it."""

MACHINE_FAULTS = frozenset({FaultKind.OVERHEAT, FaultKind.JAM, FaultKind.LEAK})
"""These are physics: the machine itself is in trouble, and its values show it."""

DEFAULT_DELAY = {FaultKind.SLOW: 0.2, FaultKind.LATE: 1.5, FaultKind.RESTART: 0.5}


class Fault(BaseModel):
    """A fault and where it strikes. With neither table nor address it strikes every request."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Annotated[FaultKind, Field(alias="fault")]
    unit: Annotated[int | None, Field(ge=0, le=255, description="None: every unit.")] = None
    table: Table | None = None
    address: Annotated[int | None, Field(ge=0, le=65535, description="As on the wire.")] = None
    of: Annotated[
        str | None,
        Field(
            alias="property",
            description="Of `stuck`, `bad-status`, `delete-node`; None: every one.",
        ),
    ] = None
    """The property that it strikes."""
    code: Annotated[int, Field(ge=1, le=255, description="Of `exception`.")] = 2
    status: Annotated[str, Field(description="Of `bad-status`, as OPC UA names it.")] = (
        "BadDeviceFailure"
    )
    rate: Annotated[float, Field(gt=0, le=10_000, description="Of `storm`, messages/s.")] = 1000.0
    delay: Annotated[
        float | None,
        Field(ge=0, le=3600, description="Of `slow`, `late` and `restart`, in seconds."),
    ] = None
    times: Annotated[
        int | None, Field(ge=1, description="It ends after so many requests; None: never.")
    ] = None

    @property
    def seconds(self) -> float:
        return DEFAULT_DELAY.get(self.kind, 0.0) if self.delay is None else self.delay


def fault(kind: FaultKind | str, **where: object) -> Fault:
    """A Fault by its kind; raises InvalidInput that names what is wrong and what is allowed."""
    try:
        return Fault.model_validate({"fault": kind, **where})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"fault: {place}: {first['msg']}") from error


def parse_fault(text: str) -> tuple[str, Fault]:
    """`MACHINE=KIND[,key=value...]` as the command line gives it."""
    machine, found, rest = text.partition("=")
    kind, *pairs = rest.split(",")
    if not machine or not found or not all("=" in pair for pair in pairs):
        raise InvalidInput(f"--fault {text!r}: write it as MACHINE=KIND[,key=value...]")
    return machine, fault(kind, **dict(pair.split("=", 1) for pair in pairs))
