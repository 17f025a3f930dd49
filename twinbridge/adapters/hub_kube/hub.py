"""The port `Hub`, over the Kubernetes API."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

import structlog
from typing_extensions import override

from twinbridge.adapters.hub_kube.client import APPLY, Client
from twinbridge.adapters.hub_kube.credentials import parse_where
from twinbridge.adapters.hub_kube.failures import Conflicting, Forbidden, NotFound
from twinbridge.adapters.hub_kube.followed import API, METADATA, Followed
from twinbridge.adapters.hub_kube.limits import Limits
from twinbridge.adapters.hub_kube.metrics import CONNECTED
from twinbridge.adapters.hub_kube.older import OlderSchemas
from twinbridge.api.base import API_VERSION
from twinbridge.core.model import SECOND
from twinbridge.errors import HubRefused, HubUnavailable, UnknownName
from twinbridge.ports import Hub, HubDefinitions, HubEvent, Ref

log = structlog.get_logger()

PLURALS: Final = {
    "Device": "devices",
    "DeviceModel": "devicemodels",
    "Rule": "rules",
    "EdgeNode": "edgenodes",
}
LONGEST_MANAGER = 128
_OTHER = re.compile(r'conflicts? with "([^"]+)"')
_OURS = "twinbridge/"


class KubeHub(Hub):
    """Made by `open_hub`."""

    def __init__(self, client: Client, node: str, namespace: str) -> None:
        self._client = client
        self._node = node
        self._namespace = namespace
        self._manager = f"{_OURS}{node}"[:LONGEST_MANAGER]
        self._changed = asyncio.Event()
        mine, self_only = f"spec.nodeName={node}", f"metadata.name={node}"
        self._kinds = {
            kind: Followed(kind, PLURALS[kind], client, namespace, selector, self._note)
            for kind, selector in (
                ("DeviceModel", ""),
                ("Device", mine),
                ("Rule", mine),
                ("EdgeNode", self_only),
            )
        }
        self._unheard = 0
        self._older = OlderSchemas()
        self._forbidden: dict[str, bool] = {}
        """Kinds whose status we may not write: True once others were taken since. It is then this
        kind's alone, and is not to hold up the others.
        """
        self._held = False
        """Whether this life of the process ever held the Lease."""
        self._lease_seen: tuple[str, float] = ("", 0.0)

    @property
    @override
    def connected(self) -> bool:
        """A kind that the hub does not know, or keeps from us, keeps the others from nothing."""
        kinds = self._kinds.values()
        return all(one.alive or one.missing for one in kinds) and any(one.alive for one in kinds)

    @property
    @override
    def last_contact(self) -> int:
        return self._client.last_contact

    @property
    @override
    def clock_ahead(self) -> int:
        return self._client.ahead

    async def run(self) -> None:
        """Follow every kind, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for followed in self._kinds.values():
                tasks.create_task(followed.run(), name=f"hub {followed.plural}")
            while True:
                CONNECTED.set(self.connected)
                await asyncio.sleep(1)

    # Down.

    def _note(self, followed: Followed) -> None:
        self._unheard = max(self._unheard, followed.unheard)
        self._changed.set()

    @override
    async def definitions(self) -> AsyncIterator[HubDefinitions]:
        known: dict[Ref, Mapping[str, object]] | None = None
        missed: frozenset[str] = frozenset()
        self._changed.set()
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not all(followed.listed for followed in self._kinds.values()):
                continue
            found, before = self._documents(), known or {}
            changed = {r for r, one in found.items() if one is not before.get(r) != one}
            changed |= before.keys() - found.keys()
            unheard, self._unheard = self._unheard, 0
            missing = frozenset(kind for kind, one in self._kinds.items() if one.missing)
            if changed or known is None or missing != missed:
                known, missed = found, missing
                yield HubDefinitions(found, frozenset(changed), unheard, missing)

    def _documents(self) -> dict[Ref, Mapping[str, object]]:
        """Of the models only those that are used, as far as that can be seen."""
        unseen = self._kinds["Device"].missing
        used = {_model_of(found) for found in self._kinds["Device"].objects.values()}
        return {
            Ref(kind, name): found
            for kind, followed in self._kinds.items()
            for name, found in followed.objects.items()
            if kind != "DeviceModel" or unseen or name in used
        }

    # Up.

    @property
    @override
    def traffic(self) -> int:
        return self._client.traffic

    @override
    async def apply_status(self, ref: Ref, uid: str, status: Mapping[str, object]) -> int:
        known = self._kinds[ref.kind].objects.get(ref.name)
        if uid and known is not None and known["metadata"].get("uid") != uid:
            raise UnknownName(f"{ref.kind}/{ref.name} with uid {uid} is gone; another has its name")
        body = self._body(ref, uid, status)
        try:
            found = await self._apply(ref, body, force=False)
        except Conflicting as error:
            found = await self._resolve(ref, body, error)
        except NotFound as error:
            raise UnknownName(str(error)) from None
        except Forbidden as error:
            if self._forbidden.get(ref.kind):
                self._forbidden[ref.kind] = False
                raise HubRefused(str(error)) from None
            self._forbidden.setdefault(ref.kind, False)
            raise
        self._forbidden = {kind: True for kind in self._forbidden if kind != ref.kind}
        there = found.get("metadata", {}).get("uid", uid)
        if uid and there != uid:
            # An API server takes a custom resource's metadata from what is stored: the uid that
            # we gave did not keep this from the namesake.
            await self._apply(ref, self._body(ref, there, {}), force=False)
            raise UnknownName(f"{ref.kind}/{ref.name} with uid {uid} is gone; {there} has its name")
        return int(found.get("metadata", {}).get("generation") or 0)

    def _body(self, ref: Ref, uid: str, status: Mapping[str, object]) -> dict[str, Any]:
        metadata = {"name": ref.name, "namespace": self._namespace} | ({"uid": uid} if uid else {})
        return {
            "apiVersion": API_VERSION,
            "kind": ref.kind,
            "metadata": metadata,
            "status": status,
        }

    async def _apply(self, ref: Ref, body: Mapping[str, Any], *, force: bool) -> dict[str, Any]:
        path = f"{API}/namespaces/{self._namespace}/{PLURALS[ref.kind]}/{ref.name}/status"
        query = {"fieldManager": self._manager, "force": str(force).lower()}
        while True:
            known = {**body, "status": self._older.without(ref.kind, body["status"])}
            try:
                return await self._client.ask(
                    "PATCH", path, query, known, content=APPLY, accept=METADATA
                )
            except (HubRefused, HubUnavailable) as error:
                if not self._older.learn(ref.kind, str(error)):
                    raise

    async def _resolve(
        self, ref: Ref, body: Mapping[str, object], error: Conflicting
    ) -> dict[str, Any]:
        """What an edge wrote under another name is ours to take over; nobody else's is."""
        owned = _owned(error.status)
        if not owned:
            await self._look_who_it_is(ref, body, error)
        foreign = [one for one in owned if not one.manager.startswith(_OURS)]
        if foreign:
            whose = ", ".join(f"{one.field} to {one.manager!r}" for one in foreign)
            raise HubRefused(
                f"{ref.kind}/{ref.name}: parts of its status belong to others: {whose}; who wrote"
                " them must let go of them"
            ) from None
        return await self._apply(ref, body, force=True)

    async def _look_who_it_is(
        self, ref: Ref, body: Mapping[str, Any], error: Conflicting
    ) -> NoReturn:
        """Raises UnknownName when it was made anew under the same name."""
        path = f"{API}/namespaces/{self._namespace}/{PLURALS[ref.kind]}/{ref.name}"
        try:
            found = await self._client.ask("GET", path, accept=METADATA)
        except NotFound:
            raise UnknownName(str(error)) from None
        if body["metadata"].get("uid", found["metadata"]["uid"]) != found["metadata"]["uid"]:
            raise UnknownName(str(error)) from None
        raise HubUnavailable(str(error)) from None

    @override
    async def record(self, event: HubEvent) -> None:
        at = _micro(event.at)
        ref = event.regarding
        known = self._kinds[ref.kind].objects.get(ref.name) if ref.kind in self._kinds else None
        regarding = {
            "apiVersion": API_VERSION,
            "kind": ref.kind,
            "name": ref.name,
            "namespace": self._namespace,
        }
        if known is not None and known["metadata"].get("uid"):
            regarding["uid"] = known["metadata"]["uid"]
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": event.name, "namespace": self._namespace},
            "involvedObject": regarding,
            "type": event.kind,
            "reason": event.reason,
            "message": event.message,
            "source": {"component": "twinbridge", "host": self._node},
            "reportingComponent": "twinbridge",
            "reportingInstance": self._node,
            "firstTimestamp": f"{at[:19]}Z",
            "lastTimestamp": f"{at[:19]}Z",
            "count": 1,
        }
        try:
            await self._client.ask(
                "POST", f"/api/v1/namespaces/{self._namespace}/events", None, body
            )
        except Conflicting:
            return  # it is there: what we asked before and did not hear the answer of
        except NotFound as error:
            raise HubUnavailable(str(error), retry_after=10.0) from None

    @override
    async def renew(self, holder: str, seconds: int) -> str:
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self._namespace}/leases"
        name = f"twinbridge-{self._node}"
        try:
            lease = await self._client.ask("GET", f"{path}/{name}")
        except Forbidden as error:
            raise HubRefused(str(error)) from None
        except NotFound:
            lease = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": name, "namespace": self._namespace},
            }
            return await self._write_lease("POST", path, lease, holder, seconds)
        spec = lease.get("spec") or {}
        other = spec.get("holderIdentity") or ""
        if other not in ("", holder) and not self._is_former(other, holder):
            if not self._run_out(spec, other):
                return str(other)
            self._held = False
        return await self._write_lease("PUT", f"{path}/{name}", lease, holder, seconds)

    def _is_former(self, other: str, holder: str) -> bool:
        """A life of ours before this one; not so once this one held it: that is a copy of us."""
        mine, its = holder.partition(".")[0], other.partition(".")[0]
        return mine == its and not self._held

    def _run_out(self, spec: Mapping[str, Any], other: str) -> bool:
        """By our own clock since we saw it change: clocks of two boxes do not compare."""
        mark = f"{other} {spec.get('renewTime')}"
        if mark != self._lease_seen[0]:
            self._lease_seen = (mark, time.monotonic())
        return time.monotonic() - self._lease_seen[1] > float(
            spec.get("leaseDurationSeconds") or 60
        )

    async def _write_lease(
        self, verb: str, path: str, lease: dict[str, Any], holder: str, seconds: int
    ) -> str:
        now = _micro(time.time_ns() + self._client.ahead)  # who reads it has the hub's clock
        old = lease.get("spec") or {}
        same = old.get("holderIdentity") == holder
        spec = {
            "holderIdentity": holder,
            "leaseDurationSeconds": seconds,
            "renewTime": now,
            "acquireTime": old.get("acquireTime", now) if same else now,
            "leaseTransitions": int(old.get("leaseTransitions") or 0) + (bool(old) and not same),
        }
        try:
            await self._client.ask(verb, path, None, {**lease, "spec": spec})
        except Forbidden as error:
            raise HubRefused(str(error)) from None
        except Conflicting as error:
            # Somebody wrote it meanwhile: the next look tells who.
            raise HubUnavailable(str(error), retry_after=1.0) from None
        except NotFound as error:
            raise HubUnavailable(str(error), retry_after=10.0) from None
        self._held = True
        return holder


