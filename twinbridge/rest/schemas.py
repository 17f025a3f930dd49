"""The shapes of requests and answers. Answers are documented by these, not checked at run time."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Scalar = bool | int | float | str
Timestamp = Annotated[
    str | None, Field(description="RFC 3339 in UTC with milliseconds; null: not yet.")
]


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = Field(None, description="What is wrong, by its place in the request.")
    allowed: str | None = Field(None, description="What would be right.")


class Reported(BaseModel):
    value: Scalar | None
    quality: Literal["good", "uncertain", "bad"]
    reason: str | None = Field(None, description="Why the quality is not good; absent when it is.")
    message: str | None = Field(None, description="The same in words, where there is more to say.")
    timestamp: Timestamp


class Desired(BaseModel):
    value: Scalar
    version: int
    origin: str
    state: Literal["pending", "applied", "rejected", "expired", "blocked", "overridden"]
    message: str
    timestamp: Timestamp
    validUntil: Timestamp = None  # noqa: N815 - the name on the wire


class Property(BaseModel):
    reported: Reported | None = Field(description="null when the property cannot be read.")
    desired: Desired | None
    type: Literal["bool", "int", "float", "string"]
    access: Literal["ReadOnly", "ReadWrite", "WriteOnly"]
    unit: str | None = Field(None, description="UCUM.")
    minimum: float | None = None
    maximum: float | None = None


class Device(BaseModel):
    name: str
    namespace: str
    model: str
    node: str
    protocol: str
    labels: dict[str, str]
    connected: bool
    lastContact: Timestamp  # noqa: N815 - the name on the wire
    message: str
    tripped: bool
    trips: list[str] = Field(description="Ids of the alarms whose trips hold this device.")
    version: int = Field(description="Of the desired state.")
    properties: dict[str, Property]


class Devices(BaseModel):
    items: list[Device]
    continue_: str | None = Field(alias="continue", description="Token of the next page.")


class Version(BaseModel):
    version: int


class HistoryItem(BaseModel):
    timestamp: Timestamp
    value: Scalar | None
    quality: str
    min: float | None = None
    avg: float | None = None
    max: float | None = None
    samples: int | None = None


class History(BaseModel):
    device: str
    property: str
    unit: str
    items: list[HistoryItem]
    truncated: bool


class Held(BaseModel):
    device: str
    property: str
    value: Scalar


class Trip(BaseModel):
    state: str = Field(description="none, would_trip, writing, acknowledged, verified or failed.")
    message: str
    detectToAckMs: float | None  # noqa: N815 - the name on the wire
    detectToVerifiedMs: float | None  # noqa: N815 - the name on the wire
    holds: list[Held]


class AlarmInput(BaseModel):
    property: str
    value: Scalar | None
    quality: str


class Alarm(BaseModel):
    id: str
    rule: str
    device: str
    severity: str
    state: str
    active: bool
    acked: bool
    ackedBy: str | None  # noqa: N815 - the name on the wire
    latched: bool
    shelvedUntil: Timestamp  # noqa: N815 - the name on the wire
    since: Timestamp
    cleared: Timestamp
    message: str
    trip: Trip
    inputs: list[AlarmInput]


class Alarms(BaseModel):
    items: list[Alarm]


class RuleInstance(BaseModel):
    device: str
    id: str
    mode: str
    state: str
    tripped: bool
    alarm: str | None


class Rule(BaseModel):
    name: str
    mode: str
    severity: str
    trip: bool
    act: bool
    message: str
    instances: list[RuleInstance]


class Rules(BaseModel):
    items: list[Rule]


class Health(BaseModel):
    status: Literal["ok"]


class StuckLoop(BaseModel):
    since: Timestamp
    seconds: float


class Stuck(BaseModel):
    status: Literal["stuck"]
    loops: dict[str, StuckLoop] = Field(description="Event loops that stand, by name.")


class DeviceCount(BaseModel):
    total: int
    connected: int


class Ready(BaseModel):
    ready: bool
    node: str
    store: str = Field(description="`ok`, or why what must be kept cannot be kept.")
    listening: bool
    links: str = Field("ok", description="`ok`, or which links were not tried yet.")
    devices: DeviceCount
    alarms: int
    problems: dict[str, str] = Field(description="Resources that are refused, and why.")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Ack(_Body):
    comment: str = Field("", max_length=1000)


class Shelve(_Body):
    for_: str = Field(alias="for", description="A duration up to 8h, such as 30m.")
    reason: str = Field("", max_length=1000)


class Reset(_Body):
    reason: str = Field(min_length=1, max_length=1000, description="Why it is safe.")


class Mode(_Body):
    mode: Literal["Armed", "DryRun", "Disabled"]


class Wish(_Body):
    """A desired value with an expiry."""

    value: Scalar
    validFor: str | None = Field(None, description="A duration, such as 10s.")  # noqa: N815 - the name on the wire
    validUntil: Timestamp = None  # noqa: N815 - the name on the wire
