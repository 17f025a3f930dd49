"""A serial line without hardware: two pseudo terminals, joined back to back."""

from __future__ import annotations

import asyncio
import os
import tty
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def serial_line() -> Iterator[tuple[str, str]]:
    """The two ends' device names. Needs a running loop, which carries the bytes."""
    loop = asyncio.get_running_loop()
    pairs = [os.openpty(), os.openpty()]
    for _, end in pairs:
        tty.setraw(end)
    masters = [master for master, _ in pairs]

    def carry(source: int, target: int) -> None:
        os.write(target, os.read(source, 4096))

    loop.add_reader(masters[0], carry, masters[0], masters[1])
    loop.add_reader(masters[1], carry, masters[1], masters[0])
    try:
        yield os.ttyname(pairs[0][1]), os.ttyname(pairs[1][1])
    finally:
        for master, end in pairs:
            loop.remove_reader(master)
            os.close(master)
            os.close(end)
