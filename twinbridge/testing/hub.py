"""The embedded hub inside a test's own event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from twinbridge.api.crds import crds
from twinbridge.cli.drivers import installed_drivers
from twinbridge.hub.hub import Hub, HubOptions, open_hub
from twinbridge.hub.serve import Listen, serve


@dataclass(frozen=True, slots=True)
class RunningHub:
    url: str
    hub: Hub

    def kubeconfig(self, token: str = "", namespace: str = "default") -> str:
        """The text of a kubeconfig that leads here."""
        return kubeconfig(self.url, token, namespace)


def kubeconfig(
    url: str, token: str = "", namespace: str = "default", ca: Path | None = None
) -> str:
    """The text of one; `ca` is a file of certificates to trust."""
    cluster = {"server": url, **({"certificate-authority": str(ca)} if ca else {})}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "hub", "cluster": cluster}],
            "users": [{"name": "me", "user": {"token": token} if token else {}}],
            "contexts": [
                {
                    "name": "hub",
                    "context": {"cluster": "hub", "user": "me", "namespace": namespace},
                }
            ],
            "current-context": "hub",
        }
    )


def _token_file(folder: Path, tokens: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tokens"
    path.touch(mode=0o600)
    path.write_text(tokens)
    return path


@asynccontextmanager
async def hub_running(
    state_dir: Path, *, port: int = 0, tokens: str | None = None
) -> AsyncIterator[RunningHub]:
    """A hub on loopback; `tokens` is the text of its token file."""
    token_file = None if tokens is None else _token_file(state_dir, tokens)
    options = HubOptions(state_dir, list(crds(installed_drivers()).values()), token_file)
    listen = Listen("127.0.0.1", port)
    async with open_hub(options) as hub, serve(hub, hub.api(), listen) as url:
        yield RunningHub(url, hub)
