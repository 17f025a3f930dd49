"""Reads Server-Sent Events, and comes back where it was when the connection breaks."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from twinbridge.cli.agent_api import AgentApi
from twinbridge.errors import Unreachable

PAUSE = 2.0
"""Seconds before the connection is tried again."""


class ServerEvent(NamedTuple):
    """`kind` is twin, alarm, connection; reset: what was missed is gone, read all again."""

    kind: str
    id: str
    view: dict[str, Any]


def parse(lines: Iterable[str]) -> Iterator[ServerEvent]:
    """WHATWG HTML, 9.2.6. An event with an id alone has kind ''."""
    kind, event_id, text = "", "", ""
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if text or event_id:
                yield ServerEvent(kind if text else "", event_id, json.loads(text or "{}"))
            kind, event_id, text = "", "", ""
        elif field == "event":
            kind = value
        elif field == "id":
            event_id = value
        elif field == "data":
            text += value


def follow(api: AgentApi, device: str = "") -> Iterator[ServerEvent]:
    """Every event from now on, for ever. Raises Unreachable when it cannot even begin.

    The first event has kind `reset`: whoever shows a state reads it then.
    """
    last_id = ""
    params = {"device": device} if device else {}
    yielded = False
    while True:
        try:
            headers = {"Last-Event-ID": last_id} if last_id else {}
            with api.stream("/events", headers, **params) as lines:
                for event in parse(lines):
                    last_id = event.id or last_id
                    if not yielded:
                        yielded = True
                        yield ServerEvent("reset", last_id, {})
                    if event.kind:
                        yield event
        except Unreachable:
            if not yielded:
                raise
        time.sleep(PAUSE)
