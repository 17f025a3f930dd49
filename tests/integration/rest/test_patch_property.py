"""Whatever is sent as a patch: it is taken up whole or not at all, and never breaks the API."""

import asyncio
import json

from agent_rig import PROPERTIES, Edge, running_api
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NAMES = st.sampled_from([spec.name for spec in PROPERTIES]) | st.text(max_size=5)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=True)
    | st.text(max_size=8)
)
WISHES = SCALARS | st.fixed_dictionaries(
    {"value": SCALARS}, optional={"validFor": st.sampled_from(["1s", "0s", "x", "10h"])}
)
ODD = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
BODIES = st.lists(st.dictionaries(NAMES, WISHES | ODD, max_size=4), min_size=10, max_size=30)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(BODIES)
def test_a_patch_is_taken_up_whole_or_not_at_all(bodies: list[dict[str, object]]) -> None:
    async def story() -> None:
        async with running_api() as edge:
            for body in bodies:
                await _check(edge, body)

    asyncio.run(story())


async def _check(edge: Edge, body: dict[str, object]) -> None:
    before = _desired(edge)
    answer = await edge.http.patch(
        "/devices/pump-1/desired",
        content=json.dumps(body),
        headers={"Content-Type": "application/json"},
    )
    after = _desired(edge)
    changed = {n for n in after if _asked(after[n]) != _asked(before[n])}
    if answer.status_code == 202:
        wished = {n for n, w in body.items() if w is not None}
        assert changed >= wished
        assert changed <= set(body)
        assert all(after[n] is None for n, w in body.items() if w is None)
    else:
        assert answer.status_code in (400, 422), answer.text
        assert answer.json()["detail"]
        assert not changed


def _asked(desired: dict[str, object] | None) -> object:
    return desired and (desired["value"], desired["version"])


def _desired(edge: Edge) -> dict[str, dict[str, object] | None]:
    return {spec.name: edge.agent.desired.view("pump-1", spec.name) for spec in PROPERTIES}
