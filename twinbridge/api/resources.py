"""The four kinds of the group `devices.twinbridge.io`."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from pydantic import Field

from twinbridge.api.base import API_VERSION, Metadata, Model, StatusCondition
from twinbridge.api.connectivity import Connectivity
from twinbridge.api.device_resources import LIST_MAP, Device, DeviceModel
from twinbridge.api.rule_resource import Rule
from twinbridge.api.scada import Scada
from twinbridge.api.telemetry import Telemetry


class EdgeNodeSpec(Model):
    """One edge node."""

    description: str = Field(default="", max_length=1024, description="For people.")
    site: str = Field(default="", max_length=253, description="Where it stands.")
    scada: Scada = Field(
        default_factory=Scada, description="How SCADA is shown the twins of this node."
    )
    connectivity: Connectivity = Field(
        default_factory=Connectivity, description="How it stands to its hub."
    )
    telemetry: Telemetry = Field(
        default_factory=Telemetry, description="Where the history of its twins goes."
    )


class DriverStatus(Model):
    """One driver of the node."""

    name: str = Field(description="Its name on the bus.")
    protocol: str = Field(default="", description="What it speaks.")
    version: str = Field(default="", description="Of TwinBridge.")
    online: bool = Field(default=False, description="Whether the agent hears it.")
    devices: int = Field(default=0, description="Devices that it serves.")


class DeviceCounts(Model):
    """The devices of the node."""

    total: int = Field(default=0, description="Defined and sound.")
    connected: int = Field(default=0, description="That answer.")
    tripped: int = Field(default=0, description="That a trip holds.")


class OutboxStatus(Model):
    """What has yet to go up."""

    records: int = Field(default=0, description="Samples and records that wait.")
    size_bytes: int = Field(default=0, description="On disk.")
    oldest: str = Field(default="", description="Since when, RFC 3339.")


class EdgeNodeStatus(Model):
    """What the agent reports."""

    observed_generation: int = Field(default=0, description="The generation that is in force.")
    version: str = Field(default="", description="Of TwinBridge on the node.")
    drivers: list[DriverStatus] = Field(
        default_factory=list, description="Its drivers.", json_schema_extra=LIST_MAP
    )
    devices: DeviceCounts | None = Field(default=None, description="Its devices.")
    outbox: OutboxStatus | None = Field(default=None, description="What has yet to go up.")
    clock_synced: bool = Field(default=False, description="Whether its clock is kept right.")
    conditions: list[StatusCondition] = Field(
        default_factory=list,
        description="Connected; Syncing: what happens here is told in time.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    )
    last_contact: str = Field(default="", description="When the hub last heard it, RFC 3339.")
    message: str = Field(default="", description="What is wrong with the node, for a person.")


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
