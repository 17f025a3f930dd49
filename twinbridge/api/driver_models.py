"""What the resources need to know of a driver: its models and its checks, no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from pydantic import BaseModel

from twinbridge.core.model import PropertySpec


class DriverModels(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def connection_model(self) -> type[BaseModel]: ...

    @property
    def address_model(self) -> type[BaseModel]: ...

    def check(self, spec: PropertySpec, address: BaseModel) -> Iterable[str]:
        """What is wrong between a property and its address, a sentence each."""

    def overlap(self, first: object, second: object) -> str | None:
        """Why two bound addresses of one endpoint cannot both be right, or None."""

    def bind(self, spec: PropertySpec, connection: BaseModel, address: BaseModel) -> object:
        """The address as the link wants it, with what it needs of the device's connection."""
