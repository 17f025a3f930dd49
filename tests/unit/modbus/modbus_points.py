"""Short ways to make Modbus points."""

from __future__ import annotations

from typing import Any

from twinbridge.core.model import Access, Point, PropertyRef, PropertySpec, ValueType
from twinbridge_modbus import driver


def make_point(
    name: str,
    kind: str,
    *,
    access: Access = Access.READ_ONLY,
    connection: dict[str, Any] | None = None,
    interval: int = 1,
    limits: tuple[float | None, float | None] = (None, None),
    pulse: bool = False,
    **address: Any,
) -> Point:
    spec = PropertySpec(
        name, ValueType(kind), access, minimum=limits[0], maximum=limits[1], pulse=pulse
    )
    model = driver.address_model.model_validate(address)
    wire = driver.connection_model.model_validate({"host": "127.0.0.1", **(connection or {})})
    return Point(PropertyRef("plc", name), spec, driver.bind(spec, wire, model), interval)
