"""A `run` that is killed, starved of disk, given bad definitions, or told to stop."""

from __future__ import annotations

import random
import resource
import signal
import socket
import time
from functools import partial
from pathlib import Path

from edge_process import Edge, cli, edge, free_port, machines, until
from line import MODEL, RUN, TEMPERATURE, bank, device, hot_rule

from twinbridge_simulators.registers import RegisterBank, Table

ROUNDS = 4


def write(folder: Path, name: str, text: str) -> None:
    """As an editor that replaces the file in one go."""
    folder.mkdir(exist_ok=True)
    (folder / ".new").write_text(text)
    (folder / ".new").rename(folder / name)


def speed(running: Edge) -> dict[str, object]:
    desired = running.get("/api/v1/devices/a")["properties"]["speed"]["desired"]
    assert isinstance(desired, dict)
    return desired


def standing(running: Edge) -> bool:
    return bool(running.get("/api/v1/alarms")["items"])


def stopped(pump: RegisterBank) -> bool:
    return pump.get(Table.COIL, RUN) == (0,)


def test_what_was_accepted_outlives_kill_at_any_moment(tmp_path: Path) -> None:
    chance = random.Random(2)
    pump = bank(1)
    with machines({1: pump}) as plc:
        write(tmp_path / "y", "plant.yaml", MODEL + device("a", plc.port) + hot_rule("a"))
        accepted = 0
        for number in range(1, ROUNDS + 1):
            with edge(tmp_path / "y", tmp_path / "state") as running:
                running.ready()
                if number > 1:
                    assert speed(running)["value"] == accepted
                    assert running.get("/api/v1/alarms")["items"], "the latch stands"
                    assert pump.get(Table.COIL, RUN) == (0,)
                    pump.put(Table.COIL, RUN, 1)
                    until(partial(stopped, pump), "the latched trip stops it again")
                else:
                    pump.put(Table.HOLDING, TEMPERATURE, 90)
                    until(partial(standing, running), "the alarm")
                    until(partial(stopped, pump), "stopped")
                    pump.put(Table.HOLDING, TEMPERATURE, 20)
                for value in range(1, 50):
                    status, said = running.ask(
                        "PATCH", "/api/v1/devices/a/desired", {"speed": value}
                    )
                    assert status == 202, said
                    accepted = value
                    if chance.random() < 0.1:
                        break
                status, said = running.ask("PATCH", "/api/v1/devices/a/desired", {"run": True})
                assert status == 409, said
                if number % 2:
                    write(tmp_path / "y", "more.yaml", device("b", plc.port, 1, f"{number}s"))
                    running.process.send_signal(signal.SIGHUP)
                time.sleep(chance.uniform(0, 0.05))  # a random moment, not a wait
                running.kill()
            assert pump.get(Table.COIL, RUN) == (0,)


def test_a_kill_in_the_middle_of_a_trip_leaves_a_machine_that_is_stopped(tmp_path: Path) -> None:
    chance = random.Random(3)
    for number in range(ROUNDS):
        pump, folder = bank(1), tmp_path / str(number)
        with machines({1: pump}) as plc:
            write(tmp_path / "y", "plant.yaml", MODEL + device("a", plc.port) + hot_rule("a"))
            folder.mkdir()
            with edge(tmp_path / "y", folder / "state") as running:
                running.ready()
                pump.put(Table.HOLDING, TEMPERATURE, 90)
                time.sleep(chance.uniform(0, 0.12))  # a random moment, not a wait
                running.kill()
            with edge(tmp_path / "y", folder / "state") as again:
                again.ready()
                until(partial(stopped, pump), "stopped")
                until(partial(standing, again), "the alarm")
                assert again.ask("PATCH", "/api/v1/devices/a/desired", {"run": True})[0] == 409


def test_a_full_disk_stops_no_trip_and_is_said_and_recovers(tmp_path: Path) -> None:
    pump = bank(1)
    with machines({1: pump}) as plc:
        write(tmp_path / "y", "plant.yaml", MODEL + device("a", plc.port) + hot_rule("a"))
        with edge(tmp_path / "y", tmp_path / "state") as running:
            running.ready()
            before = resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (0, before[1]))
            status, said = running.ask("PATCH", "/api/v1/devices/a/desired", {"speed": 33})
            assert status == 503, said
            assert running.ask("GET", "/readyz")[0] == 503
            assert "state.db" in running.get("/readyz")["store"]
            assert "twinbridge_store_trouble 1.0" in running.get("/metrics")
            pump.put(Table.HOLDING, TEMPERATURE, 90)
            until(lambda: pump.get(Table.COIL, RUN) == (0,), "stopped on a full disk")
            resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, before)
            until(lambda: running.ask("GET", "/readyz")[0] == 200, "recovered")
            assert running.ask("PATCH", "/api/v1/devices/a/desired", {"speed": 34})[0] == 202
            assert running.get("/api/v1/alarms")["items"]


