"""The Dockerfile as its stages and instructions, without a daemon to build it."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[3]
_FROM = re.compile(r"(?P<base>\S+) AS (?P<name>\S+)")


@dataclass(frozen=True)
class Instruction:
    name: str
    said: str

    @property
    def words(self) -> list[str]:
        """Of the exec form, a JSON array; else as a shell would split them."""
        if self.said.startswith("["):
            return [str(word) for word in json.loads(self.said)]
        return shlex.split(self.said)


@dataclass
class Stage:
    name: str
    base: str
    own: list[Instruction] = field(default_factory=list)


class Dockerfile:
    def __init__(self, text: str) -> None:
        self.stages: dict[str, Stage] = {}
        lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
        for line in "\n".join(lines).replace("\\\n", " ").splitlines():
            if line.strip():
                self._take(*line.strip().split(None, 1))

    def _take(self, name: str, said: str) -> None:
        if name == "FROM":
            matched = _FROM.fullmatch(said)
            assert matched, f"FROM {said}: every stage has a name"
            self._stage = Stage(matched["name"], matched["base"])
            self.stages[matched["name"]] = self._stage
        else:
            self._stage.own.append(Instruction(name, said.strip()))

    def instructions(self, stage: str) -> list[Instruction]:
        """Those of the stages that it stands on, then its own."""
        found = self.stages[stage]
        below = self.instructions(found.base) if found.base in self.stages else []
        return [*below, *found.own]

    def last(self, stage: str, name: str) -> Instruction:
        """The one that counts."""
        return [i for i in self.instructions(stage) if i.name == name][-1]


DOCKERFILE = Dockerfile((ROOT / "Dockerfile").read_text())
TARGETS = ("driver-modbus", "driver-opcua", "driver-mqtt", "agent", "run", "simulator")


def install_line(target: str) -> str:
    """The shell command that installs what the image of `target` holds."""
    (copied,) = [i for i in DOCKERFILE.stages[target].own if i.name == "COPY"]
    source = copied.words[0].removeprefix("--from=")
    (line,) = [i.said for i in DOCKERFILE.stages[source].own if i.name == "RUN"]
    return line
