"""One writer for each key: who may serve an endpoint, agreed over a broker that orders messages.

Every owner keeps one retained statement: which keys it waits for (`claims`) and which it holds or
is about to take (`holds`). A key is taken by naming it under `holds` and hearing one's own
statement come back: whoever's came first has it. Who is silent for TTL has lost what it held; it
knows so a margin earlier, by the same clock, since it counts from when it spoke and the others
from when they heard. Times are ns of the monotonic clock; silence counts only while one listens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from twinbridge.core.model import MILLISECOND, SECOND

TTL: Final = 5 * SECOND
"""So long after its last word an owner's keys are free for others."""
RENEW: Final = TTL // 3
MARGIN: Final = SECOND
"""A holder is in doubt so much before others may take over."""
CONTEST: Final = 2 * TTL
"""When two say for so long that they hold a key, the smaller owner id keeps it."""
REPEAT: Final = 100 * MILLISECOND
"""Between two statements at least, when what the broker keeps of us has been overwritten."""
FORGET: Final = 3 * TTL
"""Who is silent for so long, with keys to its name, has died: its words are cleared away."""
MOST_KEYS: Final = 10_000
MOST_OTHERS: Final = 1000
"""Lives of other owners that are remembered; the longest silent are forgotten first."""
NEVER: Final = -(1 << 62)


@dataclass(frozen=True, slots=True)
class Statement:
    """What an owner says. `boot` names this life of its process, `n` counts within it."""

    boot: str
    n: int
    claims: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Loss:
    """A key that was given up to another owner; `contested` when both had held it for long."""

    key: str
    to: str
    contested: bool


@dataclass(slots=True)
class _Other:
    """What is known of one life of another owner. `holds` is key → since when, as heard here."""

    owner: str
    boot: str
    n: int
    heard: int
    claims: frozenset[str]
    holds: dict[str, int]
    cleared: bool = False


@dataclass(frozen=True, slots=True)
class _Asked:
    """A key that was named under `holds` in statement `n` for the first time."""

    n: int
    at: int


