from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from modbus_points import make_point

from twinbridge.core.model import Access, Point
from twinbridge_modbus import driver
from twinbridge_modbus.plan import Block, Knowledge, bound, plan_blocks

WIDTHS = {"int16": 1, "int32": 2, "int64": 4}


def registers(*places: tuple[int, str], connection: dict[str, Any] | None = None) -> list[Point]:
    return [
        make_point(
            f"p{n}", "int", table="holding", address=a, encoding=e, connection=connection or {}
        )
        for n, (a, e) in enumerate(places)
    ]


def extents(blocks: list[Block]) -> list[tuple[int, int]]:
    return [(block.address, block.count) for block in blocks]


@st.composite
def plants(draw: st.DrawFn) -> tuple[list[Point], Knowledge, dict[str, Any]]:
    connection: dict[str, Any] = {
        "maxBlock": draw(st.integers(5, 125)),
        "maxBits": draw(st.integers(1, 60)),
        "maxGap": draw(st.integers(0, 12)),
        "readSensitive": [
            {"table": "holding", "address": draw(st.integers(0, 90)), "count": 3}
            for _ in range(draw(st.integers(0, 2)))
        ],
    }
    points = [
        make_point(
            f"r{n}", "int", table=table, address=address, encoding=encoding, connection=connection
        )
        for n, (table, address, encoding) in enumerate(
            draw(
                st.lists(
                    st.tuples(
                        st.sampled_from(("holding", "input")),
                        st.integers(0, 90),
                        st.sampled_from(sorted(WIDTHS)),
                    ),
                    max_size=25,
                )
            )
        )
    ]
    points += [
        make_point(f"b{n}", "bool", table="coil", address=address, connection=connection)
        for n, address in enumerate(draw(st.lists(st.integers(0, 300), max_size=10)))
    ]
    points += [
        make_point(
            f"f{n}",
            "float",
            table="holding",
            address=address,
            encoding="int16",
            scaleFactor={"address": factor},
            connection=connection,
        )
        for n, (address, factor) in enumerate(
            draw(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 90)), max_size=4))
        )
    ]
    refused = draw(st.sets(st.integers(0, 95), max_size=5))
    cuts = draw(st.sets(st.integers(0, 95), max_size=5))
    known = Knowledge(
        {(1, "holding", a): "refused" for a in refused}, {(1, "holding", a) for a in cuts}
    )
    return points, known, connection


@given(plants())
def test_every_point_is_read_by_exactly_one_block(plant: Any) -> None:
    points, known, _ = plant
    blocks = plan_blocks(points, known)
    assert Counter(p for b in blocks for p in b.points) == Counter(points)
    for block in blocks:
        for point in block.points:
            where = bound(point)
            assert (where.unit, where.table) == (block.unit, block.table)
            assert block.address <= where.address
            assert where.end <= block.end


@given(plants())
def test_no_limit_of_the_device_is_broken(plant: Any) -> None:
    points, known, connection = plant
    for block in plan_blocks(points, known):
        for part in (block, *block.factors):
            most = connection["maxBits" if part.table == "coil" else "maxBlock"]
            assert 1 <= part.count <= most


@given(plants())
def test_nothing_forbidden_is_read_unasked_and_no_gap_is_too_wide(plant: Any) -> None:
    points, known, connection = plant
    sensitive = {
        a for r in connection["readSensitive"] for a in range(r["address"], r["address"] + 3)
    }
    refused = {address for _, _, address in known.refused}
    for block in plan_blocks(points, known):
        if block.table != "holding":
            continue
        asked = {a for p in block.points for a in range(bound(p).address, bound(p).end)}
        asked |= {w.factor[1] for w in map(bound, block.points) if w.factor}
        unasked = set(range(block.address, block.end)) - asked
        assert not unasked & (sensitive | refused)
        if not block.probe:
            assert not set(range(block.address, block.end)) & refused
        longest = run = 0
        for address in range(block.address, block.end):
            run = run + 1 if address in unasked else 0
            longest = max(longest, run)
        assert longest <= connection["maxGap"]


