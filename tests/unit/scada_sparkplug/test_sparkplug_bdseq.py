"""bdSeq over CONNECTs, restarts and damaged disks."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from twinbridge.adapters.scada_sparkplug.bdseq import BirthDeathSequence


def connects(folder: Path, times: int = 1) -> list[int]:
    sequence = BirthDeathSequence(folder)
    numbers = []
    for _ in range(times):
        sequence.reserve()
        numbers.append(sequence.use())
    return numbers


def test_the_first_connect_is_number_0_and_each_further_one_more(tmp_path: Path) -> None:
    assert connects(tmp_path, 3) == [0, 1, 2]


def test_255_is_followed_by_0(tmp_path: Path) -> None:
    assert connects(tmp_path, 258)[-3:] == [255, 0, 1]


def test_a_restart_goes_on_where_the_last_process_was(tmp_path: Path) -> None:
    assert connects(tmp_path, 2) + connects(tmp_path, 2) == [0, 1, 2, 3]


def test_a_connect_that_was_never_sent_leaves_its_number(tmp_path: Path) -> None:
    sequence = BirthDeathSequence(tmp_path)
    for _ in range(5):
        sequence.reserve()
    assert sequence.use() == 0
    sequence.reserve()
    assert (sequence.last, sequence.use(), sequence.last) == (0, 1, 1)


_CHILD = """
import os, signal, sys
from pathlib import Path
from twinbridge.adapters.scada_sparkplug.bdseq import BirthDeathSequence
sequence = BirthDeathSequence(Path(sys.argv[1]))
sequence.reserve()
print(sequence.use(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_number_that_went_out_before_a_kill_is_not_used_again(tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        child = subprocess.run(
            [sys.executable, "-c", _CHILD, str(tmp_path)],
            check=False,
            capture_output=True,
            timeout=60,
            text=True,
        )
        assert child.returncode == -signal.SIGKILL
        seen.append(int(child.stdout))
    assert seen + connects(tmp_path) == [0, 1, 2]


@pytest.mark.parametrize("content", [b"", b"256", b"-1", b"\xff\xfe", b"twelve", b"1" * 5000])
def test_a_damaged_file_means_a_new_start_and_is_said(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sparkplug-bdseq").write_bytes(content)
    assert connects(tmp_path, 2) == [0, 1]
    assert "begins anew" in capsys.readouterr().out
    assert connects(tmp_path) == [2]


def test_a_disk_that_refuses_is_said_once_and_counting_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    occupied = tmp_path / "occupied"
    occupied.write_text("a file where a folder should be")
    assert connects(occupied / "state", 3) == [0, 1, 2]
    assert capsys.readouterr().out.count("bdSeq is not kept") == 1


def test_nothing_is_left_beside_the_file(tmp_path: Path) -> None:
    connects(tmp_path / "state", 3)
    assert [f.name for f in (tmp_path / "state").iterdir()] == ["sparkplug-bdseq"]
