"""Owners and a broker in virtual time: delays, cuts, resets, stalls, kills, restarts.

The broker orders all messages; each link keeps order and has a delay of its own. A link that is
cut holds back what is sent, as TCP does, and lets it go when it heals. Times in ns.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias

from twinbridge.core.lease import Lease, Statement
from twinbridge.core.model import MILLISECOND, SECOND

ACK_WITHIN = 5 * SECOND
Said: TypeAlias = tuple[str, Statement | None]
"""Whose topic, and what is on it; None clears it."""


@dataclass(eq=False)
class Link:
    node: Node
    lease: Lease
    open: bool = True
    """At the broker; what is on its way when a process is killed still arrives."""
    subscribed: bool = False
    cut: bool = False
    up_at: int = 0
    down_at: int = 0
    held_back: list[Callable[[], None]] = field(default_factory=list)


@dataclass(eq=False)
class Node:
    """One owner. `running` are the keys whose links are open."""

    owner: str
    wanted: tuple[str, ...]
    lease: Lease
    alive: bool = True
    cut: bool = False
    stalled_until: int = 0
    link: Link | None = None
    listening: bool = False
    unacknowledged: bool = False
    boots: int = 1
    inbox: list[Callable[[], None]] = field(default_factory=list)
    stopping: frozenset[str] = frozenset()
    timer: int = 0
    sent: int = 0

    @property
    def running(self) -> frozenset[str]:
        return self.stopping | self.lease.held.keys()


class World:
    """`check` is called after every event."""

    def __init__(self, wants: dict[str, Iterable[str]], seed: int = 0) -> None:
        self.now = SECOND
        self.slowest = 20 * MILLISECOND
        self.kept: dict[str, Statement] = {}
        self.links: list[Link] = []
        self._chance = Random(seed)
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self.nodes = {
            owner: Node(owner, tuple(keys), Lease(owner, "boot1")) for owner, keys in wants.items()
        }
        for node in self.nodes.values():
            node.lease.want(node.wanted, self.now)
            self._connect_later(node)

    # What one sees.

    def holders(self, key: str) -> list[str]:
        """Who has the key's link open and does not doubt that it is its own."""
        return [
            node.owner
            for node in self.nodes.values()
            if node.alive
            and key in node.running
            and not node.lease._lapsed(self.now)
            and self.now >= node.stalled_until  # a process that does not run does not write
        ]

    def check(self) -> None:
        for key in {key for node in self.nodes.values() for key in node.running}:
            assert len(self.holders(key)) <= 1, (key, self.now)

    def run(self, duration: int) -> None:
        end = self.now + duration
        while self._events and self._events[0][0] <= end:
            self.now, _, event = heapq.heappop(self._events)
            self._forget_what_stops_in_doubt()
            event()
            self.check()
        self.now = end
        self.check()

    def _forget_what_stops_in_doubt(self) -> None:
        """It stops as fast as it can; another one may have it by right, also when doubt ends."""
        for node in self.nodes.values():
            if node.lease._lapsed(self.now):
                node.stopping = frozenset()

    # What may happen.

    def cut(self, owner: str) -> None:
        """Nothing gets through any more, and nobody notices."""
        node = self.nodes[owner]
        node.cut = True
        if node.link is not None:
            node.link.cut = True

    def heal(self, owner: str) -> None:
        node = self.nodes[owner]
        node.cut = False
        for link in self.links:
            if link.node is node and link.cut:
                link.cut = False
                held, link.held_back = link.held_back, []
                for event in held:
                    event()

    def reset(self, owner: str) -> None:
        """The connection breaks, and its owner notices."""
        self._drop(self.nodes[owner])

    def stall(self, owner: str, duration: int) -> None:
        """The process gets no time (SIGSTOP); its sockets and clock go on."""
        node = self.nodes[owner]
        node.stalled_until = max(node.stalled_until, self.now + duration)
        self._at(duration, lambda: self._wake(node))

    def kill(self, owner: str) -> None:
        """As kill -9 does: what was sent is still on its way."""
        node = self.nodes[owner]
        node.alive, node.link, node.listening = False, None, False
        node.inbox.clear()
        node.stopping = frozenset()

    def start(self, owner: str, trusting: Iterable[str] = ()) -> None:
        """A new life of the same owner; `trusting`: in the dark, what it held before."""
        node = self.nodes[owner]
        if node.alive:
            return
        node.boots += 1
        node.alive, node.unacknowledged, node.stalled_until = True, False, 0
        node.lease = Lease(owner, f"boot{node.boots}")
        node.lease.want(node.wanted, self.now)
        node.lease.trust(trusting, self.now)
        self._connect_later(node)

    def leave(self, owner: str) -> None:
        """A graceful stop."""
        node, link = self.nodes[owner], self.nodes[owner].link
        if node.alive and link is not None and node.listening:
            node.lease.want((), self.now)
            node.lease.stopped()
            self._send(link, (owner, node.lease.say(self.now)), acknowledged=False)
            self._send(link, (owner, None), acknowledged=False)
        self.kill(owner)

    def want(self, owner: str, keys: Iterable[str]) -> None:
        node = self.nodes[owner]
        if node.alive and self.now < node.stalled_until:
            self._at(node.stalled_until - self.now, lambda: self.want(owner, keys))
            return
        node.wanted = tuple(keys)
        if node.alive:
            before = node.running
            node.lease.want(node.wanted, self.now)
            node.stopping = before - node.lease.held.keys()
            self._at(self._chance.randrange(2 * SECOND), lambda: self._stopped(node))
            self._settle(node)

    def restart_broker(self, *, forgets: bool) -> None:
        if forgets:
            self.kept.clear()
        for link in self.links:
            link.open = False
        self.links.clear()
        for node in self.nodes.values():
            self._drop(node)

    # How it goes on.

    def _at(self, delay: int, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay, next(self._count), event))

    def _stopped(self, node: Node) -> None:
        if node.alive and self.now < node.stalled_until:
            self._at(node.stalled_until - self.now, lambda: self._stopped(node))
        elif node.alive:
            node.stopping = frozenset()
            node.lease.stopped()
            self._settle(node)

    def _connect_later(self, node: Node) -> None:
        lease = node.lease
        self._at(
            self._chance.randrange(50 * MILLISECOND, SECOND), lambda: self._connect(node, lease)
        )

    def _connect(self, node: Node, lease: Lease) -> None:
        if not node.alive or node.lease is not lease or node.link is not None:
            return
        if node.cut or self.now < node.stalled_until:
            self._connect_later(node)
            return
        for older in self.links:
            if older.lease is lease:
                older.open = False  # the same client id: the broker lets go of the older one
        link = node.link = Link(node, lease)
        self.links.append(link)
        self._up(link, lambda: self._subscribe(link))

    def _subscribe(self, link: Link) -> None:
        link.subscribed = True
        for owner, said in self.kept.items():
            self._down(link, lambda o=owner, s=said: self._heard(link, (o, s), kept=True))
        self._down(link, lambda: self._granted(link))

    def _granted(self, link: Link) -> None:
        link.node.listening, link.node.unacknowledged = True, False
        link.lease.listen(self.now)

    def _heard(self, link: Link, message: Said, *, kept: bool = False) -> None:
        owner, said = message
        if said is not None:
            link.lease.heard(owner, said, self.now, kept=kept)
        elif owner == link.node.owner:
            link.lease.overwritten(self.now)

    def _drop(self, node: Node) -> None:
        if not node.alive or node.link is None:
            return
        node.link, node.listening, node.unacknowledged = None, False, False
        node.inbox.clear()
        node.lease.lost()
        self._connect_later(node)

    def _wake(self, node: Node) -> None:
        if node.alive and self.now >= node.stalled_until:
            # Timers that are due come before what is in the socket.
            self._settle(node)
            inbox, node.inbox = node.inbox, []
            for event in inbox:
                event()
            self._settle(node)

    def _settle(self, node: Node) -> None:
        """After whatever happened to it: say what is due, and see to the next waking."""
        if not node.alive or self.now < node.stalled_until:
            return
        lease, link = node.lease, node.link
        lease.tick(self.now)
        if node.listening and link is not None:
            if lease.mute(self.now):
                self._drop(node)
                return
            for owner in lease.abandoned(self.now):
                self._send(link, (owner, None), acknowledged=False)
            if lease.say_at <= self.now and not node.unacknowledged:
                self._send(link, (node.owner, lease.say(self.now)), acknowledged=True)
        node.timer += 1
        mark = node.timer
        wait = max(lease.wake_at(self.now) - self.now, 1)
        self._at(wait, lambda: self._settle(node) if node.timer == mark else None)

    def _send(self, link: Link, message: Said, *, acknowledged: bool) -> None:
        node = link.node
        if acknowledged:
            node.unacknowledged = True
            node.sent += 1
            number = node.sent
            self._at(ACK_WITHIN, lambda: self._give_up(link, number))
        self._up(link, lambda: self._arrived(link, message, acknowledged=acknowledged))

    def _give_up(self, link: Link, number: int) -> None:
        node = link.node
        if node.link is link and node.unacknowledged and node.sent == number:
            self._drop(node)

    def _arrived(self, link: Link, message: Said, *, acknowledged: bool) -> None:
        owner, said = message
        if said is None:
            self.kept.pop(owner, None)
        else:
            self.kept[owner] = said
        for other in self.links:
            if other.subscribed and other.open:
                self._down(other, lambda to=other: self._heard(to, message))
        if acknowledged:
            self._down(link, lambda: self._acknowledged(link))

    def _acknowledged(self, link: Link) -> None:
        link.node.unacknowledged = False

    def _up(self, link: Link, event: Callable[[], None]) -> None:
        if link.cut:
            link.held_back.append(lambda: self._up(link, event))
            return
        link.up_at = max(link.up_at, self.now + self._chance.randrange(1, self.slowest))
        self._at(link.up_at - self.now, lambda: self._at_broker(link, event))

    def _at_broker(self, link: Link, event: Callable[[], None]) -> None:
        if link.cut:
            link.held_back.append(lambda: self._at_broker(link, event))
        elif link.open:
            event()

    def _down(self, link: Link, event: Callable[[], None]) -> None:
        if link.cut:
            link.held_back.append(lambda: self._down(link, event))
            return
        link.down_at = max(link.down_at, self.now + self._chance.randrange(1, self.slowest))
        self._at(link.down_at - self.now, lambda: self._at_owner(link, event))

    def _at_owner(self, link: Link, event: Callable[[], None]) -> None:
        node = link.node
        if link.cut:
            link.held_back.append(lambda: self._at_owner(link, event))
        elif node.link is not link or not node.alive:
            return
        elif self.now < node.stalled_until:
            node.inbox.append(lambda: event() if node.link is link else None)
        else:
            event()
            self._settle(node)
