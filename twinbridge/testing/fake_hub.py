"""A hub in memory, as one edge node sees it, with a link that can be cut."""

from __future__ import annotations

import asyncio
import copy
import itertools
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from typing_extensions import override

from twinbridge.api.wire import Json
from twinbridge.errors import HubRefused, HubUnavailable, UnknownName
from twinbridge.ports import Hub, HubDefinitions, HubEvent, Ref

_SELECTED: Final = {"Device": "nodeName", "Rule": "nodeName"}


class FakeHub(Hub):
    """`put` and `delete` are what a person does at the hub; `cut` and `mend` what the line does.

    `latency` in seconds goes before every answer. `refuse` names a resource whose status the hub
    will never take, with the reason.
    """

    def __init__(self, node: str, *, latency: float = 0.0) -> None:
        self.node = node
        self.latency = latency
        self.resources: dict[Ref, Json] = {}
        self.statuses: dict[Ref, Json] = {}
        self.events: dict[str, HubEvent] = {}
        self.refuse: dict[Ref, str] = {}
        self.writes = 0
        """Statuses taken."""
        self._numbers = itertools.count(1)
        self._link = asyncio.Event()
        self._link.set()
        self._changed = asyncio.Event()
        self._last_contact = 0
        self._cut_at = 0
        self._unheard = 0
        self._lease: tuple[str, float] = ("", 0.0)

    # What a person does.

    def put(self, document: Mapping[str, Any]) -> str:
        """Create it, or replace its metadata and spec; returns its uid."""
        ref = Ref(str(document["kind"]), str(document["metadata"]["name"]))
        old: Any = self.resources.get(ref)
        new = copy.deepcopy({key: part for key, part in document.items() if key != "status"})
        metadata: Any = old["metadata"] if old else {"uid": f"uid-{next(self._numbers)}"}
        same = old is not None and old.get("spec") == new.get("spec")
        new["metadata"] |= {
            "namespace": "default",
            "uid": metadata["uid"],
            "generation": metadata.get("generation", 0) + (not same),
        }
        self.resources[ref] = new
        self._changed.set()
        return str(metadata["uid"])

    def delete(self, ref: Ref) -> None:
        del self.resources[ref]
        self.statuses.pop(ref, None)
        self._changed.set()

    def held_by(self, holder: str, seconds: float) -> None:
        """Another process holds the Lease of this node."""
        self._lease = (holder, time.monotonic() + seconds)

    # What the line does.

    def cut(self) -> None:
        if self._link.is_set():
            self._link.clear()
            self._cut_at = time.monotonic_ns()

    def mend(self) -> None:
        if not self._link.is_set():
            self._unheard = time.monotonic_ns() - self._cut_at
            self._link.set()
            self._changed.set()

    # The port.

    @property
    @override
    def connected(self) -> bool:
        return self._link.is_set()

    @property
    @override
    def last_contact(self) -> int:
        return self._last_contact

    @property
    @override
    def traffic(self) -> int:
        return 0

    @override
    async def definitions(self) -> AsyncIterator[HubDefinitions]:
        known: dict[Ref, Mapping[str, object]] | None = None
        while True:
            await self._link.wait()
            began = time.monotonic_ns()
            if await self._lost_on_the_way():
                continue
            self._changed.clear()
            way = time.monotonic_ns() - began
            found, unheard = self._of_this_node(), self._unheard + way
            self._unheard = 0
            before = known or {}
            changed = {r for r in before.keys() | found.keys() if before.get(r) != found.get(r)}
            if changed or known is None:
                known = found
                yield HubDefinitions(found, frozenset(changed), unheard)
            await self._changed.wait()

    @override
    async def apply_status(self, ref: Ref, uid: str, status: Json) -> int:
        await self._answer()
        if ref in self.refuse:
            raise HubRefused(f"{ref.kind}/{ref.name}: {self.refuse[ref]}")
        found: Any = self.resources.get(ref)
        if found is None or uid not in ("", found["metadata"]["uid"]):
            raise UnknownName(f"there is no {ref.kind} {ref.name} with uid {uid}")
        self.writes += 1
        self.statuses[ref] = copy.deepcopy(status)
        return int(found["metadata"]["generation"])

    @override
    async def record(self, event: HubEvent) -> None:
        await self._answer()
        self.events.setdefault(event.name, event)

    @override
    async def renew(self, holder: str, seconds: int) -> str:
        await self._answer()
        other, until = self._lease
        if other not in ("", holder) and time.monotonic() < until:
            return other
        self._lease = (holder, time.monotonic() + seconds)
        return holder

    # Within.

    async def _lost_on_the_way(self) -> bool:
        if self.latency:
            await asyncio.sleep(self.latency)
        if self._link.is_set():
            self._last_contact = time.time_ns()
        return not self._link.is_set()

    async def _answer(self) -> None:
        if await self._lost_on_the_way():
            raise HubUnavailable("the link to the hub is cut")

    def _of_this_node(self) -> dict[Ref, Mapping[str, object]]:
        mine = {ref: found for ref, found in self.resources.items() if self._is_mine(ref, found)}
        used = {Ref("DeviceModel", _model_of(found)) for found in mine.values()}
        models = {ref: found for ref, found in self.resources.items() if ref in used}
        return copy.deepcopy({**models, **mine})

    def _is_mine(self, ref: Ref, found: Mapping[str, Any]) -> bool:
        if ref.kind == "EdgeNode":
            return ref.name == self.node
        field = _SELECTED.get(ref.kind)
        spec = found.get("spec")
        return field is not None and isinstance(spec, dict) and spec.get(field) == self.node


def _model_of(found: Mapping[str, Any]) -> str:
    """Of a Device, however odd it is."""
    spec = found.get("spec")
    ref = spec.get("modelRef") if isinstance(spec, dict) else None
    return str(ref.get("name", "")) if isinstance(ref, dict) else ""
