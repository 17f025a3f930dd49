"""Every device is served once, and every write of every rule is made by one process."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rule_cases import rule

from twinbridge.core.model import PropertyRef
from twinbridge.core.rule import Act, Compare, Op, RuleInstance, Trip, Write
from twinbridge.core.share import Share, actors, exports, foreign_inputs, parse_share, split
from twinbridge.errors import InvalidInput

DEVICES = ("pump-1", "pump-2", "boiler", "fan")
devices = st.sampled_from(DEVICES)
refs = st.builds(PropertyRef, devices, st.sampled_from(["run", "speed"]))
writes = st.lists(st.builds(Write, refs, st.booleans()), max_size=4, unique=True).map(tuple)
some_writes = writes.filter(bool)


@st.composite
def instances(draw: st.DrawFn) -> RuleInstance:
    kind = draw(st.sampled_from(["trip", "act", "alarm"]))
    return replace(
        rule(Compare(draw(refs), Op.ABOVE, limit=1)),
        device=draw(devices),
        trip=Trip(draw(some_writes)) if kind == "trip" else None,
        act=Act(draw(some_writes), draw(writes)) if kind == "act" else None,
    )


homes = st.fixed_dictionaries({device: st.integers(0, 2) for device in DEVICES})


@given(st.lists(st.text(min_size=1), unique=True), st.integers(1, 9))
def test_the_shares_of_all_are_everything_and_nothing_twice(endpoints: list[str], of: int) -> None:
    for endpoint in endpoints:
        owners = [index for index in range(of) if Share(index, of).owns(endpoint, ())]
        assert len(owners) == 1


def test_a_share_is_the_same_in_every_version() -> None:
    ports = range(5020, 5032)
    owned = [port for port in ports if Share(0, 3).owns(f"tcp://127.0.0.1:{port}", ())]
    assert owned == [5021, 5028, 5031]


def test_a_share_asks_for_every_label() -> None:
    share = Share(labels=(("line", "bottling"), ("hall", "2")))
    assert share.owns("e", [("hall", "2"), ("line", "bottling"), ("more", "x")])
    assert not share.owns("e", [("line", "bottling")])
    assert not share.owns("e", [("line", "bottling"), ("hall", "3")])


def test_a_share_is_read_and_shown_alike() -> None:
    assert parse_share("0/3") == Share(0, 3)
    assert str(parse_share("2/3", ["line=bottling"])) == "2/3 line=bottling"


@pytest.mark.parametrize("text", ["", "3/3", "1", "0/0", "-1/3", "1/3/5", "a/b", "0/99999"])
def test_a_share_that_cannot_be_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(InvalidInput, match="0 ≤ i < n"):
        parse_share(text)


@pytest.mark.parametrize("selector", ["", "line", "=x", "line="])
def test_a_selector_that_selects_nothing_is_refused(selector: str) -> None:
    with pytest.raises(InvalidInput, match="label=value"):
        parse_share("0/1", [selector])


def all_writes(instance: RuleInstance) -> list[tuple[str, Write]]:
    trip, act = instance.trip, instance.act
    found = [("trip", write) for write in trip.writes] if trip else []
    if act:
        found += [("act", write) for write in act.writes]
        found += [("clear", write) for write in act.on_clear]
    return found


@given(instances(), homes)
def test_every_write_is_made_by_the_process_of_its_machine_and_by_no_other(
    instance: RuleInstance, home: dict[str, int]
) -> None:
    made: Counter[tuple[str, Write]] = Counter()
    for process in range(3):
        for part in split([instance], lambda device, p=process: home[device] == p):  # type: ignore[misc]  # bound at once
            assert part.id == instance.id
            assert {home[device] for device in actors(part)} == {process}
            made.update(all_writes(part))
    assert made == Counter(all_writes(instance))


@given(instances(), homes)
def test_a_plain_alarm_runs_once_where_its_device_is(
    instance: RuleInstance, home: dict[str, int]
) -> None:
    alarm = replace(instance, trip=None, act=None)
    ran = [p for p in range(3) if split([alarm], lambda device, p=p: home[device] == p)]  # type: ignore[misc]  # bound at once
    assert ran == [home[instance.device]]


@given(st.lists(instances(), max_size=4), homes)
def test_whatever_a_process_reads_of_others_is_exported(
    rules: list[RuleInstance], home: dict[str, int]
) -> None:
    exported = exports(rules, lambda _: "modbus")
    for process in range(3):
        mine = [device for device, at in home.items() if at == process]
        read = foreign_inputs(rules, mine.__contains__)
        assert read == foreign_inputs(split(rules, mine.__contains__), mine.__contains__)
        assert {ref.device for ref in read} <= exported


def test_a_rule_on_one_machine_alone_exports_nothing() -> None:
    assert exports([rule()], lambda _: "modbus") == frozenset()


def test_a_device_that_is_not_defined_is_not_exported() -> None:
    other = rule(trip=Trip((Write(PropertyRef("boiler", "run"), False),)))
    assert exports([other], lambda _: "opcua") == {"pump-1"}
    assert exports([other], {"boiler": "opcua"}.get) == frozenset()
