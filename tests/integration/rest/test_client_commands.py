"""The commands against an API on a real socket, each as a user's shell would run it."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from agent_rig import BOUND, device, overheat, running_api, trip_alarm, until

from twinbridge.rest.tokens import Tokens

RUN = "from twinbridge.cli.main import main; main()"


@dataclass
class Said:
    code: int | None
    out: str
    err: str


async def twinbridge(url: str, *words: str) -> Said:
    process = await start(url, *words)
    async with asyncio.timeout(6 * BOUND):
        out, err = await process.communicate()
    return Said(process.returncode, out.decode(), err.decode())


async def start(url: str, *words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        RUN,
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"TWINBRIDGE_API": url, "COLUMNS": "200"},
    )


def test_get_shows_twins_as_tables_json_and_yaml() -> None:
    async def story() -> None:
        async with running_api(device("a"), device("b"), rules=(overheat("a"),)) as edge:
            edge.machines.report("a", temperature=71.5)
            await until(lambda: edge.agent.twin("a").reported["temperature"].good)
            table, twin, rules = await asyncio.gather(
                twinbridge(edge.url, "get", "devices"),
                twinbridge(edge.url, "get", "a", "-o", "json"),
                twinbridge(edge.url, "get", "rules", "-o", "yaml"),
            )
            assert (table.code, table.err) == (0, "")
            assert [line.split()[0] for line in table.out.splitlines()] == ["NAME", "a", "b"]
            shown = json.loads(twin.out)
            assert shown["properties"]["temperature"]["reported"]["value"] == 71.5
            assert "name: overheat" in rules.out

    asyncio.run(story())


def test_set_asks_for_values_and_can_wait_for_their_outcome() -> None:
    async def story() -> None:
        async with running_api() as edge:
            done, refused, wrong = await asyncio.gather(
                twinbridge(edge.url, "set", "pump-1", "run=true", "speed=900", "--wait"),
                twinbridge(edge.url, "set", "pump-1", "speed=9999"),
                twinbridge(edge.url, "set", "pump-1", "speed"),
            )
            assert done.code == 0, done.err
            assert "pump-1/run: applied" in done.out
            assert edge.agent.desired.entry("pump-1", "speed").value == 900
            assert refused.code == 1
            assert "speed" in refused.err
            assert "1500" in refused.err
            assert "Traceback" not in refused.err + wrong.err
            assert wrong.code == 1

    asyncio.run(story())


def test_an_alarm_is_acknowledged_and_reset_by_rule_and_device() -> None:
    async def story() -> None:
        async with running_api() as edge:
            edge.machines.tell(replace(trip_alarm(), message="much too hot " * 20))
            await until(edge.agent.alarms.listed)
            piped = await twinbridge(edge.url, "get", "alarms")
            assert [len(line) > 150 for line in piped.out.splitlines()] == [True, True]
            said = await twinbridge(edge.url, "ack", "overheat:pump-1")
            assert (said.code, said.out) == (0, "overheat-1: acknowledged\n")
            hot = await twinbridge(edge.url, "reset", "overheat:pump-1", "--reason", "hot")
            assert hot.code == 1
            assert "not clear" in hot.err
            edge.machines.tell(replace(trip_alarm(), active=False))
            await until(lambda: not edge.agent.alarms.listed()[0].active)
            done = await twinbridge(edge.url, "reset", "overheat-1", "--reason", "cool")
            assert (done.code, done.out.split(":")[0]) == (0, "overheat-1")
            none = await twinbridge(edge.url, "reset", "overheat:pump-1", "--reason", "again")
            assert none.code == 1
            assert "get alarms" in none.err

    asyncio.run(story())


def test_events_and_watch_print_lines_where_there_is_no_terminal() -> None:
    async def story() -> None:
        async with running_api() as edge:
            events, watch = await asyncio.gather(
                start(edge.url, "events"), start(edge.url, "watch", "pump-1")
            )
            try:
                await until_followed(lambda: edge.agent.events.followers == 2)
                edge.machines.report("pump-1", temperature=71.5)
                async with asyncio.timeout(BOUND):
                    assert events.stdout
                    assert watch.stdout
                    told = json.loads(await events.stdout.readline())
                    line = (await watch.stdout.readline()).decode()
                assert told["event"] == "twin"
                assert told["properties"]["temperature"]["reported"]["value"] == 71.5
                assert line.startswith("pump-1/temperature reported 71.5 good ")
            finally:
                for process in (events, watch):
                    process.kill()
                    await process.communicate()

    asyncio.run(story())


async def until_followed(condition: Callable[[], bool]) -> None:
    """As `until`, with the time that two interpreters need to start."""
    for _ in range(6):
        try:
            return await until(condition)
        except TimeoutError:
            continue
    raise AssertionError("the commands did not connect")


def test_what_cannot_be_reached_is_said_with_exit_code_3(tmp_path: Path) -> None:
    async def story() -> None:
        gone = await twinbridge("http://127.0.0.1:1", "get", "devices")
        assert gone.code == 3
        assert "twinbridge run" in gone.err
        assert "Traceback" not in gone.err
        odd = await twinbridge("nonsense", "get", "devices")
        assert odd.code == 1
        assert "--api" in odd.err

    asyncio.run(story())


def test_a_token_is_taken_from_a_file_and_a_lack_of_it_is_said(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "tokens"
        path.write_text("viewer-token-123456 viewer Vera\n")
        async with running_api(tokens=Tokens(path)) as edge:
            with_it, without = await asyncio.gather(
                twinbridge(edge.url, "get", "devices", "--token-file", str(path)),
                twinbridge(edge.url, "get", "devices"),
            )
            assert with_it.code == 0
            assert without.code == 1
            assert "token" in without.err

    asyncio.run(story())