class _Owned(NamedTuple):
    manager: str
    field: str


def _owned(status: Mapping[str, Any]) -> list[_Owned]:
    """Of a Status about a server-side apply: who owns which field that we want."""
    causes = (status.get("details") or {}).get("causes") or ()
    return [
        _Owned(found.group(1), str(cause.get("field", "")))
        for cause in causes
        if cause.get("reason") == "FieldManagerConflict"
        and (found := _OTHER.search(str(cause.get("message", ""))))
    ]


def _model_of(device: Mapping[str, Any]) -> str:
    spec = device.get("spec")
    ref = spec.get("modelRef") if isinstance(spec, dict) else None
    return str(ref.get("name", "")) if isinstance(ref, dict) else ""


def _micro(ns: int) -> str:
    seconds, rest = divmod(ns, SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1000:06d}Z"


@asynccontextmanager
async def open_hub(
    where: str,
    node: str,
    *,
    namespace: str | None = None,
    token_file: Path | None = None,
    ca_file: Path | None = None,
    limits: Limits | None = None,
) -> AsyncIterator[KubeHub]:
    """Follow the hub within the body; it may be away. Raises InvalidInput for a wrong `where`."""
    address = parse_where(where, namespace, token_file, ca_file)
    client = Client(address, limits)
    hub = KubeHub(client, node, address.namespace)
    try:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(hub.run(), name="hub follow")
            try:
                yield hub
            finally:
                task.cancel()
    finally:
        CONNECTED.set(0)
        await client.close()
