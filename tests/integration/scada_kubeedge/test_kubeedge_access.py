"""The access list that the reference shows, on a broker that keeps to it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubeedge_rig import PUMP, Application, running_face
from mosquitto import Mosquitto

REFERENCE = Path(__file__).parents[3] / "docs/reference/kubeedge.md"
RESULTS = (f"{PUMP}/twin/update/result", f"{PUMP}/twin/get/result")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    shown = re.search(r"<!-- acl -->\n```\n(.*?)```", REFERENCE.read_text(), re.DOTALL)
    assert shown
    users = dict.fromkeys(["edge", "panel", "viewer"], "secret")
    with Mosquitto(tmp_path / "broker", users=users, acl=shown[1].splitlines()) as running:
        yield running


def test_by_the_list_of_the_reference_a_panel_may_set_and_a_viewer_only_look(
    broker: Mosquitto, tmp_path: Path
) -> None:
    async def scenario() -> None:
        password = tmp_path / "password"
        password.write_text("secret")
        url = f"mqtt://edge@127.0.0.1:{broker.port}?passwordFile={password}"
        with (
            Application(broker.port, *RESULTS, user="viewer") as viewer,
            Application(broker.port, *RESULTS, user="panel") as panel,
        ):
            async with running_face(url) as site:
                viewer.expect(PUMP, "viewer's", speed="1")
                viewer.ask(f"{PUMP}/twin/get", "look")
                assert "twin" in await viewer.answer(f"{PUMP}/twin/get", "look")
                assert site.edge.machines.desires == []
                panel.expect(PUMP, "panel's", speed="2")
                await panel.answer(f"{PUMP}/twin/update", "panel's")
                assert [desire.value for desire in site.edge.machines.desires] == [2]

    asyncio.run(scenario())
