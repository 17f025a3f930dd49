"""How SCADA is shown the twins: the `scada` block of an EdgeNode."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import AfterValidator, Field, field_validator

from twinbridge.api.base import Model
from twinbridge.api.broker import parse_url
from twinbridge.api.durations import Duration
from twinbridge.core.model import MILLISECOND
from twinbridge.errors import InvalidInput


def _broker_url(text: str) -> str:
    try:
        parse_url(text)
    except InvalidInput as error:
        raise ValueError(str(error)) from error
    return text


BrokerUrl: TypeAlias = Annotated[str, AfterValidator(_broker_url)]

BROKER = (
    "mqtt://[user@]host[:1883] or mqtts://[user@]host[:8883]; options follow as"
    " ?passwordFile=PATH&ca=PATH&cert=PATH&key=PATH&clientId=ID."
)

_PLACEHOLDER: Final = re.compile(r"\{([^{}]+)\}")


def _levels(topic: str) -> str:
    if any(not level for level in topic.split("/")):
        raise ValueError("a level of the topic is empty: give text between any two slashes")
    if set(_PLACEHOLDER.sub("", topic)) & set("{}"):
        raise ValueError("a brace is not closed: {device} or the name of a label stands in two")
    return topic


def _node_prefix(prefix: str) -> str:
    for name in _PLACEHOLDER.findall(_levels(prefix)):
        if name != "node":
            raise ValueError(f"{{{name}}} is not known here; allowed: {{node}}")
    return prefix


NodePrefix: TypeAlias = Annotated[
    str,
    Field(min_length=1, max_length=512, pattern=r"^[^+#\x00$/]([^+#\x00]*[^+#\x00/])?$"),
    AfterValidator(_node_prefix),
]
"""Where topics begin; may hold {node}."""


class PlainMqtt(Model):
    """Twins as JSON on MQTT topics, for any SCADA, Node-RED or Telegraf."""

    broker: BrokerUrl = Field(description=BROKER)
    prefix: NodePrefix = Field(
        default="twinbridge/v1/{node}",
        description="Where all topics begin; {node} stands for this edge node.",
    )
    device_topic: Annotated[str, AfterValidator(_levels)] = Field(
        default="{device}",
        min_length=1,
        max_length=512,
        pattern=r"^([^+#\x00/][^+#\x00]*)?\{device\}([^+#\x00]*[^+#\x00/])?$",
        description="A device's place under the prefix; labels by name: {site}/{line}/{device}.",
    )
    property_topics: bool = Field(
        default=False, description="Also one retained topic per property."
    )
    payload: Literal["Object", "Bare"] = Field(
        default="Object",
        description="What a property's topic holds: an object, or the value alone.",
    )
    big_integers: Literal["Number", "String"] = Field(
        default="Number", description="How integers beyond 2^53 are written."
    )
    twin_interval: Duration = Field(
        default="1s",
        validate_default=True,
        ge=100 * MILLISECOND,
        description="How often at most a device's retained twin is published.",
    )
    commands: Literal["Allow", "Refuse"] = Field(
        default="Allow", description="Whether desired/set, ack, shelve and reset are heard."
    )


class SparkplugB(Model):
    """This edge node as a Sparkplug B 3.0 edge node, its devices as Sparkplug devices."""

    broker: BrokerUrl = Field(description=BROKER)
    group: str = Field(
        min_length=1, max_length=255, pattern=r"^[^+#/\x00]+$", description="Group id."
    )
    node: str | None = Field(
        default=None,
        min_length=1,
        max_length=255,
        pattern=r"^[^+#/\x00]+$",
        description="Edge node id; the node's name, if left out.",
    )
    primary_host: str | None = Field(
        default=None,
        min_length=1,
        max_length=255,
        pattern=r"^[^+#/\x00]+$",
        description="Host application without which data is kept and sent later.",
    )
    keep_samples: int = Field(
        default=100_000,
        ge=0,
        le=10_000_000,
        description="Changes kept while the host or broker is away; the oldest go first.",
    )
    commands: Literal["Allow", "Refuse"] = Field(
        default="Allow", description="Whether DCMD writes are taken; Rebirth always is."
    )

    @field_validator("group")
    @classmethod
    def _no_host(cls, group: str) -> str:
        if group == "STATE":
            raise ValueError("STATE is where host applications are; allowed: any other group id")
        return group


class KubeEdgeTopics(Model):
    """The device topics of KubeEdge's EventBus, for applications that know them."""

    broker: BrokerUrl = Field(description=BROKER)
    device_ids: Literal["NamespaceAndName", "Name"] = Field(
        default="NamespaceAndName",
        description="What a device is called in topics: `namespace/name`, as KubeEdge does since"
        " its devices have namespaces, or the name alone, as applications for older ones expect.",
    )
    commands: Literal["Allow", "Refuse"] = Field(
        default="Allow", description="Whether expected values are taken from twin/update."
    )


class Scada(Model):
    """Each face is there if its block is."""

    mqtt: PlainMqtt | None = Field(default=None, description="Plain MQTT topics.")
    sparkplug: SparkplugB | None = Field(default=None, description="Sparkplug B 3.0.")
    kubeedge: KubeEdgeTopics | None = Field(default=None, description="KubeEdge's topics.")
