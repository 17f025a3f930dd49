"""The demo's hub and edge as processes, with a cable between them that can be pulled."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from twinbridge.api.yaml_source import load_paths
from twinbridge.cli.demo_pods import COMMAND, NODE, NOTICED_WITHIN, Pods
from twinbridge.cli.hub_story import API, RESOURCES, Site
from twinbridge.cli.story import StoryError
from twinbridge.testing.proxy import FaultProxy

HUB, EDGE = "hub", "edge"
ANSWERS_WITHIN = 20.0
"""Seconds."""
_PLURALS = {
    "DeviceModel": "devicemodels",
    "Device": "devices",
    "Rule": "rules",
    "EdgeNode": "edgenodes",
}


@dataclass(frozen=True, slots=True)
class HubSite(Site):
    hub: httpx.AsyncClient
    _pods: Pods
    _cable: FaultProxy

    async def kill_edge(self) -> None:
        await self._pods.kill(EDGE)

    async def start_edge(self) -> None:
        await self._pods.start(EDGE)

    async def unplug(self) -> None:
        self._cable.refuse()
        self._cable.cut()

    async def plug(self) -> None:
        await self._cable.listen()


@asynccontextmanager
async def hub_site_running(
    paths: Sequence[str], folder: Path, host: str, port: int
) -> AsyncIterator[HubSite]:
    """A hub with the definitions of `paths`, and an edge that has none, until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        hub_port = int(probe.getsockname()[1])
    listen = f"127.0.0.1:{hub_port}"
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    async with (
        FaultProxy("127.0.0.1", hub_port) as cable,
        httpx.AsyncClient(base_url=f"http://{listen}", timeout=10.0) as hub,
        asyncio.TaskGroup() as group,
    ):
        commands: dict[str, Sequence[str]] = {
            HUB: (*COMMAND, "hub", "--listen", listen, "--state-dir", str(folder / HUB)),
            EDGE: (
                *(*COMMAND, "run", "--hub", f"http://127.0.0.1:{cable.port}", "--node", NODE),
                *("--state-dir", str(folder / EDGE), "--api", address),
            ),
        }
        pods = Pods(group, commands, folder)
        try:
            await pods.start(HUB)
            await _answering(hub)
            await _define(hub, paths)
            await pods.start(EDGE)
            yield HubSite(hub, pods, cable)
        except Exception:
            await asyncio.sleep(NOTICED_WITHIN)  # who died says more than what it left undone
            raise
        finally:
            await pods.stop()


async def _answering(hub: httpx.AsyncClient) -> None:
    try:
        async with asyncio.timeout(ANSWERS_WITHIN):
            while True:
                try:
                    if (await hub.get("/readyz")).is_success:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise StoryError("the hub does not answer") from None


async def _define(hub: httpx.AsyncClient, paths: Sequence[str]) -> None:
    """As `kubectl apply -f` of these files."""
    documents, _ = load_paths(paths)
    for document in documents:
        content = document.content
        if isinstance(content, dict) and content.get("apiVersion") == API:
            plural = _PLURALS[str(content["kind"])]
            answer = await hub.post(f"{RESOURCES}/{plural}", json=content)
            if answer.is_error:
                raise StoryError(f"the hub refuses {document.file}: {answer.text}")