class Lease:
    """One owner's side. The shell publishes `say` when `say_at` has come, and hands in the rest."""

    def __init__(self, owner: str, boot: str) -> None:
        self.owner = owner
        self.boot = boot
        self.wanted: frozenset[str] = frozenset()
        self.held: dict[str, int] = {}
        """Key → since when."""
        self.say_at = NEVER
        self.losses: list[Loss] = []
        """What was given up; the shell takes them out."""
        self.strange = 0
        """Statements in our name that are not ours."""
        self._asked: dict[str, _Asked] = {}
        self._leaving: dict[str, int] = {}
        """No longer wanted, but not yet known to have stopped: key → since when."""
        self._others: dict[tuple[str, str], _Other] = {}
        self._n = 0
        self._sent: dict[int, int] = {}
        self._listening = False
        self._listens_since = NEVER
        self._sure = NEVER
        """When we last heard ourselves, on any connection."""
        self._confirmed: int | None = None
        """When the latest statement was said that came back on this connection."""

    # What one sees.

    @property
    def waiting(self) -> frozenset[str]:
        return self.wanted - self.held.keys()

    def doubt(self, now: int) -> bool:
        """Whether others may by now believe that our keys are free."""
        return bool(self.held) and self._lapsed(now)

    def rivals(self, now: int) -> frozenset[str]:
        """Held keys that somebody else waits for, or believes to hold."""
        found: set[str] = set()
        for other in self._alive(now):
            found |= self.held.keys() & (other.claims | other.holds.keys())
        return frozenset(found)

    def mute(self, now: int) -> bool:
        """Whether for a whole TTL nothing that we said has come back."""
        latest = max(self._listens_since, self._confirmed or NEVER)
        return self._listening and now - latest >= TTL

    def wake_at(self, now: int) -> int:
        """When to call `tick` at the latest."""
        times = [self.say_at if self.say_at > now else now + RENEW]
        if self.held and self._confirmed is not None and not self._lapsed(now):
            times.append(self._confirmed + TTL - MARGIN)
        times += [since + TTL for since in self._leaving.values() if since + TTL > now]
        times += [other.heard + TTL for other in self._alive(now) if other.heard + TTL > now]
        return min(times)

    def abandoned(self, now: int) -> list[str]:
        """Owners who died without a farewell, each once: what the broker keeps of them is void."""
        dead = [other for other in self._others.values() if self._is_abandoned(other, now)]
        for other in dead:
            other.cleared = True
        living = {other.owner for other in self._alive(now)} | {self.owner}
        return sorted({other.owner for other in dead} - living)

    # What one does.

    def want(self, keys: Iterable[str], now: int) -> None:
        """A held key that is not among them is let go once its links have stopped: `stopped`."""
        self.wanted = frozenset(keys)
        for key in self.held.keys() - self.wanted:
            del self.held[key]
            self._leaving[key] = now
        for key in self._asked.keys() - self.wanted:
            del self._asked[key]
        self.say_at = NEVER
        self._ask(now)

    def stopped(self) -> None:
        """Nothing is served any more that is not held: others may have what we let go."""
        if self._leaving:
            self._leaving.clear()
            self.say_at = NEVER

    def trust(self, keys: Iterable[str], now: int) -> None:
        """Take, in doubt, what was held in an earlier life, without having heard anything."""
        for key in self.wanted.intersection(keys) - self.held.keys():
            self.held[key] = now
            self._asked.pop(key, None)
        self._confirmed = None
        self._sent.clear()  # what is on its way does not name them
        self.say_at = NEVER

    def listen(self, now: int) -> None:
        """A subscription begins. Who was alive when we last listened has a whole TTL again."""
        for other in self._alive(now):
            other.heard = now
        self._listening, self._listens_since = True, now
        self._begin_anew()

    def lost(self) -> None:
        """The subscription has ended; from here on everything held is in doubt."""
        self._listening = False
        self._begin_anew()

    def say(self, now: int) -> Statement:
        """The next statement, to be published at once."""
        self._n += 1
        self._sent[self._n] = now
        self.say_at = now + RENEW
        for key, asked in self._asked.items():
            if not asked.n:
                self._asked[key] = _Asked(self._n, now)
        holds = sorted(self.held.keys() | self._asked.keys() | self._leaving.keys())
        claims = sorted(self.wanted.difference(holds))
        return Statement(self.boot, self._n, tuple(claims), tuple(holds))

    def heard(self, owner: str, said: Statement, now: int, *, kept: bool) -> None:
        """A statement of anybody, in the broker's order; `kept`: it was retained before."""
        if owner == self.owner and said.boot == self.boot:
            self._echo(said.n, now)
        elif owner == self.owner and kept:
            return  # an earlier life of ours; it is over
        else:
            if owner == self.owner:
                self.overwritten(now)
            self._note(owner, said, now)
        self.tick(now)

    def overwritten(self, now: int) -> None:
        """Somebody else's words stand where the broker keeps ours: say them again."""
        self.strange += 1
        self.say_at = min(self.say_at, now + REPEAT)

    def tick(self, now: int) -> None:
        """Do what the time asks for."""
        for other in self._alive(now):
            if (other.owner, other.boot) < (self.owner, self.boot):
                self._settle_contest(other, now)
        for key, since in list(self._leaving.items()):
            if now - since >= TTL:
                del self._leaving[key]
                self.say_at = NEVER
        self._ask(now)

    # How it is done.

    def _begin_anew(self) -> None:
        self._confirmed = None
        self._sent.clear()
        self._asked.clear()
        self.say_at = NEVER

    def _lapsed(self, now: int) -> bool:
        return self._confirmed is None or now >= self._confirmed + TTL - MARGIN

    def _is_abandoned(self, other: _Other, now: int) -> bool:
        silent = self._listening and now - max(other.heard, self._listens_since) >= FORGET
        return silent and not other.cleared and bool(other.claims or other.holds)

    def _alive(self, now: int) -> Iterator[_Other]:
        """Others that were heard within TTL, or within TTL of when we last heard ourselves."""
        then = self._sure if self._lapsed(now) else now
        return (other for other in self._others.values() if then - other.heard < TTL)

    def _note(self, owner: str, said: Statement, now: int) -> None:
        known = self._others.get((owner, said.boot))
        if known is not None and said.n <= known.n:
            return  # late, or kept since before: no sign of life
        before = known.holds if known is not None and now - known.heard < TTL else {}
        self._others[owner, said.boot] = _Other(
            owner,
            said.boot,
            said.n,
            now,
            frozenset(said.claims),
            {key: before.get(key, now) for key in said.holds},
        )
        if len(self._others) > MOST_OTHERS:
            oldest = min(self._others.values(), key=lambda other: other.heard)
            del self._others[oldest.owner, oldest.boot]

    def _echo(self, n: int, now: int) -> None:
        said_at = self._sent.get(n)
        if said_at is None:
            if n > self._n or self._confirmed is not None:
                self._n = max(self._n, n)  # or others would take our next words for old ones
                self.overwritten(now)
            return
        self._sent = {later: at for later, at in self._sent.items() if later > n}
        if self._lapsed(now):
            self._yield_to_others(said_at)
        for key, asked in list(self._asked.items()):
            if asked.n and asked.n <= n:
                self._decide(key, asked, now)
        self._confirmed, self._sure = said_at, now

    def _decide(self, key: str, asked: _Asked, now: int) -> None:
        """Ours, unless one that was not silent for TTL when we asked says that it holds it."""
        del self._asked[key]
        if self._holder(key, asked.at) is None:
            self.held[key] = now
        else:
            self.say_at = NEVER

    def _yield_to_others(self, said_at: int) -> None:
        """Back from doubt: what another one has taken meanwhile is its own."""
        for key in list(self.held):
            holder = self._holder(key, said_at)
            if holder is not None:
                self._lose(key, holder.owner, contested=False)

    def _settle_contest(self, other: _Other, now: int) -> None:
        """Only after words were lost or forged: the order of the broker allows no such thing."""
        for key in self.held.keys() & other.holds.keys():
            if now - max(self.held[key], other.holds[key]) >= CONTEST:
                self._lose(key, other.owner, contested=True)

    def _lose(self, key: str, to: str, *, contested: bool) -> None:
        del self.held[key]
        self.losses.append(Loss(key, to, contested))
        self.say_at = NEVER

    def _holder(self, key: str, at: int) -> _Other | None:
        """Who holds the key and was heard since a TTL before `at`."""
        for other in self._others.values():
            if key in other.holds and other.heard > at - TTL:
                return other
        return None

    def _ask(self, now: int) -> None:
        """Name every key that looks free; not before one has heard oneself, and all the rest."""
        if self._confirmed is None or not self._listening:
            return
        free = self.waiting - self._asked.keys()
        for other in self._alive(now) if free else ():
            free -= other.holds.keys()
        for key in free:
            self._asked[key] = _Asked(0, now)
        if free:
            self.say_at = NEVER
