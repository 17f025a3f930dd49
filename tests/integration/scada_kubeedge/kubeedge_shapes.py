"""KubeEdge's messages as its Go structures read them: dttype/types.go and types_helper.go.

Only `metadata` may say more than KubeEdge knows.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ValueMetadata(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)
    timestamp: int = Field(default=0, ge=0, lt=2**63)


class TypeMetadata(Shape):
    type: str


class TwinValue(Shape):
    value: str
    metadata: ValueMetadata | None = None


class MsgTwin(Shape):
    expected: TwinValue | None = Field(default=None)
    actual: TwinValue | None = Field(default=None)
    optional: bool
    metadata: TypeMetadata


class MsgAttr(Shape):
    value: str
    optional: bool
    metadata: TypeMetadata


class Device(Shape):
    id: str
    name: str
    description: str = ""
    state: str = ""
    last_online: str = ""
    attributes: dict[str, MsgAttr] = {}
    twin: dict[str, MsgTwin] = {}


class BaseMessage(Shape):
    event_id: str
    timestamp: int


class Result(BaseMessage):
    code: int
    reason: str


class TwinResult(BaseMessage):
    twin: dict[str, MsgTwin | None]


class TwinDoc(Shape):
    last: MsgTwin | None
    current: MsgTwin | None


class Document(BaseMessage):
    twin: dict[str, TwinDoc]


class Delta(BaseMessage):
    twin: dict[str, MsgTwin]
    delta: dict[str, str]


class CloudDevice(Shape):
    name: str
    state: str
    lastOnlineTime: str = ""  # noqa: N815 - its name on the wire


class StateResult(BaseMessage):
    device: CloudDevice


class AttributesUpdated(BaseMessage):
    attributes: dict[str, MsgAttr | None]


class Members(BaseMessage):
    devices: list[Device]


class RemovedDevice(Shape):
    id: str
    name: str


class MembershipUpdate(BaseMessage):
    added_devices: list[Device] | None
    removed_devices: list[RemovedDevice] | None


_BY_END: dict[str, tuple[type[Shape], ...]] = {
    "twin/update/result": (TwinResult, Result),
    "twin/update/document": (Document,),
    "twin/update/delta": (Delta,),
    "twin/get/result": (TwinResult, Result),
    "state/update/result": (StateResult, Result),
    "/updated": (AttributesUpdated, MembershipUpdate),
    "membership/get/result": (Members, Result),
    "membership/detail/result": (Members, Result),
}


def strange(topic: str, content: dict[str, object]) -> str:
    """What is not as KubeEdge says it on this topic; '' if all is, or if it is a question."""
    shapes = next((s for end, s in _BY_END.items() if topic.endswith(end)), ())
    if topic.endswith("membership/updated"):
        shapes = (MembershipUpdate,)
    for shape in shapes:
        if set(content) <= set(shape.model_fields):
            try:
                shape.model_validate(content)
            except ValueError as error:
                return f"{topic}: {error}"
            return ""
    return f"{topic}: {content}" if shapes else ""
