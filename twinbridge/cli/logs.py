"""Structured logs on stderr: JSON lines for machines, aligned text for a terminal.

Whoever reads them may be slow or gone; the trip path must not notice. Lines are handed to a
thread over a bounded queue, and at its limit they are let go and counted.
"""

from __future__ import annotations

import atexit
import logging
import queue
import sys
import threading
from typing import TextIO

import structlog

from twinbridge.app.metrics import DROPS

WAITING_LINES = 10_000
LAST_LINES_WITHIN = 1.0
"""Seconds that a stopping process waits for the reader of its last lines."""


class QueuedStream:
    """What structlog prints to: never blocks, whatever becomes of `target`."""

    def __init__(self, target: TextIO) -> None:
        self._target = target
        self._lines: queue.Queue[str | None] = queue.Queue(WAITING_LINES)
        self._thread = threading.Thread(target=self._write, name="logs", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def write(self, text: str) -> None:
        try:
            self._lines.put_nowait(text)
        except queue.Full:
            DROPS.labels("log").inc()

    def flush(self) -> None:
        """The thread flushes after each line."""

    def close(self) -> None:
        try:
            self._lines.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(LAST_LINES_WITHIN)

    def _write(self) -> None:
        while (text := self._lines.get()) is not None:
            try:
                self._target.write(text)
                self._target.flush()
            except (OSError, ValueError):
                DROPS.labels("log").inc()


def configure_logs(*, json_lines: bool, level: str = "info") -> None:
    """Every log line carries an RFC 3339 UTC time and a level."""
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if json_lines
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=40)
    )
    shared: list[structlog.types.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if json_lines:
        shared.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.WriteLoggerFactory(QueuedStream(sys.stderr)),  # type: ignore[arg-type]  # asks for write and flush only
        cache_logger_on_first_use=True,
    )
    # A device that is away is said once, by us; its client library would say it at every try.
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
