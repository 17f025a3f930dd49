"""How a node stands to its hub: in its EdgeNode, and as a file in the form operators know."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from twinbridge.api.connectivity import Connectivity, load_connectivity, parse_size
from twinbridge.api.device_resources import Overrides
from twinbridge.api.resources import EdgeNodeSpec
from twinbridge.core.model import SECOND
from twinbridge.errors import InvalidDefinition

FILE = """\
mode: hybrid
online:
  sync_interval: 30s
  send_telemetry: false
  fetch_updates: true
  writes_per_second: 5
offline:
  buffer_data: true
  buffer_max_size: 500MiB
  buffer_max_age: 24h
  local_processing_only: true
on_disconnect: [save_state, buffer_queue, local_mode]
on_reconnect: [sync_buffered_data, fetch_missed_updates, resume_cloud_sync]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "connectivity.yaml"
    path.write_text(text, "utf-8")
    return path


def test_nothing_said_is_hybrid_with_a_buffer_of_a_gigabyte_and_a_week() -> None:
    said = EdgeNodeSpec.model_validate({}).connectivity

    assert said.mode == "hybrid"
    assert (said.online.sync_interval, said.online.writes_per_second) == (10 * SECOND, 20)
    assert said.offline.buffer_max_size == 1_000_000_000
    assert said.offline.buffer_max_age == 7 * 24 * 3600 * SECOND
    assert said.buffers
    assert said.fetches


def test_the_file_that_edge_operators_know_is_taken_as_it_is(tmp_path: Path) -> None:
    said = load_connectivity(written(tmp_path, FILE))

    assert said.online.sync_interval == 30 * SECOND
    assert said.online.send_telemetry is False
    assert said.offline.buffer_max_size == 500 << 20
    assert said.on_reconnect == [
        "sync_buffered_data",
        "fetch_missed_updates",
        "resume_cloud_sync",
    ]


def test_the_file_and_the_block_of_an_edge_node_say_the_same(tmp_path: Path) -> None:
    block = {
        "mode": "hybrid",
        "online": {"syncInterval": "30s", "sendTelemetry": False, "writesPerSecond": 5.0},
        "offline": {"bufferMaxSize": "500MiB", "bufferMaxAge": "24h"},
        "onDisconnect": ["saveState", "bufferQueue", "localMode"],
    }

    assert Connectivity.model_validate(block) == load_connectivity(written(tmp_path, FILE))


@pytest.mark.parametrize("text", [f"connectivity:\n  {FILE.replace(chr(10), chr(10) + '  ')}"])
def test_the_file_may_name_its_block(tmp_path: Path, text: str) -> None:
    assert load_connectivity(written(tmp_path, text)).online.sync_interval == 30 * SECOND


@pytest.mark.parametrize(
    ("line", "wrong", "told"),
    [
        ("mode: hybrid", "mode: sometimes", ":1:"),
        ("sync_interval: 30s", "sync_interval: 30", ":3:"),
        ("sync_interval: 30s", "sync_interval: 10ms", ":3:"),
        ("buffer_max_size: 500MiB", "buffer_max_size: 1 GB", ":9:"),
        ("buffer_max_size: 500MiB", "buffer_max_size: 1GB\n  bufer: 1", ":10:"),
        ("[save_state,", "[reboot, save_state,", ":12:"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, line: str, wrong: str, told: str) -> None:
    path = written(tmp_path, FILE.replace(line, wrong))

    with pytest.raises(InvalidDefinition, match=f"{path.name}{told}"):
        load_connectivity(path)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1GB", 10**9), ("1.5MB", 1_500_000), ("2KiB", 2048), ("7B", 7), ("1TiB", 1 << 40)],
)
def test_a_size_is_a_number_and_its_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["1", "GB", "-1GB", "1gb", "1 GB", "", 5, True, None])
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="no size"):
        parse_size(text)


def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidDefinition, match="one mapping"):
        load_connectivity(written(tmp_path, "[online]"))
    with pytest.raises(InvalidDefinition, match="cannot be read"):
        load_connectivity(tmp_path / "none.yaml")


def test_overrides_have_no_third_policy() -> None:
    assert Overrides().policy == "Local"
    assert Overrides().longest == 8 * 3600 * SECOND
    with pytest.raises(ValidationError, match="Local"):
        Overrides.model_validate({"policy": "Cloud"})
