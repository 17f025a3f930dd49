"""Whether a device is there, as it says itself on its availability topic, or its last will."""

from __future__ import annotations

from enum import Enum

import orjson

from twinbridge_mqtt.config import Availability
from twinbridge_mqtt.message import Message
from twinbridge_mqtt.places import at_pointer
from twinbridge_mqtt.refusal import BadPayload, shown
from twinbridge_mqtt.request import MqttRequest


class Presence(Enum):
    UNKNOWN = "unknown"
    ONLINE = "online"
    OFFLINE = "offline"


class Station:
    """A device with an availability topic, and its requests. `why`: why it counts as lost."""

    def __init__(self, device: str, topic: str, availability: Availability) -> None:
        self.device = device
        self.topic = topic
        self.availability = availability
        self.requests: dict[MqttRequest, None] = {}
        self.presence = Presence.UNKNOWN
        self.why = self.silent(device, topic)

    @staticmethod
    def silent(device: str, topic: str) -> str:
        return f"{device} has not said on {topic} that it is online"

    @property
    def online(self) -> bool:
        return self.presence is Presence.ONLINE

    def hear(self, message: Message) -> bool:
        """Whether what it says of itself has changed."""
        before = self.presence, self.why
        word = self._word(message)
        if word == self.availability.online:
            self.presence, self.why = Presence.ONLINE, ""
        elif word == self.availability.offline:
            self.presence = Presence.OFFLINE
            self.why = f"{self.device} said offline on {self.topic} (or its last will did)"
        else:
            self.presence = Presence.UNKNOWN
            self.why = (
                f"{self.device} said {shown(word)} on {self.topic}, which is neither "
                f"{self.availability.online} nor {self.availability.offline}"
            )
        return before != (self.presence, self.why)

    def deny(self, why: str) -> None:
        """Its availability cannot be heard."""
        self.presence, self.why = Presence.UNKNOWN, why

    def _word(self, message: Message) -> str:
        if self.availability.pointer is None:
            return message.payload.decode(errors="replace").strip()
        try:
            word = at_pointer(self.availability.pointer)(orjson.loads(message.payload))
        except (BadPayload, orjson.JSONDecodeError):
            return message.payload[:60].decode(errors="replace")
        return word if isinstance(word, str) else shown(word)
