"""Who asks: bearer tokens from a file, or whoever is on this machine.

The file has a line `TOKEN,NAME,ROLE[,NODE]` for each caller; `#` begins a comment. Nobody but its
owner and group may read it. It is read again when it changes. No message ever contains a token.
"""

from __future__ import annotations

import stat
import time
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from twinbridge.errors import InvalidInput

log = structlog.get_logger()

SHORTEST: Final = 16
"""Characters of a token."""
LOOKS: Final = 0.1
"""Seconds for which a known token holds without a look at the file."""
_LINE: Final = "a line is: TOKEN,NAME,ROLE[,NODE]"


class Role(StrEnum):
    ADMIN = "admin"
    """May do everything."""
    OPERATOR = "operator"
    """May look at everything, and desire values of devices; defines nothing."""
    VIEWER = "viewer"
    """May look at everything."""
    EDGE = "edge"
    """May do what the edge of its node needs, and no more."""


class Identity(NamedTuple):
    name: str
    role: Role
    node: str = ""


LOCAL: Final = Identity("local", Role.ADMIN)
"""Who asks when there is no token file; the hub then listens on loopback only."""


class Tokens:
    """Raises InvalidInput with file:line when the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._stamp()
        self._looked = time.monotonic()
        self._known = _read(path)

    def identify(self, token: str) -> Identity | None:
        """By the token's hash: how long it takes says nothing of the tokens that there are."""
        hashed = _hashed(token)
        if hashed not in self._known or time.monotonic() - self._looked >= LOOKS:
            self._read_again_if_changed()
        return self._known.get(hashed)

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            there = self._path.stat()
        except OSError:
            return None
        return there.st_mtime_ns, there.st_size, there.st_ino

    def _read_again_if_changed(self) -> None:
        self._looked = time.monotonic()
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._known = _read(self._path)
        except InvalidInput as error:
            log.error("the new token file is refused, the old one holds", why=str(error))  # noqa: TRY400 - a bad file is no bug


def _hashed(token: str) -> bytes:
    return sha256(token.encode()).digest()


def _read(path: Path) -> dict[bytes, Identity]:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InvalidInput(f"{path}: cannot be read: {reason}") from None
    if mode & 0o037:  # a group may read it: that is how a pod that is not root has a Secret
        raise InvalidInput(f"{path}: others may read it (mode {mode:04o}); do: chmod 600 {path}")
    found = dict(
        _parse(line.strip(), f"{path}:{number}")
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.lstrip().startswith("#")
    )
    if not found:
        raise InvalidInput(f"{path}: holds no token; {_LINE}")
    return found


def _parse(line: str, place: str) -> tuple[bytes, Identity]:
    roles = ", ".join(Role)
    token, name, role, node, *more = (*(p.strip() for p in line.split(",")), "", "", "")
    if any(more) or not name or not role:
        raise InvalidInput(f"{place}: {_LINE} (roles: {roles})")
    if len(token) < SHORTEST:
        raise InvalidInput(f"{place}: the token is shorter than {SHORTEST} characters")
    if role not in list(Role):
        raise InvalidInput(f"{place}: the role is none of: {roles}")
    if (role == Role.EDGE) != bool(node):
        told = "an edge needs its node" if role == Role.EDGE else "only an edge has a node"
        raise InvalidInput(f"{place}: {told}; {_LINE}")
    return _hashed(token), Identity(name, Role(role), node)
