"""Tells systemd how the process is: sd_notify(3), one datagram each to $NOTIFY_SOCKET.

Where no service manager asks, nothing is sent and no thread is started.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import structlog

from twinbridge.cli.health import LoopLag

log = structlog.get_logger()

MICROSECOND = 1_000_000
WITHIN = 1.0
"""Seconds that a busy service manager has to take a word."""


class ServiceManager:
    """What is asked of us is in the environment; what children do is not their affair."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        within = environment.get("WATCHDOG_USEC", "0")
        self.watchdog = int(within) / MICROSECOND if ours and within.isdecimal() else 0.0
        """Seconds within which it wants to hear that all is well; 0: it does not."""

    def tell(self, *assignments: str) -> None:
        """Such as `READY=1`. What cannot be told is logged: the work goes on."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as there:
                there.settimeout(WITHIN)
                there.sendto("\n".join(assignments).encode(), self._address)
        except OSError as error:
            log.warning("the service manager does not hear us", why=str(error))


@contextmanager
def service_managed(
    lag: LoopLag, environment: Mapping[str, str] = os.environ
) -> Iterator[ServiceManager]:
    """Feeds the watchdog from a thread while every loop turns; says when the end begins.

    The caller says `READY=1` when it is. A loop that stands for as long as `lag` allows is not
    covered up: the watchdog starves, and systemd starts the service anew.
    """
    manager = ServiceManager(environment)
    over = threading.Event()
    feeder = threading.Thread(target=_feed, args=(manager, lag, over), name="watchdog", daemon=True)
    if manager.watchdog:
        feeder.start()
    try:
        yield manager
    finally:
        manager.tell("STOPPING=1")
        over.set()
        if manager.watchdog:
            feeder.join()


def _feed(manager: ServiceManager, lag: LoopLag, over: threading.Event) -> None:
    while not over.wait(manager.watchdog / 3):
        if lag.stuck():
            log.error("an event loop stands", loops=lag.stuck())
        else:
            manager.tell("WATCHDOG=1")
