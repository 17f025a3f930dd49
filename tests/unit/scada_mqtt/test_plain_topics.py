from agent_rig import device
from hypothesis import given
from hypothesis import strategies as st

from twinbridge.adapters.scada_mqtt.topics import Layout, Topics, Verb, clean
from twinbridge.api.scada import PlainMqtt
from twinbridge.core.model import DeviceSpec


def topics(node: str = "edge-1", **options: object) -> Topics:
    return Topics(PlainMqtt.model_validate({"broker": "mqtt://broker", **options}), node)


def named(*devices: DeviceSpec) -> dict[str, DeviceSpec]:
    return {spec.name: spec for spec in devices}


@given(st.text())
def test_a_name_becomes_one_level_that_every_broker_takes(name: str) -> None:
    level = clean(name)
    assert level
    assert not set(level) & set("+/#.&%=\0")
    assert not level.startswith("$")
    assert level.isprintable() or all(ord(c) >= 0x20 for c in level)
    assert len(level.encode()) <= 4 * 253
    assert clean(level) == level


def test_a_device_is_placed_by_its_labels_and_one_it_lacks_is_an_underscore() -> None:
    found = topics(deviceTopic="{site}/{plant.io/line}/m-{device}")
    spec = device("pump.1", labels=(("plant.io/line", "a/b #1"),))
    assert found.base(spec) == "twinbridge/v1/edge-1/_/a_b _1/m-pump_1"


def test_the_prefix_names_the_node() -> None:
    assert topics("edge.1", prefix="plant/{node}/twins").status == "plant/edge_1/twins/status"


def test_two_devices_never_share_a_topic() -> None:
    found = topics(deviceTopic="{site}-{device}")
    first = device("b-c", labels=(("site", "a"),))
    second = device("c", labels=(("site", "a-b"),))
    layout = found.layout(named(first, second))
    assert list(layout.places) == ["b-c"]
    assert "b-c" in layout.problems["c"]


def test_who_has_a_topic_keeps_it_when_another_comes_that_wants_it() -> None:
    found = topics(deviceTopic="{site}-{device}")
    first = device("c", labels=(("site", "a-b"),))
    before = found.layout(named(first))
    second = device("b-c", labels=(("site", "a"),))
    layout = found.layout(named(first, second), before)
    assert list(layout.places) == ["c"]
    assert list(found.layout(named(second), layout).places) == ["b-c"]


def test_a_device_does_not_take_the_place_of_alarms_or_status() -> None:
    layout = topics(deviceTopic="{line}/{device}").layout(
        named(device("pump-1", labels=(("line", "alarms"),)), device("pump-2", labels=()))
    )
    assert list(layout.places) == ["pump-2"]
    assert "not for devices" in layout.problems["pump-1"]


def test_command_topics_are_understood_wherever_devices_stand() -> None:
    found = topics(deviceTopic="{line}/{device}", propertyTopics=True)
    layout = found.layout(named(device("pump-1")))
    target = found.target("twinbridge/v1/edge-1/bottling/pump-1/desired/set", layout)
    assert target is not None
    assert (target.verb, target.device) == (Verb.DESIRE, "pump-1")
    assert target.answer == "twinbridge/v1/edge-1/bottling/pump-1/desired/result"
    target = found.target("twinbridge/v1/edge-1/bottling/pump-1/speed/set", layout)
    assert target is not None
    assert (target.verb, target.device, target.name) == (Verb.SET, "pump-1", "speed")
    target = found.target("twinbridge/v1/edge-1/bottling/pump-9/desired/set", layout)
    assert target is not None
    assert target.device == ""
    target = found.target("twinbridge/v1/edge-1/alarms/overheat:pump-1:5/reset", layout)
    assert target is not None
    assert (target.verb, target.name) == (Verb.RESET, "overheat:pump-1:5")
    assert found.target("twinbridge/v1/edge-1/bottling/pump-1/twin", layout) is None
    assert found.target("twinbridge/v1/edge-1/set", layout) is None


def test_no_two_command_filters_match_one_topic() -> None:
    assert topics(deviceTopic="{line}/x/{device}").commands()[0] == (
        "twinbridge/v1/edge-1/+/x/+/desired/set"
    )
    with_properties = topics(propertyTopics=True).commands()
    assert with_properties[0] == "twinbridge/v1/edge-1/+/+/set"
    assert not [name for name in with_properties if name.endswith("desired/set")]


def test_only_what_this_node_left_behind_is_cleared() -> None:
    found = topics(prefix="shared")
    layout = found.layout(named(device("pump-1")))
    retained = {
        "shared/pump-1/twin": "edge-1",
        "shared/pump-1/temperature": "",  # of a run with propertyTopics
        "shared/pump-1/desired/set": "",  # a retained command is its publisher's
        "shared/gone/twin": "edge-1",
        "shared/gone/speed": "",
        "shared/other/twin": "edge-2",
        "shared/other/speed": "",
        "shared/alarms/overheat/gone": "edge-1",
        "shared/alarms/overheat/pump-1": "edge-1",
        "shared/alarms/overheat/other": "edge-2",
        "shared/status": "",
    }
    standing = frozenset(["shared/alarms/overheat/pump-1"])
    assert found.leftovers(retained, layout, standing, "edge-1") == [
        "shared/pump-1/temperature",
        "shared/gone/twin",
        "shared/gone/speed",
        "shared/alarms/overheat/gone",
    ]


def test_a_property_that_is_called_like_a_topic_of_its_device_has_none() -> None:
    spec = device()
    points = tuple(
        point
        if index
        else type(point)(point.ref, type(point.spec)("twin", point.spec.type), None, point.interval)
        for index, point in enumerate(spec.points)
    )
    odd = DeviceSpec("pump-1", "m", "edge-1", "fake", None, points)
    layout = topics(propertyTopics=True).layout(named(odd))
    assert "twin" not in layout.places["pump-1"].properties
    assert "every device" in layout.problems["pump-1/twin"]
    assert layout.places["pump-1"].settable.keys() == {"run", "speed", "label", "setpoint", "start"}
    assert "start" not in layout.places["pump-1"].properties


def test_an_empty_layout_shows_nothing() -> None:
    assert Layout().places == {}
