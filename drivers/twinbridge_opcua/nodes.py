"""Node ids and browse paths as people write them, with no client library.

Namespaces are named by URI: a server may number them otherwise after its next start.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from uuid import UUID

_NODE = re.compile(
    r"(?:nsu=(?P<uri>[^;]+);|ns=(?P<index>\d+);)?(?P<kind>[isgb])=(?P<name>.+)", re.DOTALL
)
_EXAMPLE = '"nsu=http://acme.com/boiler;s=Temperature" or "i=2258"'
_LARGEST = 2**32 - 1
BASE = "http://opcfoundation.org/UA/"


@dataclass(frozen=True, slots=True)
class NodeName:
    """A node id whose namespace is named by URI. `kind` is i, s, g or b."""

    uri: str
    kind: str
    name: int | str | UUID | bytes

    def __str__(self) -> str:
        shown = base64.b64encode(self.name).decode() if isinstance(self.name, bytes) else self.name
        prefix = "" if self.uri == BASE else f"nsu={self.uri};"
        return f"{prefix}{self.kind}={shown}"


def parse_node(text: str) -> NodeName:
    """Raises ValueError, saying what would be right."""
    found = _NODE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no node id such as {_EXAMPLE}")
    if found["index"] not in (None, "0"):
        raise ValueError(
            f"{text!r}: name the namespace by its URI, nsu=URI;…, for its number may change when"
            " the server restarts; `twinbridge browse opcua` shows it"
        )
    return NodeName(found["uri"] or BASE, found["kind"], _identifier(found["kind"], found["name"]))


def _identifier(kind: str, name: str) -> int | str | UUID | bytes:
    try:
        if kind == "i":
            return _number(name)
        if kind == "g":
            return UUID(name)
        return base64.b64decode(name, validate=True) if kind == "b" else name
    except (ValueError, binascii.Error):
        allowed = {"i": "a number of 0 to 4294967295", "g": "a GUID", "b": "base64"}[kind]
        raise ValueError(f"{kind}={name!r}: {kind}= takes {allowed}") from None


def _number(name: str) -> int:
    if not (name.isascii() and name.isdigit()) or int(name) > _LARGEST:
        raise ValueError(name)
    return int(name)


def parse_path(text: str) -> tuple[str, ...]:
    """The names from Objects on: `Boiler/Temperature`. Raises ValueError."""
    names = tuple(text.strip("/").split("/"))
    if not all(names):
        raise ValueError(f"{text!r} is no path such as Boiler/Temperature: a name is empty")
    return names
