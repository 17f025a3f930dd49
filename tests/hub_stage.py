"""What tests of the hub's clients put at a hub, and how they look at it from the other side."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from twinbridge.ports import Hub, HubDefinitions, Ref

API_VERSION = "devices.twinbridge.io/v1alpha1"
PLURALS = {
    "Device": "devices",
    "DeviceModel": "devicemodels",
    "Rule": "rules",
    "EdgeNode": "edgenodes",
}
WAIT = 20.0


def resource(kind: str, name: str, spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": name} | metadata,
        "spec": spec,
    }


def device(name: str, *, node: str = "edge-1", model: str = "drive", run: bool = True) -> Any:
    spec = {
        "modelRef": {"name": model},
        "nodeName": node,
        "connection": {"modbus": {"host": "127.0.0.1", "port": 5020, "unit": 1}},
        "desired": [{"name": "run", "value": run}],
    }
    return resource("Device", name, spec)


def model(name: str) -> Any:
    run = {
        "name": "run",
        "type": "bool",
        "access": "ReadWrite",
        "modbus": {"table": "coil", "address": 0},
    }
    return resource("DeviceModel", name, {"properties": [run]})


def node(name: str = "edge-1") -> Any:
    return resource("EdgeNode", name, {"site": "hall"})


def condition(reason: str) -> dict[str, Any]:
    at = "2026-01-31T08:00:00Z"
    return {
        "conditions": [
            {
                "type": "Connected",
                "status": "True",
                "reason": reason,
                "message": "",
                "lastTransitionTime": at,
            }
        ]
    }


class Desk:
    """A person at the hub's API."""

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self._root = f"{url}/apis/{API_VERSION}/namespaces/default"
        self._core = f"{url}/api/v1/namespaces/default"
        self._client = client

    async def put(self, document: Any, *, manager: str = "kubectl", part: str = "") -> Any:
        path = f"{self._root}/{PLURALS[document['kind']]}/{document['metadata']['name']}{part}"
        return await self._answer(
            "PATCH",
            f"{path}?fieldManager={manager}&force=true",
            json=document,
            headers={"Content-Type": "application/apply-patch+yaml"},
        )

    async def delete(self, ref: Ref) -> None:
        await self._answer("DELETE", f"{self._root}/{PLURALS[ref.kind]}/{ref.name}")

    async def get(self, ref: Ref) -> Any:
        return await self._answer("GET", f"{self._root}/{PLURALS[ref.kind]}/{ref.name}")

    async def events(self) -> list[Any]:
        found: list[Any] = (await self._answer("GET", f"{self._core}/events"))["items"]
        return found

    async def _answer(self, verb: str, url: str, **more: Any) -> Any:
        answer = await self._client.request(verb, url, **more)
        assert answer.status_code < 300, answer.text
        return answer.json()


@asynccontextmanager
async def desk(url: str) -> AsyncIterator[Desk]:
    async with httpx.AsyncClient(timeout=WAIT) as client:
        yield Desk(url, client)


class Heard:
    """All that a hub's definitions told, in order, collected beside the test."""

    def __init__(self) -> None:
        self.all: list[HubDefinitions] = []
        self._more = asyncio.Condition()

    @property
    def now(self) -> dict[Ref, Any]:
        return dict(self.all[-1].documents) if self.all else {}

    async def collect(self, hub: Hub) -> None:
        async for found in hub.definitions():
            async with self._more:
                self.all.append(found)
                self._more.notify_all()

    async def until(self, holds: Callable[[dict[Ref, Any]], bool], *, after: int = 0) -> None:
        """Wait until what was told last, `after` so many, is so."""
        async with asyncio.timeout(WAIT), self._more:
            await self._more.wait_for(lambda: len(self.all) > after and holds(self.now))


@asynccontextmanager
async def listening(hub: Hub) -> AsyncIterator[Heard]:
    heard = Heard()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(heard.collect(hub), name="definitions")
        try:
            yield heard
        finally:
            task.cancel()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT):
        while not holds():  # noqa: ASYNC110 - others change it
            await asyncio.sleep(0.01)
