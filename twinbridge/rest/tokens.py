"""Who asks: bearer tokens from a file, or the one person on this machine.

The file has a line `token role name` for each caller; `#` begins a comment. It is read again
when it changes. No message ever contains a token.
"""

from __future__ import annotations

import hmac
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import structlog

from twinbridge.errors import InvalidInput

log = structlog.get_logger()

SHORTEST = 16
"""Characters of a token."""


class Role(IntEnum):
    """Each may what the one before may: look; give orders; arm and disarm rules."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3


class Identity(NamedTuple):
    name: str
    role: Role


LOCAL = Identity("local", Role.ADMIN)
"""Who asks when there is no token file; the API then listens on loopback only."""


class Tokens:
    """Raises InvalidInput with file:line when the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._stamp()
        self._known = _read(path)

    def identify(self, token: str) -> Identity | None:
        """Compares with every token in constant time."""
        self._read_again_if_changed()
        given = token.encode()
        found = None
        for known, identity in self._known:
            if hmac.compare_digest(known, given):
                found = identity
        return found

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _read_again_if_changed(self) -> None:
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._known = _read(self._path)
        except InvalidInput as error:
            log.error("the new token file is refused, the old one holds", why=str(error))  # noqa: TRY400 - a bad file is no bug


def _read(path: Path) -> list[tuple[bytes, Identity]]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InvalidInput(f"{path}: cannot be read: {reason}") from None
    found = [
        _parse(line, f"{path}:{number}")
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not found:
        raise InvalidInput(f"{path}: holds no token; a line is: token role name")
    return found


def _parse(line: str, place: str) -> tuple[bytes, Identity]:
    fields = line.split(maxsplit=2)
    roles = ", ".join(role.name.lower() for role in Role)
    if len(fields) != 3:  # noqa: PLR2004 - token, role, name
        raise InvalidInput(f"{place}: a line is: token role name (roles: {roles})")
    token, role, name = fields
    if len(token) < SHORTEST:
        raise InvalidInput(f"{place}: the token is shorter than {SHORTEST} characters")
    if role.upper() not in Role.__members__:
        raise InvalidInput(f"{place}: the role is none of: {roles}")
    return token.encode(), Identity(name.strip(), Role[role.upper()])
