"""Where everything is said (Sparkplug 3.0.0, 4.1): `spBv1.0/{group}/{verb}/{node}[/{device}]`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

NAMESPACE: Final = "spBv1.0"
_RESERVED: Final = str.maketrans(dict.fromkeys("+/#\0", "_"))


class Verb(StrEnum):
    NBIRTH = "NBIRTH"
    NDATA = "NDATA"
    NDEATH = "NDEATH"
    NCMD = "NCMD"
    DBIRTH = "DBIRTH"
    DDATA = "DDATA"
    DDEATH = "DDEATH"
    DCMD = "DCMD"


def clean(name: str) -> str:
    """A name as an id: what topics reserve becomes `_` (tck-id-intro-device-id-chars)."""
    return name.translate(_RESERVED)


@dataclass(frozen=True, slots=True)
class Topics:
    """Of one edge node; its ids are clean."""

    group: str
    node: str

    def of_node(self, verb: Verb) -> str:
        return f"{NAMESPACE}/{self.group}/{verb}/{self.node}"

    def of_device(self, verb: Verb, device: str) -> str:
        """`device` is an id, or `+` for all of them."""
        return f"{NAMESPACE}/{self.group}/{verb}/{self.node}/{device}"

    def commanded(self, topic: str) -> str | None:
        """The id of the device that a DCMD topic names; None for any other topic."""
        prefix = self.of_device(Verb.DCMD, "")
        return topic[len(prefix) :] if topic.startswith(prefix) else None


def state(host: str) -> str:
    """Where a host application says whether it is there."""
    return f"{NAMESPACE}/STATE/{host}"
