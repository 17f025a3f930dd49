"""One endpoint, one writer, whatever becomes of owners, links and broker."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lease_world import World

from twinbridge.core.lease import CONTEST, FORGET, MARGIN, RENEW, TTL, Lease, Statement
from twinbridge.core.model import MILLISECOND, SECOND

OWNERS = ("a", "b", "c")
KEYS = ("k1", "k2", "k3")
QUIET = CONTEST + 6 * TTL

steps = st.tuples(
    st.integers(0, 12_000),  # ms until then
    st.sampled_from(
        [
            "cut",
            "heal",
            "reset",
            "stall",
            "kill",
            "start",
            "dark",
            "leave",
            "want",
            "slow",
            "broker",
            "broker forgets",
        ]
    ),
    st.sampled_from(OWNERS),
    st.integers(0, 7),
)


def play(world: World, action: str, owner: str, number: int) -> None:
    match action:
        case "cut" | "heal" | "reset" | "kill" | "start" | "leave":
            getattr(world, action)(owner)
        case "stall":
            world.stall(owner, (1 + 2 * number) * SECOND)
        case "dark":
            world.start(owner, trusting=KEYS)
        case "want":
            world.want(owner, [key for bit, key in enumerate(KEYS) if number >> bit & 1])
        case "slow":
            world.slowest = (10, 20, 50, 100, 500, 1000, 2000, 3000)[number] * MILLISECOND
        case "broker":
            world.restart_broker(forgets=False)
        case _:
            for cut in OWNERS:  # what a half-open link hides from its owner is told in the docs
                world.heal(cut)
            world.restart_broker(forgets=True)


def calm(world: World) -> None:
    world.slowest = 20 * MILLISECOND
    for owner in OWNERS:
        world.heal(owner)
        world.start(owner)
    world.run(QUIET)


@given(st.lists(steps, max_size=30), st.integers(0, 1000))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_key_has_two_sure_writers_and_in_the_end_each_has_one(
    schedule: list[tuple[int, str, str, int]], seed: int
) -> None:
    world = World(dict.fromkeys(OWNERS, KEYS), seed)
    for wait, action, owner, number in schedule:
        world.run(wait * MILLISECOND)  # checks after every event
        play(world, action, owner, number)
    calm(world)
    for key in KEYS:
        wanting = [node for node in world.nodes.values() if key in node.wanted]
        assert len(world.holders(key)) == (1 if wanting else 0)
        assert sum(key in node.lease.held for node in world.nodes.values()) == len(
            world.holders(key)
        )


@pytest.fixture
def pair() -> World:
    """`a` holds, `b` waits."""
    world = World({"a": ["k"], "b": []})
    world.run(2 * SECOND)
    world.want("b", ["k"])
    world.run(3 * SECOND)
    assert world.holders("k") == ["a"]
    return world


def lease(world: World, owner: str) -> Lease:
    return world.nodes[owner].lease


def test_the_first_takes_a_free_key_at_once() -> None:
    world = World({"a": ["k"]})
    world.run(1200 * MILLISECOND)
    assert world.holders("k") == ["a"]


def test_of_two_that_start_together_one_holds_and_the_other_waits() -> None:
    for seed in range(20):
        world = World({"a": ["k"], "b": ["k"]}, seed)
        world.run(4 * SECOND)
        assert len(world.holders("k")) == 1
        assert len(lease(world, "a").waiting) + len(lease(world, "b").waiting) == 1


def test_a_holder_sees_that_a_rival_waits(pair: World) -> None:
    assert lease(pair, "a").rivals(pair.now) == {"k"}
    assert lease(pair, "b").waiting == {"k"}
    pair.want("b", [])
    pair.run(SECOND)
    assert lease(pair, "a").rivals(pair.now) == frozenset()


def test_a_rival_takes_over_a_ttl_after_the_holder_died(pair: World) -> None:
    pair.kill("a")
    pair.run(TTL - RENEW - SECOND)
    assert not lease(pair, "b").held
    pair.run(RENEW + 2 * SECOND)
    assert pair.holders("k") == ["b"]


def test_a_rival_takes_over_at_once_from_one_who_leaves(pair: World) -> None:
    pair.leave("a")
    pair.run(200 * MILLISECOND)
    assert pair.holders("k") == ["b"]


def test_a_restarted_owner_takes_back_at_once_what_nobody_took(pair: World) -> None:
    pair.kill("a")
    pair.start("a")
    pair.run(1200 * MILLISECOND)
    assert pair.holders("k") == ["a"]


def test_a_holder_is_in_doubt_before_a_rival_takes_over(pair: World) -> None:
    pair.cut("a")
    pair.run(TTL - MARGIN)
    assert lease(pair, "a").doubt(pair.now)
    assert lease(pair, "a").rivals(pair.now) == {"k"}
    assert not lease(pair, "b").held
    pair.run(MARGIN + RENEW)
    assert pair.holders("k") == ["b"]


def test_who_returns_from_a_partition_gives_way(pair: World) -> None:
    pair.cut("a")
    pair.run(60 * SECOND)
    assert set(lease(pair, "a").held) == {"k"}  # in doubt, and its owner knows
    pair.heal("a")
    pair.run(5 * SECOND)
    assert not lease(pair, "a").held
    assert [(loss.key, loss.to) for loss in lease(pair, "a").losses] == [("k", "b")]
    assert pair.holders("k") == ["b"]


@pytest.mark.parametrize("forgets", [False, True])
def test_a_broker_outage_changes_no_holder(pair: World, forgets: bool) -> None:  # noqa: FBT001 - a parameter of the test
    pair.restart_broker(forgets=forgets)
    assert lease(pair, "a").doubt(pair.now)
    pair.run(5 * SECOND)
    assert pair.holders("k") == ["a"]
    assert not lease(pair, "a").losses


def test_a_start_in_the_dark_is_in_doubt_until_the_broker_confirms() -> None:
    world = World({"a": ["k"]})
    world.kill("a")
    world.cut("a")
    world.start("a", trusting=["k", "not ours"])
    world.run(10 * SECOND)
    assert set(lease(world, "a").held) == {"k"}
    assert lease(world, "a").doubt(world.now)
    world.heal("a")
    world.run(3 * SECOND)
    assert world.holders("k") == ["a"]


def test_a_key_no_longer_wanted_is_free_only_once_its_link_has_stopped(pair: World) -> None:
    a = lease(pair, "a")
    a.want((), pair.now)
    assert not a.held
    pair.nodes["a"].stopping = frozenset({"k"})
    pair.run(2 * SECOND)
    assert not lease(pair, "b").held
    pair.nodes["a"].stopping = frozenset()
    a.stopped()
    pair.run(RENEW + SECOND)
    assert pair.holders("k") == ["b"]


def test_what_the_dead_left_at_the_broker_is_cleared_away(pair: World) -> None:
    pair.kill("a")
    pair.run(FORGET + 2 * TTL)
    assert set(pair.kept) == {"b"}


def test_a_clock_counts_only_while_one_listens() -> None:
    b = Lease("b", "boot")
    b.want(["k"], 0)
    b.listen(0)
    b.heard("a", Statement("x", 1, (), ("k",)), 0, kept=True)
    b.lost()
    b.listen(60 * SECOND)
    for second in range(60, 65):
        say_and_hear(b, second * SECOND)
    assert b.waiting == {"k"}
    b.tick(65 * SECOND)
    say_and_hear(b, 65 * SECOND)
    say_and_hear(b, 65 * SECOND)
    assert set(b.held) == {"k"}


def test_old_words_that_come_late_are_no_sign_of_life() -> None:
    b = Lease("b", "boot")
    b.want(["k"], 0)
    b.listen(0)
    b.heard("a", Statement("x", 7, (), ("k",)), 0, kept=False)
    b.heard("a", Statement("x", 6, (), ()), SECOND, kept=False)
    say_and_hear(b, SECOND)
    say_and_hear(b, 2 * SECOND)
    assert not b.held
    b.heard("a", Statement("x", 7, (), ("k",)), TTL - 1, kept=False)
    b.tick(TTL)
    say_and_hear(b, TTL)
    say_and_hear(b, TTL)
    assert set(b.held) == {"k"}


def test_who_was_stopped_for_long_first_hears_what_it_missed() -> None:
    """Its timers run before its socket is read: the silence was its own."""
    b = Lease("b", "boot")
    b.want(["k"], 0)
    b.listen(0)
    b.heard("a", Statement("x", 1, (), ("k",)), 0, kept=False)
    for second in range(1, 5):
        say_and_hear(b, second * SECOND)
    b.tick(TTL)
    asks = b.say(TTL)
    assert asks.holds == ("k",)
    b.heard("a", Statement("x", 2, (), ("k",)), TTL + 1, kept=False)
    b.heard("b", asks, TTL + 40 * SECOND, kept=False)
    assert not b.held


def test_two_that_both_say_they_hold_end_with_the_smaller_id() -> None:
    a, b = Lease("a", "boot"), Lease("b", "boot")
    for one in (a, b):
        one.want(["k"], 0)
        one.listen(0)
        say_and_hear(one, 0)
        say_and_hear(one, 0)
        assert one.held
    for now in range(0, CONTEST + RENEW, RENEW):
        said = a.say(now), b.say(now)
        for one in (a, b):
            one.heard("a", said[0], now, kept=False)
            one.heard("b", said[1], now, kept=False)
    assert a.held
    assert not b.held
    assert [loss.contested for loss in b.losses] == [True]


def test_a_forged_number_does_not_make_others_deaf_to_us() -> None:
    a = Lease("a", "boot")
    a.want(["k"], 0)
    a.listen(0)
    say_and_hear(a, 0)
    a.heard("a", Statement("boot", 1_000_000), 1, kept=False)
    assert a.strange == 1
    assert a.say(2).n > 1_000_000


def test_what_has_been_overwritten_at_the_broker_is_said_again_soon() -> None:
    a = Lease("a", "boot")
    a.want(["k"], 0)
    a.listen(0)
    say_and_hear(a, 0)
    say_and_hear(a, 0)
    assert a.say_at == RENEW
    a.heard("a", Statement("somebody", 1, (), ("k",)), MILLISECOND, kept=False)
    assert a.say_at < SECOND
    assert a.held


def test_who_does_not_hear_itself_takes_nothing_and_says_so() -> None:
    a = Lease("a", "boot")
    a.want(["k"], 0)
    a.listen(0)
    for now in range(0, TTL, RENEW):
        assert a.say(now).claims == ("k",)
    assert not a.held
    assert a.mute(TTL)


def say_and_hear(one: Lease, now: int) -> Any:
    said = one.say(now)
    one.heard(one.owner, said, now, kept=False)
    return said
