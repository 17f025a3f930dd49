"""The topics of KubeEdge's EventBus and DeviceTwin. Pure.

Source: kubeedge/kubeedge, edge/pkg/devicetwin/dtcommon/common.go and
edge/pkg/eventbus/mqtt/client.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from twinbridge.core.model import DeviceSpec

_DEVICE = "$hw/events/device/"
_NODE = "$hw/events/node/"

MALFORMED_UPDATES = f"{_DEVICE}/twin/update/result"
"""Where KubeEdge answers an update that it cannot read: the device's id is left out."""


class Verb(StrEnum):
    """What is asked; as the end of the topic."""

    TWIN_UPDATE = "twin/update"
    TWIN_GET = "twin/get"
    STATE_UPDATE = "state/update"
    MEMBERSHIP_GET = "membership/get"
    MEMBERSHIP_DETAIL = "membership/detail"


_OF_DEVICE = (Verb.TWIN_UPDATE, Verb.TWIN_GET, Verb.STATE_UPDATE)
_OF_NODE = (Verb.MEMBERSHIP_GET, Verb.MEMBERSHIP_DETAIL)
_VERBS = {verb.value: verb for verb in Verb}


class Asked(NamedTuple):
    """What a topic asks for, of which device by id; '' of the node."""

    verb: Verb
    id: str


class Topics:
    """Of one edge node. `namespaced`: a device's id is `namespace/name`, otherwise its name."""

    def __init__(self, node: str, *, namespaced: bool) -> None:
        self._node = f"{_NODE}{node}/"
        self._levels = 2 if namespaced else 1

    @property
    def filters(self) -> tuple[tuple[str, int], ...]:
        """What to subscribe to, with QoS. Wildcards alone would not match a topic of `$hw`."""
        ids = "/".join("+" * self._levels)
        devices = [(f"{_DEVICE}{ids}/{verb}", 1) for verb in _OF_DEVICE]
        return (*devices, *((f"{self._node}{verb}", 1) for verb in _OF_NODE))

    def asked(self, topic: str) -> Asked | None:
        """None for what is not asked of us."""
        if topic.startswith(_DEVICE):
            levels = topic.removeprefix(_DEVICE).split("/")
            verb = _VERBS.get("/".join(levels[self._levels :]))
            return Asked(verb, "/".join(levels[: self._levels])) if verb in _OF_DEVICE else None
        if topic.startswith(self._node):
            verb = _VERBS.get(topic.removeprefix(self._node))
            return Asked(verb, "") if verb in _OF_NODE else None
        return None

    def id(self, spec: DeviceSpec) -> str:
        return spec.name if self._levels == 1 else f"{spec.namespace}/{spec.name}"

    def find(self, devices: Mapping[str, DeviceSpec], device_id: str) -> DeviceSpec | None:
        spec = devices.get(device_id.rpartition("/")[2])
        return spec if spec is not None and self.id(spec) == device_id else None

    def result(self, asked: Asked) -> str:
        base = f"{_DEVICE}{asked.id}/" if asked.id else self._node
        return f"{base}{asked.verb}/result"

    def document(self, device_id: str) -> str:
        return f"{_DEVICE}{device_id}/twin/update/document"

    def delta(self, device_id: str) -> str:
        return f"{_DEVICE}{device_id}/twin/update/delta"

    def state(self, device_id: str) -> str:
        return f"{_DEVICE}{device_id}/state/update/result"

    def attributes(self, device_id: str) -> str:
        return f"{_DEVICE}{device_id}/updated"

    @property
    def membership(self) -> str:
        return f"{self._node}membership/updated"