def test_edits_are_taken_up_refused_and_mended_while_it_runs(tmp_path: Path) -> None:
    with machines({1: bank(1)}) as first, machines({2: bank(2)}) as second:
        write(tmp_path / "y", "plant.yaml", MODEL + device("a", first.port))
        with edge(tmp_path / "y", tmp_path / "state") as running:
            running.ready()
            kept = set(first.connections)
            write(tmp_path / "y", "b.yaml", device("b", second.port, 2)[:-60])
            running.process.send_signal(signal.SIGHUP)
            until(lambda: "edit refused" in running.log, "the refusal")
            write(tmp_path / "y", "b.yaml", device("b", second.port, 2))
            running.process.send_signal(signal.SIGHUP)
            running.ready(connected=2)
            (tmp_path / "y" / "b.yaml").unlink()
            running.process.send_signal(signal.SIGHUP)
            until(lambda: running.ask("GET", "/api/v1/devices/b")[0] == 404, "b gone")
            assert set(first.connections) == kept
            write(tmp_path / "y", "b.yaml", device("b", second.port, 2))
            running.ready(connected=2)
            assert "Traceback" not in running.log


def test_sigterm_ends_it_with_dead_links_and_a_listener(tmp_path: Path) -> None:
    with machines({1: bank(1)}) as plc:
        dead = device("b", free_port()) + device("c", free_port())
        write(tmp_path / "y", "plant.yaml", MODEL + device("a", plc.port) + dead)
        with edge(tmp_path / "y", tmp_path / "state") as running:
            running.ready()
            with socket.create_connection(("127.0.0.1", running.port), 5) as listener:
                listener.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                assert b"200" in listener.recv(100)
                assert running.stop() == 0
            assert "Traceback" not in running.log, running.log


def test_a_start_that_cannot_be_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    with machines({1: bank(1)}) as plc:
        write(tmp_path / "y", "plant.yaml", MODEL + device("a", plc.port))
        here = ["-f", str(tmp_path / "y"), "--state-dir"]
        with edge(tmp_path / "y", tmp_path / "state") as running:
            running.ready()
            taken = f"127.0.0.1:{running.port}"
            free = f"127.0.0.1:{free_port()}"
            cases = [
                [*here, str(tmp_path / "state"), "--api", free],
                [*here, str(tmp_path / "other"), "--api", taken],
                [*here, str(tmp_path / "other"), "--api", free, "--api-token-file", "absent"],
                ["-f", "absent.yaml", "--state-dir", str(tmp_path / "other"), "--api", free],
            ]
            for case in cases:
                done = cli("run", *case)
                assert done.returncode == 1, (case, done)
                assert "Traceback" not in done.stderr + done.stdout, done
                assert done.stderr.splitlines()[-1].startswith("twinbridge: "), done
            running.ready()


def test_one_bad_resource_is_named_and_the_good_ones_run(tmp_path: Path) -> None:
    with machines({1: bank(1)}) as plc:
        bad = device("b", plc.port, model="nothing")
        write(tmp_path / "y", "plant.yaml", MODEL + device("a", plc.port) + bad)
        with edge(tmp_path / "y", tmp_path / "state") as running:
            running.ready()
            assert "Device/b" in running.get("/readyz")["problems"]
            assert "nothing" in running.log


def test_commands_say_by_their_exit_code_what_was_wrong(tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    assert cli("get", "devices", "--api", nobody).returncode == 3
    assert cli("set", "a", "speed=1", "--api", nobody).returncode == 3
    assert cli("get").returncode == 2
    assert cli("reset", "x", "--nonsense").returncode == 2
    with machines({1: bank(1)}) as plc:
        write(tmp_path / "y", "plant.yaml", MODEL + device("a", plc.port))
        with edge(tmp_path / "y", tmp_path / "state") as running:
            running.ready()
            api = f"http://127.0.0.1:{running.port}"
            for wrong in (["a", "speed=1000"], ["a", "sped=1"], ["b", "speed=1"]):
                done = cli("set", *wrong, "--api", api)
                assert done.returncode == 1, done
                assert "Traceback" not in done.stderr
            assert cli("reset", "none:a", "--reason", "x", "--api", api).returncode == 1
