"""Whatever was saved in whatever order, a restart finds the last of each."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st

from twinbridge.adapters.store_sqlite import open_store
from twinbridge.core.alarm import Alarm
from twinbridge.ports import StoredDesired, StoredState, TwinStore
from twinbridge.testing.fakes import FakeStore
from twinbridge.testing.store_contract import DESIRED, LATCH, good

names = st.sampled_from(["a", "c/ä"])
values = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
)

Step: TypeAlias = tuple[str, object]

desired = st.builds(
    lambda device, name, value, version: replace(
        DESIRED, device=device, property=name, value=value, version=version
    ),
    names, names, values, st.integers(1, 9),
)  # fmt: skip
alarms = st.builds(
    lambda id_, active, acked, latched, held: replace(
        LATCH, id=id_, active=active, acked=acked, latched=latched, holds=(("a", "b", held),)
    ),
    names, st.booleans(), st.booleans(), st.booleans(), values,
)  # fmt: skip
steps: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("desired"), desired),
    st.tuples(st.just("alarm"), alarms),
    st.tuples(st.just("mode"), st.tuples(names, st.sampled_from(["Armed", "DryRun"]))),
    st.tuples(st.just("forget"), names),
    st.tuples(st.just("reported"), st.tuples(names, names, values, st.integers(0, 2**62))),
    st.just(("restart", None)),
)


async def take(store: TwinStore, step: Step) -> None:
    match step:
        case ("desired", StoredDesired() as entry):
            await store.save_desired(entry)
        case ("alarm", Alarm() as alarm):
            await store.save_alarm(alarm)
        case ("mode", (str(rule), str(mode))):
            await store.save_mode(rule, mode)
        case ("forget", str(device)):
            await store.forget_desired(device)
        case ("reported", (str(device), str(name), (bool() | int() | float() | str()) as value,
                           int(at))):  # fmt: skip
            store.record_reported(device, [(name, good(value, at))])


def comparable(state: StoredState) -> object:
    return (
        {(d.device, d.property): (d, type(d.value)) for d in state.desired},
        {alarm.id: alarm for alarm in state.alarms},
        dict(state.modes),
        {device: dict(samples) for device, samples in state.reported.items()},
        state.readable,
    )


async def replay(folder: Path, story: list[Step]) -> None:
    fake = FakeStore()
    runs: list[list[Step]] = [[]]
    for step in story:
        if step[0] == "restart":
            runs.append([])
        else:
            runs[-1].append(step)
    for run in runs:
        async with open_store(folder) as store:
            await store.load()
            for step in run:
                await take(store, step)
                await take(fake, step)
    async with open_store(folder) as store:
        assert comparable(await store.load()) == comparable(await fake.load())


@settings(max_examples=25, deadline=None)
@given(st.lists(steps, min_size=8, max_size=40))
def test_a_reload_finds_the_last_of_everything_saved(story: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(replay(Path(folder), story))