@given(plants())
def test_every_scale_factor_is_read_with_its_value(plant: Any) -> None:
    points, known, _ = plant
    for block in plan_blocks(points, known):
        for where in map(bound, block.points):
            if where.factor is not None:
                table, address = where.factor
                parts = (block, *block.factors)
                assert any(p.table == table and p.address <= address < p.end for p in parts)


def test_a_gap_is_closed_up_to_its_limit() -> None:
    near, far = registers((0, "int16"), (9, "int16")), registers((0, "int16"), (10, "int16"))
    assert extents(plan_blocks(near)) == [(0, 10)]
    assert extents(plan_blocks(far)) == [(0, 1), (10, 1)]


def test_a_full_block_ends_before_a_value_that_would_be_split() -> None:
    points = registers(*((a, "int32") for a in range(0, 130, 2)))
    assert extents(plan_blocks(points)) == [(0, 124), (124, 6)]


def test_a_lower_cap_of_the_device_is_kept() -> None:
    points = registers(*((a, "int16") for a in range(100)), connection={"maxBlock": 60})
    assert extents(plan_blocks(points)) == [(0, 60), (60, 40)]


def test_a_known_cut_is_never_joined_again() -> None:
    points = registers((0, "int16"), (1, "int16"))
    known = Knowledge(cuts={(1, "holding", 1)})
    assert extents(plan_blocks(points, known)) == [(0, 1), (1, 1)]


def test_an_atomic_group_is_read_in_one_request() -> None:
    points = [
        make_point(
            f"c{a}", "int", table="holding", address=a, encoding="int16", atomicGroup="counters"
        )
        for a in (0, 50)
    ]
    assert extents(plan_blocks(points)) == [(0, 51)]
    broken = plan_blocks(points, Knowledge({(1, "holding", 20): "refused"}))
    assert broken[0].unreadable


def test_a_near_scale_factor_is_part_of_the_block_and_a_far_one_a_request_of_its_own() -> None:
    def point(factor: int) -> Point:
        return make_point(
            "w", "float", table="holding", address=14, encoding="int16",
            scaleFactor={"address": factor},
        )  # fmt: skip

    assert extents(plan_blocks([point(15)])) == [(14, 2)]
    (far,) = plan_blocks([point(200)])
    assert (far.address, far.count) == (14, 1)
    assert extents(list(far.factors)) == [(200, 1)]


def test_fast_and_slow_points_are_not_read_together() -> None:
    slow = make_point("s", "int", table="holding", address=0, encoding="int16", interval=500)
    fast = make_point("f", "int", table="holding", address=1, encoding="int16", interval=20)
    assert len(plan_blocks([slow, fast])) == 2


def test_a_write_only_point_is_never_read() -> None:
    point = make_point("reset", "bool", table="coil", address=0, access=Access.WRITE_ONLY)
    assert plan_blocks([point]) == []


def test_a_block_says_what_it_costs_on_the_wire() -> None:
    (block,) = plan_blocks(registers((0, "int64")))
    assert (block.request_bytes, block.response_bytes) == (12, 17)
    (rtu,) = plan_blocks(registers((0, "int64"), connection={"transport": "rtuOverTcp"}))
    assert (rtu.request_bytes, rtu.response_bytes) == (8, 13)


def test_the_outline_names_the_wire_addresses() -> None:
    (read,) = driver.outline(registers((0x157C, "int32"), (0x1580, "int32")))
    assert read.where == "unit 1 holding 5500..5505"
    assert [p.spec.name for p in read.points] == ["p0", "p1"]


def test_a_serial_line_carries_so_many_bytes() -> None:
    def capacity(**line: Any) -> float | None:
        fields = {"transport": "serial", "serial": {"device": "/dev/ttyS0", **line}}
        return driver.capacity(driver.connection_model.model_validate(fields))

    assert capacity(baudrate=9600, parity="none") == 960
    assert capacity(baudrate=11000, parity="even") == 1000
    assert driver.capacity(driver.connection_model.model_validate({"host": "plc"})) is None
