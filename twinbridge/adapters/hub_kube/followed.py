"""One kind of resource at the hub: listed once, then watched; only its metadata while it runs.

Our own status writes change a resource, too. A watch of metadata tells them without the status,
and only what has a new generation (or uid, labels, annotations) is fetched whole.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import structlog

from twinbridge.adapters.hub_kube.client import Client
from twinbridge.adapters.hub_kube.failures import Forbidden, Gone, NotFound, failure
from twinbridge.adapters.hub_kube.metrics import LISTS, WATCHES
from twinbridge.api.base import API_VERSION
from twinbridge.core.model import SECOND
from twinbridge.errors import HubRefused, HubUnavailable

log = structlog.get_logger()

Document: TypeAlias = dict[str, Any]

API: Final = f"/apis/{API_VERSION}"
METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
APPLY_CRDS: Final = "kubectl apply -f crds/"
PAGE: Final = 500
MANY: Final = 50
"""So many changes at once are listed, fewer are fetched one by one."""
AT_ONCE: Final = 4
REPLAY: Final = 2.0
"""Seconds after a break within which what comes may have been changed during it; and twice as long
as the hub took to answer then.
"""
EVER: Final = 1 << 62
"""ns: an age that nobody knows."""
_OF_NO_USE: Final = ("managedFields", "resourceVersion", "creationTimestamp", "selfLink")
_MARKS: Final = ("uid", "generation", "labels", "annotations", "deletionTimestamp")


@dataclass(slots=True, eq=False)
class Followed:
    """`objects` by name. `changed` is called once they differ."""

    kind: str
    plural: str
    client: Client
    namespace: str
    selector: str
    changed: Callable[[Followed], None]
    objects: dict[str, Document] = field(default_factory=dict)
    listed: bool = False
    """Whether `objects` is what the hub has; also where it does not know the kind at all."""
    alive: bool = False
    missing: bool = False
    """The hub does not know the kind, does not let us see it, or does not take how we ask."""
    unheard: int = 0
    """Of the last change, ns: how long it may have waited for us, and was on its way."""
    _shown: bool = False
    """Whether it was ever listed."""
    _heard: float = 0.0
    """When its watch, and no other, last told something, or ended in order."""
    _way: float = 0.0
    """Seconds from the beginning of the watch to the hub's answer."""
    _version: str = ""
    _wait: float = 0.0
    _lost_at: float = 0.0
    _back_at: float = 0.0
    _gap: float = 0.0
    _said: str = ""

    @property
    def path(self) -> str:
        return f"{API}/namespaces/{self.namespace}/{self.plural}"

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                if not self._version:
                    await self._list()
                lived = await self._watch()
            except Gone:
                self._version, lived = "", self._wait == 0.0
            except Forbidden as error:
                self._miss(str(error))
                await self._pause(error.retry_after or 0.0)
                continue
            except HubRefused as error:
                # Also where the definition there is older, and does not know our selector.
                self._miss(f"{error}; apply the CustomResourceDefinitions ({APPLY_CRDS})")
                await self._pause(self.client.limits.missing)
                continue
            except HubUnavailable as error:
                self._lose(str(error))
                await self._pause(error.retry_after or 0.0)
                continue
            if lived:
                self._wait = 0.0
            if not lived or not self._version:  # ended at once: not in a hot loop
                await self._pause()

    async def _pause(self, asked: float = 0.0) -> None:
        """Full jitter: a thousand edges do not come back at the same moment."""
        limits = self.client.limits
        self._wait = min(max(2 * self._wait, limits.first_wait), limits.longest_wait)
        chance = random.uniform(0.1, 1.0)  # noqa: S311 - spreads load, hides nothing
        await asyncio.sleep(asked + self._wait * chance)

    # How it stands.

    def _tell(self, why: str) -> None:
        if why != self._said:
            self._said = why
            log.warning("hub", kind=self.kind, why=why)

    def _lose(self, why: str) -> None:
        self._lost()
        self._tell(why)

    def _lost(self) -> None:
        if self.alive or not self._lost_at:
            self._lost_at = self._heard or self.client.heard
        self.alive = False

    def _miss(self, why: str) -> None:
        """What was known of it stays in force: nobody has deleted it one by one."""
        self._tell(why)
        self._lost()
        told, self.missing, self._version = self.missing, True, ""
        if not self.listed:
            self._is_listed({})
        elif not told:
            self._announce()

    def _come_back(self) -> None:
        self.missing = False
        if not self.alive:
            self._gap = time.monotonic() - self._lost_at if self._lost_at else 0.0
            self._back_at = time.monotonic()
            if self._said:
                log.info("hub is there", kind=self.kind)
            self.alive, self._lost_at, self._said = True, 0.0, ""

    def _announce(self, came: float | None = None) -> None:
        """`came`: when the news did, by the monotonic clock; now where there is none."""
        now = time.monotonic()
        came = now if came is None else came
        replayed = came - self._back_at < REPLAY + 2 * self._way
        waited = (self._gap if replayed else 0.0) + self._way + now - came
        self.unheard = round(waited * SECOND) if self._shown else EVER
        self.changed(self)

    # All of it.

    async def _list(self) -> None:
        LISTS.labels(self.kind).inc()
        found: dict[str, Document] = {}
        query = {"limit": str(PAGE)} | self._selected()
        while True:
            page = await self.client.ask("GET", self.path, query)
            items, metadata = page.get("items"), page.get("metadata")
            if not isinstance(items, list | None) or not isinstance(metadata, dict):
                raise HubUnavailable(f"GET {self.path}: what came is no list of {self.kind}")
            for item in items or ():
                one = whole(item, self.kind)
                found[one["metadata"]["name"]] = one
            if not metadata.get("continue"):
                break
            query["continue"] = metadata["continue"]
        shown_again = self.missing
        self._heard = time.monotonic()
        self._come_back()
        self._version = str(metadata.get("resourceVersion", ""))
        self._is_listed(found, shown_again=shown_again)
        self._shown = True

    def _is_listed(self, found: dict[str, Document], *, shown_again: bool = False) -> None:
        if shown_again or not self.listed or found != self.objects:
            self.listed, self.objects = True, found
            self._announce()

    def _selected(self) -> dict[str, str]:
        return {"fieldSelector": self.selector} if self.selector else {}

    # What changes.

    async def _watch(self) -> bool:
        """Until it ends; whether it lived for some time or told something."""
        WATCHES.labels(self.kind).inc()
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(self.client.limits.watch),
        } | self._selected()
        began, told = time.monotonic(), False
        async with self.client.watch(self.path, query, METADATA) as batches:
            self._heard = time.monotonic()
            self._way = self._heard - began
            self._come_back()
            async for events in batches:
                self._heard = time.monotonic()
                await self._take(events, self._heard)
                told = True
        self._heard = time.monotonic()
        return told or time.monotonic() - began > self.client.limits.watch / 4

    async def _take(self, events: Iterable[Document], came: float) -> None:
        """Of several changes of one resource only the last counts. The version moves on once all
        is fetched: what failed comes again.
        """
        latest: dict[str, Document] = {}
        version, error = self._version, None
        for event in events:
            found = event.get("object") or {}
            if event.get("type") == "ERROR":
                code = int(found.get("code") or 500)
                error = failure(code, found, f"WATCH {self.path}", self.client.limits)
                break
            metadata = found.get("metadata") or {}
            version = metadata.get("resourceVersion", version)
            if event.get("type") in ("ADDED", "MODIFIED", "DELETED") and metadata.get("name"):
                latest[metadata["name"]] = event
        await self._apply(latest, came)
        self._version = version
        if error is not None:
            raise error

    async def _apply(self, latest: Mapping[str, Document], came: float) -> None:
        gone = {name for name, event in latest.items() if event["type"] == "DELETED"}
        new = {
            name: event["object"]
            for name, event in latest.items()
            if name not in gone and self._differs(name, event["object"]["metadata"])
        }
        if len(new) > MANY:
            await self._list()
            return
        if not new and not gone:  # our own status writes, mostly
            return
        fetched = await self._fetch(new)
        objects = {name: one for name, one in self.objects.items() if name not in gone}
        for name, one in fetched.items():
            if one is None:
                objects.pop(name, None)
            else:
                objects[name] = one
        if objects != self.objects:
            self.objects = objects
            self._announce(came)

    def _differs(self, name: str, metadata: Mapping[str, Any]) -> bool:
        known = self.objects.get(name)
        return known is None or _marks(known["metadata"]) != _marks(metadata)

    async def _fetch(self, new: Mapping[str, Document]) -> dict[str, Document | None]:
        """None for what is gone since, or no longer of this node."""
        fetched: dict[str, Document | None] = {}
        failed: list[HubUnavailable | HubRefused] = []
        names = iter(new)

        async def fetch() -> None:
            for name in names:
                try:
                    fetched[name] = await self._whole(name, new[name])
                except (HubUnavailable, HubRefused) as error:
                    failed.append(error)

        async with asyncio.TaskGroup() as tasks:
            for number in range(min(AT_ONCE, len(new))):
                tasks.create_task(fetch(), name=f"fetch {self.plural} {number}")
        if failed:
            raise failed[0]
        return fetched

    async def _whole(self, name: str, found: Document) -> Document | None:
        if "spec" in found:  # the hub sends whole resources whatever it is asked for
            return whole(found, self.kind)
        try:
            fetched = whole(await self.client.ask("GET", f"{self.path}/{name}"), self.kind)
        except NotFound:
            return None
        return fetched if self._is_selected(fetched) else None

    def _is_selected(self, found: Document) -> bool:
        """It may have moved to another node since the watch told of it."""
        field_path, _, wanted = self.selector.partition("=")
        if field_path != "spec.nodeName":
            return True
        spec = found["spec"]
        return isinstance(spec, dict) and spec.get("nodeName") == wanted


def whole(found: Document, kind: str) -> Document:
    """A resource without what is of no use to an edge: its status, and who owns which field.

    Raises HubUnavailable when it is none.
    """
    metadata = found.get("metadata")
    if not isinstance(metadata, dict) or not metadata.get("name"):
        raise HubUnavailable(f"what came as a {kind} is no resource")
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {key: value for key, value in metadata.items() if key not in _OF_NO_USE},
        "spec": found.get("spec"),
    }


def _marks(metadata: Mapping[str, Any]) -> tuple[object, ...]:
    return tuple(metadata.get(name) or None for name in _MARKS)
