"""The embedded hub as a whole: its store, its API, and its housekeeping."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import structlog
from starlette.types import ASGIApp

from twinbridge.errors import StoreUnavailable
from twinbridge.hub import metadata, writes
from twinbridge.hub.api import KubeApi
from twinbridge.hub.builtin import DEFINITIONS, catalog
from twinbridge.hub.commits import Decide, Put, Remove
from twinbridge.hub.kinds import CLUSTER, Catalog, Json
from twinbridge.hub.own_kinds import established
from twinbridge.hub.store import HubStore, open_hub_store
from twinbridge.hub.stored import Key, Stored
from twinbridge.hub.tokens import Tokens
from twinbridge.hub.watch import Watchers
from twinbridge.hub.writes import Asked

log = structlog.get_logger()

SWEEP: Final = 30.0
"""Seconds between two rounds of housekeeping."""
MOST_EVENTS: Final = 50_000
MANAGER: Final = "twinbridge-hub"


@dataclass(frozen=True, slots=True)
class HubOptions:
    state_dir: Path
    crds: Sequence[Mapping[str, Any]]
    token_file: Path | None = None
    keep_events: timedelta = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Hub:
    store: HubStore
    catalog: Catalog
    watchers: Watchers
    tokens: Tokens | None

    def api(self, others: Mapping[str, ASGIApp] | None = None) -> KubeApi:
        """The application; `others` serve what lies below paths of their own."""
        return KubeApi(self.store, self.catalog, self.watchers, self.tokens, others)


@asynccontextmanager
async def open_hub(options: HubOptions) -> AsyncIterator[Hub]:
    """Ready to serve. Raises InvalidInput for a bad token file, StoreUnavailable for the disk."""
    tokens = Tokens(options.token_file) if options.token_file else None
    kinds = catalog(options.crds)
    watchers = Watchers()
    async with open_hub_store(options.state_dir, kinds) as store:
        store.on_change = watchers.publish
        await _furnish(store, kinds, options.crds)
        sweeper = asyncio.create_task(_sweep(store, options.keep_events), name="hub housekeeping")
        try:
            yield Hub(store, kinds, watchers, tokens)
        finally:
            watchers.close()
            sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await sweeper


async def _furnish(store: HubStore, kinds: Catalog, crds: Sequence[Mapping[str, Any]]) -> None:
    """What a cluster has from the start: a namespace, and the definitions of our kinds."""
    now = metadata.now()
    home = kinds.find("", "v1", "namespaces")
    definition = kinds.find("apiextensions.k8s.io", "v1", "customresourcedefinitions")
    assert home is not None  # noqa: S101 - the catalog always has both
    assert definition is not None  # noqa: S101
    asked = Asked(home, Key(home.key, CLUSTER, "default"), MANAGER, now)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}
    if store.get(asked.key) is None:
        await store.write(home, asked.key, writes.creating(asked, namespace))
    for crd in crds:
        key = Key(DEFINITIONS, CLUSTER, crd["metadata"]["name"])
        await store.write(definition, key, _define(dict(crd), now))


def _define(crd: Json, now: str) -> Decide:
    """The definition of this version of ours, in place of that of another."""

    def decide(old: Json | None) -> Put | Remove:
        fresh = metadata.server_set(crd["metadata"]["name"], now)
        kept = fresh if old is None else old["metadata"]
        new = established({**crd, "metadata": kept}, kept["creationTimestamp"])
        return Put(new, changed=old is None or old["spec"] != new["spec"])

    return decide


async def _sweep(store: HubStore, keep: timedelta) -> None:
    while True:
        await asyncio.sleep(SWEEP)
        with suppress(StoreUnavailable):  # said by whoever writes; the next round tries again
            await forget_events(store, keep)
            await store.compact()


async def forget_events(store: HubStore, keep: timedelta) -> int:
    """Delete the events that are too old or too many; gives how many."""
    events = sorted(store.items("events").values(), key=lambda item: item.version)
    surplus = max(0, len(events) - MOST_EVENTS)
    oldest = (datetime.now(UTC) - keep).strftime("%Y-%m-%dT%H:%M:%SZ")
    gone = 0
    for index, item in enumerate(events):
        if index >= surplus and not _is_older(item, oldest):
            continue
        await store.forget(item)
        gone += 1
    return gone


def _is_older(item: Stored, moment: str) -> bool:
    document = item.document()
    told = document.get("lastTimestamp") or document["metadata"]["creationTimestamp"]
    last = max(str(told), str(document["metadata"]["creationTimestamp"]))
    return last < moment
