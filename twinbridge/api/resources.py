"""The four kinds of the group `devices.twinbridge.io`."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from pydantic import Field

from twinbridge.api.base import API_VERSION, Metadata, Model, StatusCondition
from twinbridge.api.device_resources import Device, DeviceModel
from twinbridge.api.rule_resource import Rule
from twinbridge.api.scada import Scada


class EdgeNodeSpec(Model):
    """One edge node."""

    description: str = Field(default="", max_length=1024, description="For people.")
    site: str = Field(default="", max_length=253, description="Where it stands.")
    scada: Scada = Field(
        default_factory=Scada, description="How SCADA is shown the twins of this node."
    )


class EdgeNodeStatus(Model):
    """What the agent reports."""

    observed_generation: int = Field(default=0, description="The generation that is in force.")
    conditions: list[StatusCondition] = Field(
        default_factory=list,
        description="Connected.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    )
    last_contact: str = Field(default="", description="When the hub last heard it, RFC 3339.")


class EdgeNode(Model):
    """A machine at the edge that runs TwinBridge; `nodeName` names it."""

    api_version: Literal["devices.twinbridge.io/v1alpha1"] = Field(description=API_VERSION)
    kind: Literal["EdgeNode"] = Field(description="EdgeNode")
    metadata: Metadata = Field(description="Object metadata.")
    spec: EdgeNodeSpec = Field(description="One edge node.")
    status: EdgeNodeStatus | None = Field(default=None, description="What the agent reports.")


Resource: TypeAlias = DeviceModel | Device | Rule | EdgeNode

KINDS: Final[dict[str, type[DeviceModel | Device | Rule | EdgeNode]]] = {
    "DeviceModel": DeviceModel,
    "Device": Device,
    "Rule": Rule,
    "EdgeNode": EdgeNode,
}
