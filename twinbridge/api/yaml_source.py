"""YAML files into plain values, with the line of every field, safe against hostile input.

YAML 1.1 as PyYAML reads it, but timestamps stay text, `1e3` is a number, `1:30` is text, and
duplicate keys are refused.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from twinbridge.api.problems import Problem

MAX_BYTES = 5 * 1024 * 1024
MAX_EVENTS = 1_000_000
MAX_DEPTH = 64
MAX_VALUES = 1_000_000
TEST_SUFFIXES = (".test.yaml", ".test.yml")
"""Tests of rules lie beside the resources; in a folder they are not taken for some."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FLOAT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")
_BASES = {"0x": 16, "0o": 8, "0b": 2}
_TAG = "tag:yaml.org,2002:"


class _RefusedNodeError(Exception):
    def __init__(self, node: Node | yaml.Event, message: str) -> None:
        super().__init__(message)
        self.line = node.start_mark.line + 1 if node.start_mark else 0


@dataclass(frozen=True, slots=True)
class Document:
    """One resource as it was written; `line` finds a field's place in it."""

    file: str
    content: object
    node: Node | None = None

    def line(self, path: Sequence[str | int]) -> int:
        """The line of the deepest part of `path` that is there; 0 without a file."""
        node, found = self.node, self.node
        line = found.start_mark.line + 1 if found else 0
        for step in path:
            key, node = _step(node, step)
            if key is None:
                break
            line = key.start_mark.line + 1
        return line


def _step(node: Node | None, step: str | int) -> tuple[Node | None, Node | None]:
    if isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step]
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if isinstance(key, ScalarNode) and key.value == str(step):
                return key, value
    return None, None


def load_paths(paths: Sequence[str | Path]) -> tuple[list[Document], list[Problem]]:
    """Every document of every file, and what cannot be read. A folder is searched for YAML."""
    documents: list[Document] = []
    problems: list[Problem] = []
    for file in _files(paths, problems):
        try:
            content = _read(file)
        except OSError as error:
            problems.append(Problem(file, 0, "", "", f"cannot be read: {error.strerror}"))
            continue
        load_bytes(content, "<stdin>" if file == "-" else file, documents, problems)
    return documents, problems


def _files(paths: Sequence[str | Path], problems: list[Problem]) -> Iterator[str]:
    seen: set[str] = set()
    for given in paths:
        path = Path(given)
        if str(given) != "-" and path.is_dir():
            found = [str(f) for f in sorted(path.rglob("*")) if _is_definition(f, path)]
            if not found:
                problems.append(Problem(str(given), 0, "", "", "no *.yaml or *.yml file in it"))
        else:
            found = [str(given)]
        yield from (f for f in found if f not in seen)
        seen.update(found)


def _is_definition(file: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
    test = file.name.endswith(TEST_SUFFIXES)
    return file.suffix in (".yaml", ".yml") and not hidden and not test and file.is_file()


def _read(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    with Path(file).open("rb") as stream:
        return stream.read(MAX_BYTES + 1)


def load_bytes(
    content: bytes, file: str, documents: list[Document], problems: list[Problem]
) -> None:
    """Append what the file holds; on an error what came before it in the file still counts."""
    try:
        if len(content) > MAX_BYTES:
            problems.append(
                Problem(file, 0, "", "", f"is larger than {MAX_BYTES >> 20} MiB; split it up")
            )
            return
        text = content.decode("utf-8-sig")
        _check_events(text)
        for node in yaml.compose_all(text, Loader=_LOADER):
            documents.extend(_expand(Document(file, _Reader().read(node), node)))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problems.append(Problem(file, line, "", "", f"is not UTF-8 at byte {error.start}"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        problems.append(Problem(file, line, "", "", f"is not YAML: {error.problem}"))
    except yaml.reader.ReaderError as error:
        position = error.position if isinstance(error.position, int) else 0
        line = content.count(b"\n", 0, position) + 1
        problems.append(Problem(file, line, "", "", f"is not YAML: {error.reason}"))
    except _RefusedNodeError as error:
        problems.append(Problem(file, error.line, "", "", str(error)))


def _check_events(text: str) -> None:
    """Refuse, before anything recurses into it, what is nested or long beyond any sense."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise _RefusedNodeError(event, f"is nested deeper than {MAX_DEPTH} levels")
        if count > MAX_EVENTS:
            raise _RefusedNodeError(event, f"has more than {MAX_EVENTS} YAML nodes; split it up")


def _expand(document: Document) -> Iterator[Document]:
    """Skip empty documents; take a `kind: List` apart."""
    content = document.content
    if content is None:
        return
    if not isinstance(content, dict) or content.get("kind") != "List":
        yield document
        return
    items = content.get("items")
    _, nodes = _step(document.node, "items")
    if isinstance(items, list) and isinstance(nodes, SequenceNode):
        for item, node in zip(items, nodes.value, strict=True):
            yield Document(document.file, item, node)


class _Reader:
    """Turns one document's nodes into plain values, counting them: aliases multiply."""

    def __init__(self) -> None:
        self._count = 0
        self._open: set[int] = set()

    def read(self, node: Node) -> object:
        self._count += 1
        if self._count > MAX_VALUES:
            raise _RefusedNodeError(node, f"aliases expand to more than {MAX_VALUES} values")
        if isinstance(node, ScalarNode):
            return _scalar(node)
        if id(node) in self._open:
            raise _RefusedNodeError(node, "an alias stands for something that contains it")
        self._open.add(id(node))
        try:
            if isinstance(node, SequenceNode):
                return [self.read(item) for item in node.value]
            return self._mapping(node)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: Node) -> dict[object, object]:
        found: dict[object, object] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                raise _RefusedNodeError(key_node, "a key must be a plain word")
            key = _scalar(key_node)
            if key_node.tag == f"{_TAG}merge":
                raise _RefusedNodeError(key_node, "merge keys (<<) are not taken; write it out")
            if key in found:
                raise _RefusedNodeError(key_node, f"{key_node.value}: is given twice")
            found[key] = self.read(value_node)
        return found


def _scalar(node: ScalarNode) -> object:
    text = node.value
    match node.tag.removeprefix(_TAG):
        case "null":
            return None
        case "bool":
            return text.lower() in ("yes", "true", "on")
        case "int":
            return _integer(text)
        case "float":
            return _float(node, text)
        case "str" | "timestamp" | "merge" | "value":
            exponent = not node.style and _FLOAT.fullmatch(text)
            return float(text) if exponent else text
    raise _RefusedNodeError(node, f"the tag {node.tag} is not known")


def _integer(text: str) -> int | str:
    plain = text.replace("_", "")
    digits = plain.lstrip("+-")
    sign = -1 if plain.startswith("-") else 1
    if ":" in plain or len(plain) > 64:  # noqa: PLR2004 - no register holds more digits
        return text
    if len(digits) > 1 and digits.startswith("0") and digits[:2] not in _BASES:
        return sign * int(digits, 8)
    return sign * int(digits, _BASES.get(digits[:2], 10))


def _float(node: ScalarNode, text: str) -> float | str:
    plain = text.replace("_", "").lower()
    if ":" in plain:
        return text
    try:
        return float(plain.replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        raise _RefusedNodeError(node, f"{text!r} is no number") from None
