"""What REST and other faces ask of the agent, answered as plain dicts ready for JSON."""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_right
from collections.abc import Mapping, Sequence

from twinbridge.api.wire import (
    Json,
    alarm_view,
    instance_view,
    parse_duration,
    parse_patch,
    parse_timestamp,
    property_view,
    timestamp,
)
from twinbridge.app.agent import Agent
from twinbridge.app.events import EventLog
from twinbridge.core.model import SECOND, DeviceSpec
from twinbridge.core.rule import Mode
from twinbridge.errors import InvalidDesired, UnknownName
from twinbridge.ports import Actor, HistoryRow

PAGE = 100
LONGEST_PAGE = 1000
LONGEST_SHELVING = 8 * 3600 * SECOND
HISTORY_LIMIT = 10_000
_HOUR = 3600 * SECOND


class TwinService:
    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    @property
    def events(self) -> EventLog:
        return self._agent.events

    def now(self) -> int:
        """UTC ns."""
        return self._agent.clock.wall()

    # Devices.

    def devices(
        self,
        labels: Sequence[str] = (),
        *,
        connected: bool | None = None,
        limit: int = PAGE,
        after: str = "",
    ) -> Json:
        """A page of devices by name. `after` is the `continue` token of the page before."""
        wanted = [_label(text) for text in labels]
        names = list(self._agent.devices)
        page: list[Json] = []
        last = ""
        more = False
        for name in names[bisect_right(names, _token_name(after)) if after else 0 :]:
            if not self._selected(name, wanted, connected=connected):
                continue
            if len(page) == limit:
                more = True
                break
            page.append(self._view(self._agent.devices[name]))
            last = name
        return {"items": page, "continue": _token(last) if more else None}

    def _selected(
        self, name: str, labels: Sequence[tuple[str, str]], *, connected: bool | None
    ) -> bool:
        if connected is not None and self._agent.twin(name).connected is not connected:
            return False
        return all(label in self._agent.devices[name].labels for label in labels)

    def device(self, name: str) -> tuple[Json, str]:
        """The twin and its etag. Raises UnknownName."""
        return self._view(self._agent.device(name)), self._agent.etag(name)

    def _view(self, spec: DeviceSpec) -> Json:
        twin = self._agent.twin(spec.name)
        trips = self._agent.alarms.trips_of(spec.name)
        return {
            "name": spec.name,
            "namespace": spec.namespace,
            "model": spec.model,
            "node": spec.node,
            "protocol": spec.protocol,
            "labels": dict(spec.labels),
            "connected": twin.connected,
            "lastContact": timestamp(twin.last_contact),
            "message": twin.message,
            "tripped": bool(trips),
            "trips": [alarm.id for alarm in trips],
            "version": self._agent.desired.version(spec.name),
            "properties": {
                point.spec.name: property_view(
                    point.spec,
                    twin.reported.get(point.spec.name),
                    self._agent.desired.view(spec.name, point.spec.name),
                )
                for point in spec.points
            },
        }

    async def desire(
        self, name: str, patch: Mapping[str, object], actor: Actor, if_match: Sequence[str] = ()
    ) -> tuple[int, str]:
        """Returns the new version and etag. See `Agent.desire` for what it raises."""
        self._agent.device(name)
        version = await self._agent.desire(name, parse_patch(patch), actor, if_match)
        return version, self._agent.etag(name)

    async def history(
        self, name: str, prop: str, start: str | None, end: str | None, step: str | None
    ) -> Json:
        """Recorded samples of the last hour, or of a span; with `step` aggregates."""
        point = self._agent.device(name).point(prop)
        if point is None:
            raise UnknownName(f"device {name!r} has no property {prop!r}")
        until = parse_timestamp(end, "to") if end else self.now()
        since = parse_timestamp(start, "from") if start else until - _HOUR
        if since > until:
            raise InvalidDesired("from is after to", field="from", allowed="a time before `to`")
        width = parse_duration(step, "step") if step else 0
        rows = await self._agent.store.history(name, prop, since, until, width, HISTORY_LIMIT)
        items = [_row_view(row, aggregate=width > 0) for row in rows]
        return {
            "device": name,
            "property": prop,
            "unit": point.spec.unit,
            "items": items,
            "truncated": len(items) >= HISTORY_LIMIT,
        }

    # Alarms and rules.

    def alarms(self, *, ended: bool = False) -> Json:
        now = self.now()
        found = self._agent.alarms.listed(ended=ended)
        return {"items": [alarm_view(alarm, now) for alarm in found]}

    async def acknowledge(self, alarm: str, who: str, comment: str) -> None:
        await self._agent.acknowledge(alarm, who, comment)

    async def shelve(self, alarm: str, length: str, who: str, reason: str) -> None:
        """For at most 8 h. Shelving silences an alarm; its trip stays armed."""
        span = parse_duration(length, "for")
        if span > LONGEST_SHELVING:
            raise InvalidDesired("for: too long", field="for", allowed="at most 8h")
        await self._agent.shelve(alarm, self.now() + span, who, reason)

    async def reset(self, alarm: str, who: str, reason: str) -> None:
        await self._agent.reset(alarm, who, reason)

    def rules(self) -> Json:
        return {"items": [self._rule(name) for name in sorted(self._agent.rules)]}

    def _rule(self, name: str) -> Json:
        instances = self._agent.rules[name]
        standing = self._agent.alarms.by_instance()
        now = self.now()
        first = instances[0]
        return {
            "name": name,
            "mode": self._agent.mode(first),
            "severity": first.severity.value,
            "trip": first.trip is not None,
            "act": first.act is not None,
            "message": first.message,
            "instances": [
                instance_view(i, self._agent.mode(i), standing.get((name, i.device)), now)
                for i in sorted(instances, key=lambda i: i.device)
            ],
        }

    async def set_mode(self, rule: str, mode: str, who: str) -> Json:
        """Raises UnknownName, InvalidDesired, Conflict."""
        try:
            wanted = Mode(mode)
        except ValueError:
            allowed = ", ".join(Mode)
            raise InvalidDesired(
                f"mode: {mode!r} is none", field="mode", allowed=f"one of: {allowed}"
            ) from None
        await self._agent.set_mode(rule, wanted, who)
        return self._rule(rule)

    # Health.

    def health(self) -> tuple[bool, Json]:
        """Whether all is ready, and what is not."""
        agent = self._agent
        trouble = agent.store.trouble
        connected = sum(agent.twin(name).connected for name in agent.devices)
        ready = agent.started.is_set() and not trouble
        return ready, {
            "ready": ready,
            "node": agent.node,
            "store": trouble or "ok",
            "listening": agent.started.is_set(),
            "devices": {"total": len(agent.devices), "connected": connected},
            "alarms": len(agent.alarms.listed()),
            "problems": agent.problems,
        }


def _label(text: str) -> tuple[str, str]:
    key, found, value = text.partition("=")
    if not (key and found):
        raise InvalidDesired(
            f"label: {text!r} is no selector", field="label", allowed="key=value, repeatable"
        )
    return key, value


def _row_view(row: HistoryRow, *, aggregate: bool) -> Json:
    view: Json = {
        "timestamp": timestamp(row.timestamp),
        "value": row.value,
        "quality": row.quality,
    }
    if aggregate:
        view |= {
            "min": row.minimum,
            "avg": row.average,
            "max": row.maximum,
            "samples": row.samples,
        }
    return view


def _token(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()


def _token_name(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise InvalidDesired(
            "continue: not a token of this API",
            field="continue",
            allowed="the `continue` of the page before, as it is",
        ) from None
