"""A device that refuses whatever it likes is found out in bounded steps."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st
from modbus_points import make_point

from twinbridge.core.model import Quality
from twinbridge_modbus.answers import exception_answer
from twinbridge_modbus.config import ModbusConnection
from twinbridge_modbus.link import ModbusLink
from twinbridge_modbus.plan import bound

if TYPE_CHECKING:
    from twinbridge.core.model import Point
    from twinbridge.ports import Reading


class PickyDevice(ModbusLink):
    """Answers without a wire: register n holds n, but some are missing and long reads refused."""

    def __init__(self, missing: set[int], longest: int) -> None:
        super().__init__(ModbusConnection(host="plc"), "plc")
        self._missing, self._longest = missing, longest

    async def _ask(self, unit: int, pdu: bytes, timeout: float) -> bytes:  # noqa: ASYNC109 - the link's own
        first, count = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
        wanted = range(first, first + count)
        if count > self._longest or not self._missing.isdisjoint(wanted):
            raise exception_answer(3 if count > self._longest else 2, f"unit {unit}")
        return bytes((pdu[0], 2 * count)) + b"".join(n.to_bytes(2, "big") for n in wanted)


async def settle(link: ModbusLink, points: list[Point]) -> dict[Point, Reading]:
    """Poll until nothing is left to find out."""
    for _ in range(40):
        found: dict[Point, Reading] = {}
        replan = False
        for request in link.plan(points):
            result = await link.read(request)
            replan = replan or result.replan
            found |= {reading.point: reading for reading in result.readings}
        if not replan:
            return found
    raise AssertionError("still searching after 40 polls")


@settings(deadline=None, max_examples=40)
@given(
    places=st.sets(st.integers(0, 60), min_size=1, max_size=40),
    missing=st.sets(st.integers(0, 60), max_size=25),
    longest=st.integers(1, 30),
)
def test_in_the_end_only_what_the_device_lacks_is_bad(
    places: set[int], missing: set[int], longest: int
) -> None:
    points = [
        make_point(f"p{n}", "int", table="holding", address=n, encoding="uint16") for n in places
    ]
    found = asyncio.run(settle(PickyDevice(missing, longest), points))
    assert set(found) == set(points)
    for point, reading in found.items():
        address = bound(point).address
        if address in missing:
            assert reading.quality is Quality.BAD
        else:
            assert (reading.quality, reading.value) == (Quality.GOOD, address)
