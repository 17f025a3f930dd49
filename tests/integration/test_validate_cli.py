"""`twinbridge validate` and `twinbridge crds` as processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[1] / "unit" / "api" / "pump.yaml"
COMMAND = "from twinbridge.cli.main import main; main()"


def twinbridge(*words: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", COMMAND, *map(str, words)]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)


def test_a_sound_plant_is_summed_up() -> None:
    done = twinbridge("validate", "-f", EXAMPLE)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"1 device, 1 rule: ok\n", b"")


def test_mistakes_go_to_stderr_one_a_line_with_exit_1(tmp_path: Path) -> None:
    file = tmp_path / "plant.yaml"
    text = EXAMPLE.read_text()
    file.write_text(
        text.replace("onBad: Trip}", "onBad: Tripp}").replace("value: true", "value: 1")
    )

    done = twinbridge("validate", "-f", file)

    lines = done.stderr.decode().splitlines()
    assert done.returncode == 1
    assert len(lines) == 2
    assert all(line.startswith(f"{file}:") for line in lines)
    assert b"did you mean 'Trip'" in done.stderr
    assert done.stdout == b"0 devices, 0 rules: 2 problems\n"


def test_stdin_is_read_and_hostile_bytes_are_told_without_a_traceback() -> None:
    assert twinbridge("validate", "-f", "-", stdin=EXAMPLE.read_bytes()).returncode == 0
    for bad in (b"\xff", b"[" * 200_000, b"a" * 10_000_000, b"a: &a [*a]", b"- 1", b"{"):
        done = twinbridge("validate", "-f", "-", stdin=bad)
        assert done.returncode == 1
        assert done.stderr.startswith(b"<stdin>")
        assert b"Traceback" not in done.stderr


def test_crds_are_printed_written_and_compared(tmp_path: Path) -> None:
    printed = twinbridge("crds").stdout.decode()
    assert printed.count("kind: CustomResourceDefinition") == 4

    assert twinbridge("crds", "--check", "--dir", tmp_path).returncode == 1
    assert twinbridge("crds", "--write", "--dir", tmp_path).returncode == 0
    assert twinbridge("crds", "--check", "--dir", tmp_path).returncode == 0

    rules = tmp_path / "rules.yaml"
    rules.write_text(rules.read_text().replace("- Armed", "- Armd"))
    changed = twinbridge("crds", "--check", "--dir", tmp_path)
    assert changed.returncode == 1
    assert b"Armd" in changed.stdout
