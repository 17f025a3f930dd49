"""`twinbridge watch` and `twinbridge events`: what happens, as it happens."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from rich.console import Console, Group
from rich.live import Live

from twinbridge.cli.agent_api import AgentApi
from twinbridge.cli.sse import ServerEvent, follow
from twinbridge.cli.tables import alarms_table, twins_table, value_text


class Scene:
    """What `watch` shows, kept up to date by events."""

    def __init__(self, api: AgentApi, device: str) -> None:
        self._api = api
        self._device = device
        self._devices: dict[str, Any] = {}
        self._alarms: list[Any] = []

    def take(self, event: ServerEvent) -> None:
        match event.kind:
            case "reset":
                self._read()
            case "alarm":
                self._read_alarms()
            case "twin":
                self._merge(event.view)

    def _read(self) -> None:
        found = (
            [self._api.get(f"/devices/{self._device}")]
            if self._device
            else self._api.items("/devices")
        )
        self._devices = {device["name"]: device for device in found}
        self._read_alarms()

    def _read_alarms(self) -> None:
        found = self._api.get("/alarms")["items"]
        self._alarms = [a for a in found if self._device in ("", a["device"])]

    def _merge(self, view: dict[str, Any]) -> None:
        device = self._devices.get(view["device"])
        for name, change in view["properties"].items():
            if device is not None and name in device["properties"]:
                device["properties"][name] |= change

    def render(self) -> Group:
        alarms = [alarms_table(self._alarms)] if self._alarms else []
        return Group(twins_table(self._devices.values()), *alarms)


def watch(api: AgentApi, device: str, console: Console) -> None:
    """A live table on a terminal; plain lines elsewhere. Runs until interrupted."""
    events = follow(api, device)
    if not console.is_terminal:
        for event in events:
            for line in event_lines(event):
                console.print(line, markup=False, highlight=False, soft_wrap=True)
        return
    scene = Scene(api, device)
    with Live(console=console, refresh_per_second=8, get_renderable=scene.render, screen=False):
        for event in events:
            scene.take(event)


def print_events(api: AgentApi, device: str, console: Console) -> None:
    """Each event as a line of JSON. Runs until interrupted."""
    for event in follow(api, device):
        if event.kind != "reset" or event.view:
            told = {"event": event.kind, "id": event.id} | event.view
            console.print(json.dumps(told), markup=False, highlight=False, soft_wrap=True)


def event_lines(event: ServerEvent) -> Iterable[str]:
    """An event as lines for people."""
    view = event.view
    match event.kind:
        case "twin":
            for name, change in view["properties"].items():
                for side, state in change.items():
                    yield f"{view['device']}/{name} {side} {_state(state)}"
        case "alarm":
            trip = f" trip {view['trip']['state']}" if view["trip"]["state"] != "none" else ""
            yield f"alarm {view['id']} {view['rule']}:{view['device']} {view['state']}{trip}"
        case "connection":
            said = "connected" if view["connected"] else f"lost: {view['message']}"
            yield f"{view['device']} {said}"


def _state(state: dict[str, Any] | None) -> str:
    if state is None:
        return "withdrawn"
    words = (state.get("quality", state.get("state", "")), state.get("reason", ""))
    return " ".join(filter(None, (value_text(state["value"]), *words, state["timestamp"])))
