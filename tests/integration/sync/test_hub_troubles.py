"""A hub that limits its rate, fails, or takes its time, and the edge that lives with it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from edge_process import machines, until
from hub_rig import RUN, SPEED, HubEdge, device, edge_node, model
from scripted_hub import Asked, ScriptedHub, status

from twinbridge_simulators.registers import RegisterBank, Table


@dataclass
class Troubled:
    hub: ScriptedHub
    edge: HubEdge
    bank: RegisterBank
    loop: asyncio.AbstractEventLoop
    port: int

    def desire(self, value: int) -> None:
        wish = [{"name": "speed", "value": value}]
        wanted = device("pump-1", 1, self.port, desired=wish)
        self.loop.call_soon_threadsafe(self.hub.put, wanted)

    def speed(self) -> int:
        return self.bank.get(Table.HOLDING, SPEED)[0]

    def tries(self) -> list[Asked]:
        return [one for one in self.hub.asked if one.verb == "PATCH" and "pump-1" in one.path]

    def told(self) -> object:
        """The speed in the status that came last."""
        twins: list[dict[str, Any]] = self.tries()[-1].body["status"].get("twins", [])
        found = next((one for one in twins if one["name"] == "speed"), {})
        return found.get("reported", {}).get("value")


@contextmanager
def troubled(folder: Path) -> Iterator[Troubled]:
    """An edge that has told what its machine says: a speed of 0."""
    bank, hub = RegisterBank(), ScriptedHub()
    bank.define(Table.HOLDING, SPEED)
    bank.define(Table.COIL, RUN)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="hub")
    thread.start()
    serving = hub.serving()
    asyncio.run_coroutine_threadsafe(serving.__aenter__(), loop).result(10)
    try:
        with machines({1: bank}) as server:
            for document in (edge_node(), model(), device("pump-1", 1, server.port)):
                loop.call_soon_threadsafe(hub.put, document)
            edge = HubEdge(hub.url, folder / "edge")
            edge.start()
            here = Troubled(hub, edge, bank, loop, server.port)
            try:
                until(lambda: here.tries() and here.told() == 0, "the first status")
                yield here
            finally:
                edge.kill()
    finally:
        leaving = serving.__aexit__(None, None, None)
        asyncio.run_coroutine_threadsafe(leaving, loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def too_many() -> web.Response:
    answer = status(429, "too many requests")
    answer.headers["Retry-After"] = "1"
    return answer


def no_leader() -> web.Response:
    return status(500, "etcdserver: no leader")


def test_a_hub_that_takes_no_status_keeps_no_command_and_is_told_the_present_in_the_end(
    tmp_path: Path,
) -> None:
    with troubled(tmp_path) as here:
        for number, answer in ((100, too_many), (200, no_leader)):
            here.hub.fault = lambda asked, answer=answer: (
                answer() if asked.verb == "PATCH" else None
            )
            here.desire(number)
            until(lambda number=number: here.speed() == number, "the command, at once")
            tried = len(here.tries())
            until(lambda tried=tried: len(here.tries()) > tried, "tried again")
        here.bank.put(Table.HOLDING, SPEED, 222)
        here.hub.fault = lambda _: None
        until(lambda: here.told() == 222, "what is so now, and no queue of what was", 30)


def test_a_hub_that_answers_after_five_seconds_is_no_outage(tmp_path: Path) -> None:
    with troubled(tmp_path) as here:
        here.hub.delay = 5.0
        here.desire(100)
        until(lambda: here.speed() == 100, "the command")
        assert here.edge.ask("GET", "/readyz")[1]["hub"] == "ok"
