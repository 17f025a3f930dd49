"""Keeps the server's monitored items to what is followed, and looks after those that are quiet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from time import monotonic

import structlog
from asyncua import ua

from twinbridge.core.model import SECOND, Point
from twinbridge.errors import DeviceFault, LinkLost
from twinbridge.ports import Push, Reading, ReadResult
from twinbridge_opcua.plan import Request, portions
from twinbridge_opcua.reading import value_of
from twinbridge_opcua.resolving import Resolver
from twinbridge_opcua.session import Session
from twinbridge_opcua.subscription import (
    FIRST_VALUES,
    Followed,
    Item,
    Revision,
    Subscription,
    creation,
    has_no_node,
    lacking,
    new_item,
    refusal,
    refuses_filter,
    revision,
    wanted,
)

log = structlog.get_logger()

KEEP_ALIVE = 1.0
"""Seconds after which a server is to say that nothing has changed."""
LIFETIME = 60.0
"""Seconds without a word from us after which the server may forget a subscription."""
QUIET = 30.0
"""Seconds of which a node says nothing before it is asked whether it is still there."""
Publish = Callable[[ua.PublishResult], object]


class Following:
    """`publish` is given every publication of the server; `not_monitored` what must be polled."""

    def __init__(self, session: Session, resolver: Resolver, publish: Publish) -> None:
        self.not_monitored: set[Point] = set()
        self.subscriptions: dict[int, Subscription] = {}
        self._session = session
        self._resolver = resolver
        self._publish = publish
        self._handles = count(1)
        self._items: dict[Point, tuple[Subscription, int]] = {}
        self._followed: dict[Point, Followed] = {}

    async def follow(self, requests: Sequence[Request]) -> list[Push]:
        """Monitor what these need and no more. Returns what can be said of them at once."""
        before = self._items
        followed = [self._take_up(request) for request in requests]
        self._followed = {p: f for f in followed for p in f.request.points}
        self._rebind(followed)
        await self._remove([p for p in before if p not in self._followed])
        points = list(self._followed)
        await self._resolver.resolve(points)
        await self._create([p for p in points if p not in self._items])
        return self._known(followed)

    def _take_up(self, request: Request) -> Followed:
        slowest = max(wanted(point) for point in request.points) / SECOND
        taken = Followed(request, monotonic() + 2 * slowest + FIRST_VALUES)
        for point in request.points:
            if (old := self._followed.get(point)) is not None and point in old.last:
                taken.note(old.last[point])
        return taken

    def _rebind(self, followed: Iterable[Followed]) -> None:
        for point, (subscription, handle) in self._items.items():
            if point in self._followed:
                subscription.items[handle].followed = self._followed[point]
        for subscription in self.subscriptions.values():
            subscription.follow(())
        self._bind(followed)

    def _bind(self, followed: Iterable[Followed]) -> None:
        """Each request is confirmed by the subscription that its points are in."""
        by_subscription: dict[Subscription, list[Followed]] = {}
        for each in followed:
            for point in each.request.points:
                if point in self._items:
                    by_subscription.setdefault(self._items[point][0], []).append(each)
                    break
        for subscription, its in by_subscription.items():
            subscription.follow(its)

    def _known(self, followed: Iterable[Followed]) -> list[Push]:
        """First answers that need wait for no publication, refusals and replans among them."""
        self._bind(followed)
        pushes = []
        for each in followed:
            polled = any(point in self.not_monitored for point in each.request.points)
            if polled:
                pushes.append(
                    Push(
                        each.request,
                        ReadResult(list(each.last.values()), replan=True, current=True),
                    )
                )
            elif (push := each.answer((), monotonic())) is not None:
                pushes.append(push)
        return pushes

    async def _remove(self, points: Iterable[Point]) -> None:
        gone: dict[Subscription, list[int]] = {}
        for point in points:
            subscription, handle = self._items.pop(point)
            gone.setdefault(subscription, []).append(subscription.items.pop(handle).server_id)
        for subscription, items in gone.items():
            await self._session.forget(subscription.number, items)

    async def _create(self, points: Iterable[Point]) -> None:
        """Monitor points that have a node; the others are bad, with the reason."""
        classes: dict[int, list[Point]] = {}
        for point in points:
            if self._resolver.node(point) is None:
                self._followed[point].note(lacking(point, self._resolver.missing(point)))
            else:
                classes.setdefault(wanted(point), []).append(point)
        for interval, members in sorted(classes.items()):
            try:
                subscription = await self._subscription(interval)
                refused = await self._monitor(subscription, members, with_filter=True)
                if refused:
                    await self._monitor(subscription, refused, with_filter=False)
            except DeviceFault as error:
                log.warning("the server takes no subscription; polling", why=str(error))
                self.not_monitored.update(p for p in members if p not in self._items)

    async def _subscription(self, interval: int) -> Subscription:
        if interval in self.subscriptions:
            return self.subscriptions[interval]
        seconds = interval / SECOND
        parameters = ua.CreateSubscriptionParameters(
            RequestedPublishingInterval=ua.Duration(1000 * seconds),
            RequestedLifetimeCount=ua.Counter(max(10, round(LIFETIME / seconds))),
            RequestedMaxKeepAliveCount=ua.Counter(max(1, round(KEEP_ALIVE / seconds))),
        )
        made = await self._session.ask(
            self._session.raw.create_subscription(parameters, self._publish)
        )
        publishing = made.RevisedPublishingInterval / 1000
        if abs(publishing - seconds) > 0.001:  # noqa: PLR2004 - a millisecond
            log.info(
                "the server revised a publishing interval",
                endpoint=self._session.endpoint,
                seconds=publishing,
                instead_of=seconds,
            )
        keep_alive = max(publishing * made.RevisedMaxKeepAliveCount, publishing)
        found = Subscription(int(made.SubscriptionId), publishing, keep_alive)
        self.subscriptions[interval] = found
        return found

    async def _monitor(
        self, subscription: Subscription, points: Sequence[Point], *, with_filter: bool
    ) -> list[Point]:
        """Returns the points whose deadband the server refuses.

        In portions, so that one which the server refuses as a whole is polled, and no item of
        another is lost sight of.
        """
        again: list[Point] = []
        for portion in portions(points, self._session.monitored_at_once):
            try:
                again += await self._monitor_at_once(subscription, portion, with_filter=with_filter)
            except DeviceFault as error:
                log.warning("polled, for the server refuses to watch", why=str(error))
                self.not_monitored.update(portion)
        return again

    async def _monitor_at_once(
        self, subscription: Subscription, points: Sequence[Point], *, with_filter: bool
    ) -> list[Point]:
        items, requests = {}, []
        for point in points:
            handle, node = next(self._handles), self._resolver.node(point)
            if node is None:
                continue
            items[handle] = new_item(point, self._followed[point])
            requests.append(creation(point, node, handle, with_filter=with_filter))
        subscription.items.update(items)
        try:
            results = await self._session.monitor(subscription.number, requests)
        except DeviceFault:
            for handle in items:
                del subscription.items[handle]
            raise
        again: list[Point] = []
        revisions: dict[Revision, int] = {}
        refusals: dict[str, int] = {}
        for (handle, item), result in zip(items.items(), results, strict=True):
            if result.StatusCode.is_good():
                item.server_id = result.MonitoredItemId
                self._items[item.point] = subscription, handle
                if (revised := revision(item, result)) is not None:
                    revisions[revised] = revisions.get(revised, 0) + 1
                continue
            del subscription.items[handle]
            if with_filter and refuses_filter(item.point, result.StatusCode):
                again.append(item.point)
            else:
                words = self._refuse(item, result.StatusCode)
                refusals[words] = refusals.get(words, 0) + 1
        self._log(revisions, refusals)
        return again

    def _log(self, revisions: Mapping[Revision, int], refusals: Mapping[str, int]) -> None:
        """Once for all nodes that were dealt with alike, for there may be thousands."""
        endpoint = self._session.endpoint
        for revised, nodes in revisions.items():
            log.info(
                "the server watches otherwise than asked",
                endpoint=endpoint,
                nodes=nodes,
                **revised._asdict(),
            )
        for why, nodes in refusals.items():
            log.warning("the server does not watch nodes", endpoint=endpoint, nodes=nodes, why=why)

    def _refuse(self, item: Item, status: ua.StatusCode) -> str:
        """What the server will not watch is asked for, unless it would not answer either."""
        reading = refusal(item.point, status)
        if has_no_node(status):
            self._resolver.lack(item.point, reading.message)
            item.followed.note(reading)
        else:
            self.not_monitored.add(item.point)
        return reading.message

    async def look_after(self) -> list[Push]:
        """Look for missing nodes again, and ask those that are quiet. Raises DeviceError."""
        missing = [p for p in self._resolver.due() if p in self._followed]
        if missing:
            await self._resolver.resolve(missing)
            await self._create([p for p in missing if self._resolver.node(p) is not None])
            self._bind(dict.fromkeys(self._followed.values()))
        news = await self._ask_quiet()
        replanned = {f: None for f in map(self._followed.get, self.not_monitored) if f is not None}
        return [*news, *(Push(f.request, ReadResult(replan=True)) for f in replanned)]

    async def _ask_quiet(self) -> list[Push]:
        """A node that was deleted may never be told of: its value is asked for."""
        items = [i for s in self.subscriptions.values() for i in s.quiet(QUIET)]
        points = [item.point for item in items]
        nodes = [(point, self._resolver.node(point)) for point in points]
        answers = await self._session.read([value_of(p, node) for p, node in nodes if node])
        told: dict[Followed, list[Reading]] = {}
        gone = []
        for item, answer in zip(items, answers, strict=True):
            item.told = monotonic()
            reading = item.decode(answer)
            if answer.StatusCode is not None and has_no_node(answer.StatusCode):
                self._resolver.lack(item.point, reading.message)
                gone.append(item.point)
            item.followed.note(reading)
            told.setdefault(item.followed, []).append(reading)
        if gone:
            await self._remove(gone)
        pushes = (f.answer(readings, monotonic()) for f, readings in told.items())
        return [push for push in pushes if push is not None]

    def must_have_been_heard(self, patience: float) -> None:
        """Raises LinkLost when a subscription says nothing for three keep-alives."""
        for subscription in self.subscriptions.values():
            if subscription.items and subscription.silent(patience):
                raise LinkLost(
                    f"{self._session.endpoint}: the server has said nothing for"
                    f" {monotonic() - subscription.heard:.1f} s"
                )
