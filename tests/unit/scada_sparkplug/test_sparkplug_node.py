"""What the edge node says when: births, data, deaths, and what was kept."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sparkplug_plant import (
    NOW,
    Said,
    a_device,
    a_node,
    a_plant,
    aliases,
    all_said,
    bad,
    good,
    verbs,
)

from twinbridge import __version__
from twinbridge.adapters.scada_sparkplug.backlog import DOUBT
from twinbridge.adapters.scada_sparkplug.node import LIVE_MOST, REBIRTH_EVERY
from twinbridge.adapters.scada_sparkplug.payload import DataType, Field, decode
from twinbridge.adapters.scada_sparkplug.speech import Outgoing
from twinbridge.core.messages import Samples
from twinbridge.core.model import Access, PropertySpec, Reason, ValueType


def seqs(said: list[Said]) -> list[int | None]:
    return [s.payload.seq for s in said]


# Births.


def test_the_node_is_born_first_then_each_device_that_answers() -> None:
    plant = a_plant("pump-1", "pump-2", "pump-3")
    plant.away.add("pump-2")
    node = a_node(plant)
    node.begin(7)
    said = all_said(node)
    assert verbs(said) == ["NBIRTH", "DBIRTH pump-1", "DBIRTH pump-3"]
    assert seqs(said) == [0, 1, 2]


def test_nothing_is_said_without_a_session() -> None:
    plant = a_plant()
    node = a_node(plant)
    node.take([plant.report("pump-1", ("speed", good(1))), plant.contact("pump-1", connected=True)])
    node.ask_rebirth()
    assert all_said(node) == []


def test_the_birth_of_the_node_has_its_bdseq_and_its_rebirth_without_alias() -> None:
    node = a_node(a_plant())
    node.begin(7)
    birth = all_said(node)[0]
    number, rebirth = birth.metric("bdSeq"), birth.metric("Node Control/Rebirth")
    assert (number.value, number.datatype, number.field) == (7, DataType.INT64, Field.LONG)
    assert (rebirth.value, rebirth.datatype) == (False, DataType.BOOLEAN)
    assert (rebirth.alias, number.alias) == (None, None)
    assert birth.metric("Node Info/Version").value == __version__
    assert all(m.timestamp == NOW and m.datatype is not None for m in birth.payload.metrics)


def test_a_birth_has_every_metric_with_its_type_value_and_time() -> None:
    plant = a_plant()
    plant.report("pump-1", ("temperature", good(71.5, NOW - 5)), ("speed", good(-3, NOW - 9)))
    node = a_node(plant)
    node.begin(0)
    birth = all_said(node)[1]
    temperature, speed, run = (birth.metric(n) for n in ("temperature", "speed", "run"))
    assert (temperature.value, temperature.datatype) == (71.5, DataType.DOUBLE)
    assert (speed.value, speed.datatype) == (2**64 - 3, DataType.INT64)
    assert (run.value, run.field, run.is_null, run.timestamp) == (None, None, True, NOW)
    assert birth.payload.timestamp == NOW
    assert {m.name for m in birth.payload.metrics} == {
        "temperature",
        "run",
        "speed",
        "label",
        "start",
    }


def test_a_birth_stands_in_the_order_of_time() -> None:
    plant = a_plant()
    plant.report("pump-1", ("temperature", good(1.0, NOW - 5)), ("speed", good(1, NOW - 9)))
    node = a_node(plant)
    node.begin(0)
    times = [m.timestamp for m in all_said(node)[1].payload.metrics]
    assert times == sorted(times, key=lambda t: t or 0)


def test_a_birth_says_quality_unit_range_and_what_is_read_only() -> None:
    plant = a_plant()
    plant.report("pump-1", ("temperature", good(71.5)), ("run", bad(True)))
    node = a_node(plant)
    node.begin(0)
    birth = all_said(node)[1]

    def about(name: str) -> dict[str, object]:
        return {p.name: p.value for p in birth.metric(name).properties}

    assert about("temperature") == {
        "Quality": 192,
        "engUnit": "Cel",
        "engLow": -40.0,
        "engHigh": 200.0,
        "readOnly": True,
    }
    assert about("run") == {"Quality": 0, "readOnly": False}
    assert about("start") == {"Quality": 192, "readOnly": False}
    assert birth.metric("start").is_null


def test_a_value_that_no_type_takes_is_null_and_bad() -> None:
    plant = a_plant()
    plant.report("pump-1", ("speed", good(2**63)))
    node = a_node(plant)
    node.begin(0)
    speed = all_said(node)[1].metric("speed")
    assert (speed.is_null, speed.properties[0].value) == (True, 0)


@pytest.mark.parametrize("at", [-11_644_473_600_000, 0, 2**63])
def test_a_time_that_is_none_is_the_present(at: int) -> None:
    plant = a_plant()
    plant.report("pump-1", ("speed", good(5, at)))
    node = a_node(plant)
    node.begin(0)
    assert all_said(node)[1].metric("speed").timestamp == NOW


def test_a_text_that_is_none_is_null_and_bad() -> None:
    plant = a_plant()
    plant.report("pump-1", ("label", good("\ud800")))
    node = a_node(plant)
    node.begin(0)
    label = all_said(node)[1].metric("label")
    assert (label.is_null, label.properties[0].value) == (True, 0)


# Aliases.


def test_no_two_metrics_share_an_alias() -> None:
    plant = a_plant("pump-1", "pump-2", "pump-3")
    node = a_node(plant)
    node.begin(0)
    given_out = [m.alias for s in all_said(node) for m in s.payload.metrics if m.alias is not None]
    assert len(given_out) == len(set(given_out)) == 3 * 5 + 5


def test_an_alias_stays_with_its_metric_over_births_and_sessions() -> None:
    plant = a_plant("pump-1", "pump-2")
    node = a_node(plant)
    node.begin(0)
    first = aliases(all_said(node))
    node.ask_rebirth()
    assert aliases(all_said(node)) == first
    node.end()
    node.begin(1)
    assert aliases(all_said(node)) == first


def test_the_alias_of_a_metric_that_is_gone_is_never_anothers() -> None:
    plant = a_plant("pump-1", "pump-2")
    node = a_node(plant)
    node.begin(0)
    first = aliases(all_said(node))
    node.take([plant.define(a_device("pump-2"))])
    all_said(node)
    node.take([plant.define(a_device("pump-2"), a_device("pump-3"), a_device("pump-1"))])
    second = aliases(all_said(node))
    assert not {a for (d, _), a in second.items() if d != "pump-2"} & set(first.values())


# Data.


def test_a_change_goes_out_by_its_alias_alone() -> None:
    plant = a_plant()
    node = a_node(plant)
    node.begin(0)
    alias = aliases(all_said(node))["pump-1", "temperature"]
    node.take([plant.report("pump-1", ("temperature", good(71.5, NOW + 3)))])
    (data,) = all_said(node)
    (metric,) = data.payload.metrics
    assert (data.verb, data.device, data.payload.seq) == ("DDATA", "pump-1", 2)
    assert (metric.name, metric.alias, metric.datatype) == (None, alias, None)
    assert (metric.value, metric.timestamp, metric.is_historical) == (71.5, NOW + 3, False)
    assert [(p.name, p.type, p.value) for p in metric.properties] == [("Quality", 3, 192)]


def test_a_value_that_turns_bad_keeps_its_value_and_time() -> None:
    plant = a_plant()
    node = a_node(plant)
    node.begin(0)
    all_said(node)
    node.take([plant.report("pump-1", ("speed", bad(5, Reason.STALE, NOW - 7)))])
    (metric,) = all_said(node)[0].payload.metrics
    assert (metric.value, metric.timestamp, metric.properties[0].value) == (5, NOW - 7, 500)


def test_changes_of_one_device_that_come_together_go_out_together() -> None:
    plant = a_plant("pump-1", "pump-2")
    node = a_node(plant)
    node.begin(0)
    all_said(node)
    node.take(
        [
            plant.report("pump-1", ("speed", good(1, NOW + 1))),
            plant.report("pump-2", ("speed", good(2, NOW + 1))),
            plant.report("pump-1", ("speed", good(3, NOW + 2))),
        ]
    )
    said = all_said(node)
    assert verbs(said) == ["DDATA pump-1", "DDATA pump-2"]
    assert [m.value for m in said[0].payload.metrics] == [1, 3]


def test_two_values_of_one_time_do_not_share_a_message() -> None:
    plant = a_plant()
    node = a_node(plant)
    node.begin(0)
    all_said(node)
    node.take([plant.report("pump-1", ("speed", good(1)), ("speed", good(2)), ("speed", good(3)))])
    said = all_said(node)
    assert [[m.value for m in s.payload.metrics] for s in said] == [[1], [2], [3]]


def test_after_a_clock_was_set_back_the_last_value_is_still_the_last() -> None:
    plant = a_plant()
    node = a_node(plant)
    node.begin(0)
    all_said(node)
    node.take([plant.report("pump-1", ("speed", good(1, NOW)), ("speed", good(2, NOW - 9)))])
    said = all_said(node)
    assert [[m.value for m in s.payload.metrics] for s in said] == [[1], [2]]


def test_the_numbers_go_round_over_node_and_devices() -> None:
    plant = a_plant("pump-1", "pump-2")
    node = a_node(plant)
    node.begin(0)
    numbers = seqs(all_said(node))
    for turn in range(300):
        node.take([plant.report("pump-1", ("speed", good(turn, NOW + turn)))])
        numbers += seqs(all_said(node))
    assert numbers == [n % 256 for n in range(303)]


def test_what_the_definition_does_not_have_is_not_said() -> None:
    plant = a_plant()
    node = a_node(plant)
    node.begin(0)
    all_said(node)
    node.take([Samples("pump-1", (("other", good(1)),)), Samples("nobody", (("x", good(1)),))])
    assert all_said(node) == []


# Devices that go and come.


def test_a_device_that_is_lost_dies_and_is_born_again_when_it_is_back() -> None:
    plant = a_plant("pump-1", "pump-2")
    node = a_node(plant)
    node.begin(0)
    all_said(node)
    node.take([plant.contact("pump-1", connected=False)])
    death, count = all_said(node)
    assert verbs([death, count]) == ["DDEATH pump-1", "NDATA"]
    assert (death.payload.metrics, death.payload.timestamp, death.payload.seq) == ((), NOW, 3)
    node.take([plant.report("pump-1", ("speed", good(4))), plant.contact("pump-1", connected=True)])
    birth = all_said(node)[0]
    assert verbs([birth]) == ["DBIRTH pump-1"]
    assert birth.metric("speed").value == 4


def test_a_contact_that_says_nothing_new_is_not_said() -> None:
    plant = a_plant("pump-1", "pump-2")
    plant.away.add("pump-2")
    node = a_node(plant)
    node.begin(0)
    all_said(node)
    node.take([plant.contact("pump-1", connected=True), plant.contact("pump-2", connected=False)])
    assert all_said(node) == []


def test_a_device_that_comes_and_goes_faster_than_it_is_told_stays_dead() -> None:
    plant = a_plant()
    plant.away.add("pump-1")
    node = a_node(plant)
    node.begin(0)
    all_said(node)
    came, went = plant.contact("pump-1", connected=True), plant.contact("pump-1", connected=False)
    node.take([came, went])
    assert all_said(node) == []
    assert node.device("pump-1") is None


def test_what_led_to_the_values_of_a_birth_comes_as_history_not_after_it() -> None:
    plant = a_plant()
    node = a_node(plant)
    node.begin(0)
    node.say()
    node.take([plant.report("pump-1", ("speed", good(1, NOW + 1)))])
    node.take([plant.report("pump-1", ("speed", good(2, NOW + 2)))])
    birth, data = all_said(node)
    assert birth.metric("speed").value == 2
    assert [(m.value, m.is_historical) for m in data.payload.metrics] == [(1, True)]


def test_the_node_says_how_many_devices_answer() -> None:
    plant = a_plant("pump-1", "pump-2")
    node = a_node(plant)
    node.begin(0)
    birth = all_said(node)[0]
    assert birth.metric("Node Info/Devices").value == 2
    connected = birth.metric("Node Info/Devices Connected")
    assert connected.value == 2
    node.take([plant.contact("pump-1", connected=False)])
    data = all_said(node)[-1]
    assert (data.verb, data.values) == ("NDATA", {connected.alias: 1})


# Definitions.


def test_a_new_device_is_born_a_changed_one_dies_first_a_removed_one_dies() -> None:
    plant = a_plant("pump-1", "pump-2")
    node = a_node(plant)
    node.begin(0)
    all_said(node)
    changed = a_device("pump-1", PropertySpec("flow", ValueType.FLOAT, Access.READ_WRITE))
    node.take([plant.define(changed, a_device("pump-3"))])
    said = all_said(node)
    assert verbs(said) == [
        "DDEATH pump-2",
        "DDEATH pump-1",
        "DBIRTH pump-1",
        "DBIRTH pump-3",
    ]
    assert [m.name for m in said[2].payload.metrics] == ["flow"]


def test_a_new_device_that_does_not_answer_is_not_born() -> None:
    plant = a_plant("pump-1")
    node = a_node(plant)
    node.begin(0)
    all_said(node)
    plant.away.add("pump-2")
    node.take([plant.define(plant.specs["pump-1"], a_device("pump-2"))])
    assert verbs(all_said(node)) == ["NDATA"]


def test_a_device_whose_id_is_anothers_is_not_shown_and_said_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plant = a_plant("pump/1", "pump+1")
    node = a_node(plant)
    node.begin(0)
    assert verbs(all_said(node)) == ["NBIRTH", "DBIRTH pump_1"]
    node.ask_rebirth()
    assert verbs(all_said(node)) == ["NBIRTH", "DBIRTH pump_1"]
    assert capsys.readouterr().out.count("its id is another's") == 1


def test_names_that_differ_only_by_case_are_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    plant = a_plant()
    properties = (PropertySpec(name, ValueType.INT) for name in ("speed", "Speed", "run"))
    plant.define(a_device("pump-1", *properties))
    node = a_node(plant)
    node.begin(0)
    assert {m.name for m in all_said(node)[1].payload.metrics} == {"speed", "Speed", "run"}
    assert "Speed" in capsys.readouterr().out


# Rebirth.


def test_a_rebirth_says_everything_again_with_the_same_bdseq() -> None:
    plant = a_plant()
    node = a_node(plant)
    node.begin(9)
    first = all_said(node)
    node.take([plant.report("pump-1", ("speed", good(4, NOW + 1)))])
    node.ask_rebirth()
    again = all_said(node)
    assert verbs(again) == ["NBIRTH", "DBIRTH pump-1", "DDATA pump-1"]
    assert seqs(again) == [0, 1, 2]
    assert again[0].metric("bdSeq") == first[0].metric("bdSeq")
    assert again[1].metric("speed").value == 4
    assert again[2].historical


def test_a_host_that_asks_all_the_time_gets_a_birth_in_five_seconds_and_its_data() -> None:
    plant = a_plant()
    node = a_node(plant)
    node.begin(0)
    all_said(node)
    births, values = 0, []
    for turn in range(1000):
        plant.mono = turn * 0.01
        node.ask_rebirth()
        node.take([plant.report("pump-1", ("speed", good(turn, NOW + turn)))])
        for said in all_said(node):
            births += said.verb == "NBIRTH"
            values += [m.value for m in said.payload.metrics if m.name is None]
    assert births == 2
    assert values == list(range(1000))


def test_a_rebirth_that_is_asked_too_soon_comes_when_it_may() -> None:
    plant = a_plant()
    node = a_node(plant)
    node.begin(0)
    all_said(node)
    node.ask_rebirth()
    all_said(node)
    assert node.due_in is None
    plant.mono = 2.0
    node.ask_rebirth()
    assert all_said(node) == []
    assert node.due_in == REBIRTH_EVERY - 2.0
    plant.mono = REBIRTH_EVERY
    assert node.due_in == 0
    assert verbs(all_said(node)) == ["NBIRTH", "DBIRTH pump-1"]


def test_a_follower_that_fell_behind_is_born_anew() -> None:
    plant = a_plant()
    node = a_node(plant)
    node.begin(0)
    all_said(node)
    plant.report("pump-1", ("speed", good(8)))
    plant.define(plant.specs["pump-1"], a_device("pump-2"))
    node.fell_behind()
    said = all_said(node)
    assert verbs(said) == ["NBIRTH", "DBIRTH pump-1", "DBIRTH pump-2"]
    assert said[1].metric("speed").value == 8


def test_a_broker_that_stays_too_slow_gets_births_instead_of_a_queue_without_end() -> None:
    plant = a_plant()
    node = a_node(plant, keep=0)
    node.begin(0)
    all_said(node)
    for turn in range(LIVE_MOST + 1):
        node.take([plant.report("pump-1", ("speed", good(turn, NOW + turn)))])
    said = all_said(node)
    assert verbs(said) == ["NBIRTH", "DBIRTH pump-1"]
    assert said[0].metric("Node Info/Lost Samples").value == LIVE_MOST + 1


# Store and forward.


def test_what_changed_without_a_session_comes_after_the_births_as_history() -> None:
    plant = a_plant()
    node = a_node(plant)
    for turn in range(3):
        node.take([plant.report("pump-1", ("speed", good(turn, NOW + turn)))])
    node.begin(0)
    node_birth, birth, data = all_said(node)
    assert verbs([node_birth, birth]) == ["NBIRTH", "DBIRTH pump-1"]
    assert birth.metric("speed").value == 2
    assert not birth.historical
    told = [(m.value, m.timestamp, m.is_historical) for m in data.payload.metrics]
    assert told == [(turn, NOW + turn, True) for turn in range(3)]


def test_history_comes_before_what_changes_later() -> None:
    plant = a_plant()
    node = a_node(plant)
    node.take([plant.report("pump-1", ("speed", good(1, NOW + 1)))])
    node.begin(0)
    said = all_said(node)
    node.take([plant.report("pump-1", ("speed", good(2, NOW + 2)))])
    said += all_said(node)
    assert [m.is_historical for s in said if s.verb == "DDATA" for m in s.payload.metrics] == [
        True,
        False,
    ]


def test_live_values_do_not_wait_for_a_long_history() -> None:
    plant = a_plant()
    node = a_node(plant, keep=10_000)
    for turn in range(2000):
        node.take([plant.report("pump-1", ("speed", good(turn, NOW + turn)))])
    node.begin(0)
    said: list[bool] = []
    for step in range(3):
        if step == 2:
            node.take([plant.report("pump-1", ("speed", good(1, NOW + 9999)))])
        said += [decode(m.payload).metrics[0].is_historical for m in node.say()]
    assert said == [False, False, False, True]  # births, the live value, and then history


def test_of_too_many_changes_the_oldest_go_and_are_counted() -> None:
    plant = a_plant()
    node = a_node(plant, keep=10)
    for turn in range(25):
        node.take([plant.report("pump-1", ("speed", good(turn, NOW + turn)))])
    node.begin(0)
    said = all_said(node)
    assert said[0].metric("Node Info/Lost Samples").value == 15
    assert [m.value for m in said[2].payload.metrics] == list(range(15, 25))


def test_nothing_is_kept_where_nothing_shall_be() -> None:
    plant = a_plant()
    node = a_node(plant, keep=0)
    node.take([plant.report("pump-1", ("speed", good(1)))])
    node.begin(0)
    assert verbs(all_said(node)) == ["NBIRTH", "DBIRTH pump-1"]


def test_the_history_of_a_device_that_is_away_waits_for_its_birth() -> None:
    plant = a_plant("pump-1", "pump-2")
    node = a_node(plant)
    node.take([plant.report("pump-1", ("speed", good(1)))])
    node.take([plant.report("pump-2", ("speed", good(2)))])
    plant.away.add("pump-1")
    node.begin(0)
    assert verbs(all_said(node)) == ["NBIRTH", "DBIRTH pump-2", "DDATA pump-2"]
    node.take([plant.contact("pump-1", connected=True)])
    birth, *rest = all_said(node)
    assert verbs([birth]) == ["DBIRTH pump-1"]
    (data,) = (s for s in rest if s.verb == "DDATA")
    assert [(m.value, m.is_historical) for m in data.payload.metrics] == [(1, True)]


def test_the_history_of_a_device_that_is_gone_is_counted_as_lost() -> None:
    plant = a_plant("pump-1", "pump-2")
    node = a_node(plant)
    node.take([plant.report("pump-1", ("speed", good(1)))])
    plant.define(plant.specs["pump-2"])
    node.begin(0)
    said = all_said(node)
    assert verbs(said) == ["NBIRTH", "DBIRTH pump-2", "NDATA"]
    assert list(said[-1].values.values()) == [1]


def test_what_was_said_right_before_the_session_ended_is_said_again() -> None:
    plant = a_plant()
    node = a_node(plant)
    node.begin(0)
    all_said(node)
    node.take([plant.report("pump-1", ("speed", good(1, NOW + 1)))])
    all_said(node)
    plant.mono = DOUBT + 1
    node.take([plant.report("pump-1", ("speed", good(2, NOW + 2)))])
    all_said(node)
    node.end()
    node.take([plant.report("pump-1", ("speed", good(3, NOW + 3)))])
    node.begin(1)
    data = all_said(node)[-1]
    assert [(m.value, m.is_historical) for m in data.payload.metrics] == [(2, True), (3, True)]


# All of it at once.

EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("report"), st.sampled_from(["pump-1", "pump-2"])),
        st.tuples(st.just("lost"), st.sampled_from(["pump-1", "pump-2"])),
        st.tuples(st.just("back"), st.sampled_from(["pump-1", "pump-2"])),
        st.tuples(st.just("redefine"), st.sampled_from(["pump-1", "pump-2"])),
        st.tuples(st.just("remove"), st.sampled_from(["pump-1", "pump-2"])),
        st.tuples(st.sampled_from(["begin", "end", "rebirth", "behind", "say", "step"])),
    ),
    max_size=40,
)


@given(EVENTS)
@settings(max_examples=150, deadline=None)
def test_a_host_never_needs_to_ask_for_a_rebirth(events: list[tuple[str, ...]]) -> None:
    """Whatever happens: numbers without gap, no data without birth, no alias that no birth had,
    and in the end what the host holds is what the twins hold.
    """
    story = Story()
    for what, *of in events:
        getattr(story, what)(*of)
    story.begin()
    story.plant.mono += 10
    story.say()
    plant = story.plant
    alive = {name for name in plant.specs if name not in plant.away}
    assert story.host.speeds == {n: plant.samples[n]["speed"].value for n in alive}


class Story:
    """What happens to a plant, its node, and a host that listens."""

    def __init__(self) -> None:
        self.plant = a_plant("pump-1", "pump-2")
        self.node = a_node(self.plant, keep=50)
        self.host = Host()
        self._in_session = False
        self._turn = 0

    def report(self, name: str) -> None:
        self._turn += 1
        if name in self.plant.specs:
            sample = good(self._turn, NOW + self._turn)
            self.node.take([self.plant.report(name, ("speed", sample))])

    def lost(self, name: str) -> None:
        if name in self.plant.specs:
            self.node.take([self.plant.contact(name, connected=False)])

    def back(self, name: str) -> None:
        if name in self.plant.specs:
            self.node.take([self.plant.contact(name, connected=True)])

    def redefine(self, name: str) -> None:
        others = [spec for n, spec in self.plant.specs.items() if n != name]
        self.node.take([self.plant.define(*others, a_device(name))])

    def remove(self, name: str) -> None:
        others = (spec for n, spec in self.plant.specs.items() if n != name)
        self.node.take([self.plant.define(*others)])

    def begin(self) -> None:
        if not self._in_session:
            self.node.begin(0)
        self._in_session = True

    def end(self) -> None:
        self.node.end()
        self.host = Host()
        self._in_session = False

    def rebirth(self) -> None:
        self.plant.mono += 3.0
        self.node.ask_rebirth()

    def behind(self) -> None:
        self.node.fell_behind()

    def step(self) -> None:
        self.host.hear(self.node.say())

    def say(self) -> None:
        while messages := self.node.say():
            self.host.hear(messages)


class Host:
    """A host application that checks what a rebirth would be asked for (5.8)."""

    def __init__(self) -> None:
        self.speeds: dict[str, object] = {}
        self._names: dict[str, dict[int, str]] = {}
        self._seq = -1

    def hear(self, messages: Sequence[Outgoing]) -> None:
        for topic, content in messages:
            payload = decode(content)
            _, _, verb, _, *rest = topic.split("/")
            device = rest[0] if rest else ""
            if verb == "NBIRTH":
                self._names, self.speeds, self._seq = {}, {}, -1
            self._seq = (self._seq + 1) % 256
            assert payload.seq == self._seq
            if verb in ("NBIRTH", "DBIRTH"):
                assert device not in self._names
                self._names[device] = {m.alias: m.name or "" for m in payload.metrics if m.alias}
                if device:
                    (speed,) = (m for m in payload.metrics if m.name == "speed")
                    self.speeds[device] = speed.value
            elif verb == "DDEATH":
                del self._names[device], self.speeds[device]
            for metric in payload.metrics if verb in ("DDATA", "NDATA") else ():
                assert metric.alias is not None
                name = self._names[device][metric.alias]
                if device and name == "speed" and not metric.is_historical:
                    self.speeds[device] = metric.value
