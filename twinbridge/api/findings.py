"""Collects what is wrong while a plant is compiled."""

from __future__ import annotations

from twinbridge.api.problems import Path, Problem
from twinbridge.api.yaml_source import Document


class Findings:
    def __init__(self, problems: list[Problem]) -> None:
        self._problems = problems
        self._rejected: set[str] = set()

    @property
    def problems(self) -> tuple[Problem, ...]:
        return tuple(dict.fromkeys(self._problems))

    @property
    def rejected(self) -> frozenset[str]:
        return frozenset(self._rejected)

    @property
    def count(self) -> int:
        """How many so far; a compiler compares it to see whether its part was sound."""
        return len(self._problems)

    def add(
        self, document: Document, subject: str, path: Path, message: str, *, rejects: bool = True
    ) -> None:
        """`rejects` False: something is refused, but not the subject as a whole."""
        line, field = document.line(path), field_name(document.content, path)
        self._problems.append(Problem(document.file, line, subject, field, message))
        if rejects and subject:
            self._rejected.add(subject)

    def warn(self, document: Document, subject: str, path: Path, message: str) -> None:
        line, field = document.line(path), field_name(document.content, path)
        self._problems.append(Problem(document.file, line, subject, field, message, warning=True))


def field_name(content: object, path: Path) -> str:
    """`spec.properties[run].minimum`: list items by their name where they have one."""
    text, current = "", content
    for step in path:
        if isinstance(step, int):
            inside = isinstance(current, list) and step < len(current)
            current = current[step] if isinstance(current, list) and inside else None
            name = current.get("name") if isinstance(current, dict) else None
            text += f"[{name if isinstance(name, str) else step}]"
        else:
            current = current.get(step) if isinstance(current, dict) else None
            text += f".{step}" if text else step
    return text
