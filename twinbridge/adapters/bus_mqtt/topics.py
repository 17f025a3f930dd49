"""Where the processes of one edge node speak to each other.

Below `twinbridge/bus/v1/{node}/`; a driver is named by its owner id, one for each state
directory. Not for SCADA: the faces have topics of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

ROOT = "twinbridge/bus/v1"


@dataclass(frozen=True, slots=True)
class Topics:
    node: str

    @property
    def prefix(self) -> str:
        return f"{ROOT}/{self.node}/"

    def definitions(self, protocol: str) -> str:
        """Retained: all that a driver of this protocol needs to know."""
        return f"{self.prefix}definitions/{protocol}"

    def status(self, owner: str) -> str:
        """Retained, last will: whether that driver is there, and what it serves."""
        return f"{self.prefix}status/{owner}"

    def samples(self, owner: str) -> str:
        return f"{self.prefix}samples/{owner}"

    def input(self, device: str) -> str:
        """What rules in other processes read of that device."""
        return f"{self.prefix}inputs/{device}"

    def records(self, owner: str) -> str:
        """Alarms, audit and outcomes that the driver keeps until the agent has them."""
        return f"{self.prefix}records/{owner}"

    def taken(self, owner: str) -> str:
        """Up to which record the agent has them on its own disk."""
        return f"{self.prefix}taken/{owner}"

    @property
    def requests(self) -> str:
        return f"{self.prefix}requests"

    def replies(self, agent: str) -> str:
        return f"{self.prefix}replies/{agent}"

    def lease(self, protocol: str, owner: str) -> str:
        """Retained: which endpoints that driver claims and holds."""
        return f"{self.prefix}lease/{protocol}/{owner}"

    @property
    def agent(self) -> str:
        """Retained, last will: whether the agent is there."""
        return f"{self.prefix}agent"
