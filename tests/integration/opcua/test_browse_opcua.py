"""`twinbridge browse opcua` as a person runs it, against a real server."""

from __future__ import annotations

import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest
import yaml

from twinbridge.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent


def twinbridge(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """The command, in this process: starting twenty of them takes longer than what they do."""
    out, err = StringIO(), StringIO()
    command = ["twinbridge", *map(str, words)]
    with (
        patch.object(sys, "argv", command),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as end,
    ):
        main()
    code = end.value.code
    assert isinstance(code, int)
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    command = [sys.executable, str(HERE / "browsed_server.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield f"opc.tcp://127.0.0.1:{server.stdout.readline().strip()}"
        finally:
            server.kill()


def listed(*words: str) -> str:
    done = twinbridge("browse", "opcua", *words)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def line(text: str, name: str) -> str:
    """What stands behind a node's name."""
    (found,) = (each for each in text.splitlines() if each.lstrip("│├└─ ").startswith(f"{name}  "))
    return found.lstrip("│├└─ ").removeprefix(f"{name}  ")


def test_a_tree_shows_type_access_value_unit_range_and_node_id(url: str) -> None:
    shown = listed(url, "--path", "Boiler")
    where = "nsu=urn:test:browsed;s="
    assert line(shown, "Boiler") == f"{where}Boiler"
    assert line(shown, "Temperature") == (
        f"Double  ReadOnly  71.5 °C  -40..200  {where}Temperature"
    )
    assert line(shown, "Setpoint") == f"Int64  ReadWrite  3  {where}Setpoint"
    assert line(shown, "Tags") == f"Int64[3]  ReadOnly  …  {where}Tags"
    assert line(shown, "Broken") == f"Double  ReadOnly  BadSensorFailure  {where}Broken"
    assert line(shown, "Start") == f"method  {where}Start"
    assert "EURange" not in shown


def test_depth_ends_the_tree_and_says_so(url: str) -> None:
    shown = listed(url, "--path", "Boiler", "--depth", "1")
    assert "Heat  nsu=" in shown
    assert "Level" not in shown
    assert shown.count("… 1 below; --depth") == 2


def test_a_folder_of_50000_nodes_is_cut_with_a_note(url: str) -> None:
    shown = listed(url, "--path", "Big")
    assert "… 49,000 more; --limit" in shown
    assert shown.endswith("1,000 nodes\n")
    assert line(listed(url, "--path", "Big", "--limit", "1500"), "V1499").startswith("Double")


def test_one_node_of_50000_is_found_by_its_path_and_by_its_id(url: str) -> None:
    by_path = listed(url, "--path", "Big/V49999")
    assert line(by_path, "V49999") == "Double  ReadOnly  0.5  nsu=urn:test:browsed;s=V49999"
    by_id = listed(url, "--path", "nsu=urn:test:browsed;s=V49999")
    assert by_id.splitlines()[0].endswith("nsu=urn:test:browsed;s=V49999")


def test_the_servers_own_nodes_are_left_out_unless_asked_for(url: str) -> None:
    assert "… not opened; --path Server" in listed(url, "--depth", "2", "--limit", "20")
    assert "ServerStatus" in listed(url, "--path", "Server", "--depth", "1")


def test_a_model_of_all_is_one_that_validate_takes(url: str, tmp_path: Path) -> None:
    file = tmp_path / "boiler.yaml"
    words = ("browse", "opcua", url, "--path", "Boiler", "--model", "boiler", "--all", "-o")
    done = twinbridge(*words, file)
    assert (done.returncode, done.stdout) == (0, "")
    model = yaml.safe_load(file.read_text("utf-8"))
    properties = {each.pop("name"): each for each in model["spec"]["properties"]}
    assert properties["Temperature"] == {
        "type": "float",
        "unit": "Cel",
        "access": "ReadOnly",
        "minimum": -40.0,
        "maximum": 200.0,
        "opcua": {"node": "nsu=urn:test:browsed;s=Temperature"},
    }
    assert properties["Setpoint"]["access"] == "ReadWrite"
    assert properties["Label"]["type"] == "string"
    assert properties["Broken"]["type"] == "float"
    assert {"Heat.Level", "Cool.Level"} <= set(properties)
    alike = sorted(name for name in properties if name.startswith(("Gr", "Boiler.Gr")))
    assert len(alike) == 2
    assert "Tags" not in properties
    checked = twinbridge("validate", "-f", file)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_a_model_holds_only_what_was_chosen(url: str) -> None:
    chosen = ("--property", "Setpoint", "--property", "Heat.Level")
    done = twinbridge("browse", "opcua", url, "--path", "Boiler", "--model", "boiler", *chosen)
    model = yaml.safe_load(done.stdout)
    assert [each["name"] for each in model["spec"]["properties"]] == ["Setpoint", "Heat.Level"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--path", "Boiler/Temp"), "Boiler has no Temp; it has Broken, Cool"),
        (("--path", "nsu=urn:none;s=x"), "the server has no namespace urn:none"),
        (("--path", "nsu=urn:test:browsed;s=x"), "the server has no node nsu=urn:test:browsed;s=x"),
        (("--all",), "name it with --model"),
        (("--model", "m"), "--model needs either --property NAME"),
        (("--model", "Bad Name", "--all"), "--model Bad Name: a name is of a-z"),
        (("--path", "Boiler", "--model", "m", "--property", "Setpont"), "there is Setpoint"),
        (("--path", "Big", "--limit", "2500", "--model", "m", "--all"), "2500 properties are too"),
        (("--user", "operator"), "--user and --password-file belong together"),
        (("--user", "operator", "--password-file", "x"), "a user needs security"),
        (("--policy", "Basic256"), "security.policy"),
    ],
)
def test_wrong_input_is_told_with_exit_1(url: str, words: tuple[str, ...], said: str) -> None:
    done = twinbridge("browse", "opcua", url, *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr


def test_a_policy_that_is_not_offered_is_told_with_those_that_are(url: str, tmp_path: Path) -> None:
    policy = ("--policy", "Basic256Sha256", "--pki", str(tmp_path))
    done = twinbridge("browse", "opcua", url, *policy)
    assert done.returncode == 1
    assert "it offers None" in done.stderr


def test_a_server_that_is_away_is_exit_3() -> None:
    done = twinbridge("browse", "opcua", "opc.tcp://127.0.0.1:1")
    assert done.returncode == 3
    assert "opc.tcp://127.0.0.1:1 cannot be reached" in done.stderr
