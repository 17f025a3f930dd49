"""The number that ties a death to its birth: one more at every CONNECT, also after a restart."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger()

_NUMBERS: Final = 256
_FILE: Final = "sparkplug-bdseq"


class BirthDeathSequence:
    """0 to 255, then 0 again (tck-id-topics-nbirth-bdseq-increment).

    `reserve`, which waits for the disk, puts the next number there; `use` takes it for a CONNECT
    that is about to be sent. One that never was leaves its number to the next.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE
        self._last: int | None = None
        self._reserved: int | None = None
        self._said = False

    def reserve(self) -> None:
        """A disk that refuses is said once: then a restart may use a number a second time."""
        if self._reserved is not None:
            return
        if self._last is None:
            self._last = self._read()
        self._reserved = (self._last + 1) % _NUMBERS
        try:
            self._write(self._reserved)
        except OSError as error:
            if not self._said:
                log.warning("bdSeq is not kept", file=str(self._path), why=str(error))
            self._said = True

    def use(self) -> int:
        """Only after `reserve`."""
        if self._reserved is not None:
            self._last, self._reserved = self._reserved, None
        return self.last

    @property
    def last(self) -> int:
        """The number of the last CONNECT."""
        return self._last or 0

    def _read(self) -> int:
        """-1 when there was none: the first is 0."""
        try:
            text = self._path.read_text(encoding="ascii")
        except FileNotFoundError:
            return -1
        except (OSError, ValueError) as error:
            return self._begin_anew(str(error))
        number = text.strip()
        if number.isdigit() and len(number) <= len("255") and int(number) < _NUMBERS:
            return int(number)
        return self._begin_anew("it does not hold a number from 0 to 255")

    def _begin_anew(self, why: str) -> int:
        log.warning("bdSeq begins anew at 0", file=str(self._path), why=why)
        return -1

    def _write(self, number: int) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        with fresh.open("w", encoding="ascii") as file:
            file.write(f"{number}\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name, too
        finally:
            os.close(folder)
