"""One kind of resource at the hub: listed once, then watched; only its metadata while it runs.

Our own status writes change a resource, too. A watch of metadata tells them in a few hundred bytes,
and only what has a new generation (or uid, or labels) is fetched whole.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from twinbridge.adapters.hub_kube.client import Client, Gone, NotFound, raise_code
from twinbridge.adapters.hub_kube.metrics import LISTS, WATCHES
from twinbridge.core.model import SECOND
from twinbridge.errors import HubRefused, HubUnavailable

log = structlog.get_logger()

API: Final = "/apis/devices.twinbridge.io/v1alpha1"
METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
PAGE: Final = 500
WATCH: Final = 22
"""Seconds of one watch: then it is begun again where it ended, so that one whose other end is
silently gone is noticed."""
SILENCE: Final = 27.0
FIRST_WAIT, LONGEST_WAIT = 0.2, 3.5
"""Seconds between tries: changes made during an outage take effect within 5 s of its end."""
MISSING_WAIT: Final = 15.0
"""Seconds between looks for a kind that the hub does not know."""
REPLAY: Final = 2.0
"""Seconds after a break within which what comes may have been changed during it."""


@dataclass(slots=True, eq=False)
class Followed:
    """`objects` by name. `changed` is called once they differ."""

    kind: str
    plural: str
    client: Client
    namespace: str
    selector: str
    changed: Callable[[Followed], None]
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    listed: bool = False
    """Whether `objects` is what the hub has; also where it does not know the kind at all."""
    alive: bool = False
    unheard: int = 0
    """Of the last change, ns: how long it may have waited for us."""
    _version: str = ""
    _lost_at: float = 0.0
    _back_at: float = 0.0
    _gap: float = 0.0
    _said: str = ""

    @property
    def path(self) -> str:
        return f"{API}/namespaces/{self.namespace}/{self.plural}"

    async def run(self) -> None:
        """Follow until cancelled."""
        wait = FIRST_WAIT
        while True:
            try:
                if not self._version:
                    await self._list()
                if await self._watch():
                    wait = FIRST_WAIT
                    continue
            except Gone:
                self._version = ""
                continue
            except NotFound as error:
                self._tell(f"{error}; apply the CustomResourceDefinitions (kubectl apply -f crds/)")
                self._is_listed({})
                self.alive, self._version = False, ""
                await asyncio.sleep(MISSING_WAIT)
                continue
            except (HubUnavailable, HubRefused) as error:
                self._lose(str(error))
                after = getattr(error, "retry_after", None) or 0.0
                await asyncio.sleep(max(after, wait * random.uniform(0.3, 1.0)))  # noqa: S311 - spreads load, hides nothing
                wait = min(2 * wait, LONGEST_WAIT)
                continue
            # Ended at once and without a word: not in a hot loop.
            await asyncio.sleep(wait * random.uniform(0.3, 1.0))  # noqa: S311 - spreads load, hides nothing
            wait = min(2 * wait, LONGEST_WAIT)

    def _tell(self, why: str) -> None:
        if why != self._said:
            self._said = why
            log.warning("hub", kind=self.kind, why=why)

    def _lose(self, why: str) -> None:
        if self.alive or not self._lost_at:
            self._lost_at = self.client.heard
        self.alive = False
        self._tell(why)

    def _come_back(self) -> None:
        if not self.alive:
            self._gap = time.monotonic() - self._lost_at if self._lost_at else 0.0
            self._back_at = time.monotonic()
            if self._said:
                log.info("hub is there", kind=self.kind)
            self.alive, self._lost_at, self._said = True, 0.0, ""

    async def _list(self) -> None:
        LISTS.labels(self.kind).inc()
        found: dict[str, dict[str, Any]] = {}
        query = {"limit": str(PAGE)} | self._selected()
        while True:
            page = await self.client.ask("GET", self.path, query)
            for item in page.get("items") or ():
                found[item["metadata"]["name"]] = whole(item, self.kind)
            version = page["metadata"].get("resourceVersion", "")
            more = page["metadata"].get("continue")
            if not more:
                break
            query["continue"] = more
        self._come_back()
        self._version = version
        self._is_listed(found)

    def _is_listed(self, found: dict[str, dict[str, Any]]) -> None:
        if not self.listed or found != self.objects:
            self.listed, self.objects = True, found
            self._announce()

    def _announce(self) -> None:
        replayed = time.monotonic() - self._back_at < REPLAY
        self.unheard = round(self._gap * SECOND) if replayed else 0
        self.changed(self)

    def _selected(self) -> dict[str, str]:
        return {"fieldSelector": self.selector} if self.selector else {}

    async def _watch(self) -> bool:
        """Until it ends; whether it lived for some time or told something."""
        WATCHES.labels(self.kind).inc()
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(WATCH),
        } | self._selected()
        began, told = time.monotonic(), False
        async with self.client.watch(self.path, query, METADATA, SILENCE) as events:
            self._come_back()
            async for event in events:
                await self._take(event)
                told = told or event.get("type") != "BOOKMARK"
        return told or time.monotonic() - began > WATCH / 4

    async def _take(self, event: dict[str, Any]) -> None:
        kind, found = event.get("type"), event.get("object") or {}
        if kind == "ERROR":
            raise_code(int(found.get("code", 500)), found, f"watch {self.path}")
        metadata = found.get("metadata") or {}
        name = metadata.get("name", "")
        if kind == "DELETED":
            if self.objects.pop(name, None) is not None:
                self.objects = dict(self.objects)
                self._announce()
        elif kind in ("ADDED", "MODIFIED") and self._differs(name, metadata):
            await self._fetch(name, found)
        self._version = metadata.get("resourceVersion", self._version)

    def _differs(self, name: str, metadata: dict[str, Any]) -> bool:
        known = self.objects.get(name)
        return known is None or _marks(known["metadata"]) != _marks(metadata)

    async def _fetch(self, name: str, found: dict[str, Any]) -> None:
        try:
            if "spec" not in found:
                found = await self.client.ask("GET", f"{self.path}/{name}")
        except NotFound:
            self.objects = {key: one for key, one in self.objects.items() if key != name}
        else:
            self.objects = {**self.objects, name: whole(found, self.kind)}
        self._announce()


def whole(found: dict[str, Any], kind: str) -> dict[str, Any]:
    """A resource without what is of no use to an edge: its status, and who owns which field."""
    metadata = {
        key: value
        for key, value in found.get("metadata", {}).items()
        if key not in ("managedFields", "resourceVersion", "creationTimestamp", "selfLink")
    }
    return {
        "apiVersion": "devices.twinbridge.io/v1alpha1",
        "kind": kind,
        "metadata": metadata,
        "spec": found.get("spec"),
    }


def _marks(metadata: dict[str, Any]) -> tuple[object, ...]:
    names = ("uid", "generation", "labels", "annotations", "deletionTimestamp")
    return tuple(metadata.get(name) or None for name in names)
