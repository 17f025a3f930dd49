"""Twins, alarms and rules as tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.table import Table
from rich.text import Text

_QUALITY = {"good": "green", "uncertain": "yellow", "bad": "red"}


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def devices_table(devices: Iterable[Mapping[str, Any]]) -> Table:
    table = _table("NAME", "MODEL", "NODE", "CONNECTED", "SYNCED", "TRIPPED", "LAST CONTACT")
    for device in devices:
        table.add_row(
            device["name"],
            device["model"],
            device["node"],
            yes_no(device["connected"], good=True),
            yes_no(synced(device), good=True),
            yes_no(device["tripped"], good=False),
            age(device["lastContact"]),
        )
    return table


def twin_table(device: Mapping[str, Any], *, with_device: bool = False) -> Table:
    return twins_table([device], with_device=with_device)


def twins_table(devices: Iterable[Mapping[str, Any]], *, with_device: bool = True) -> Table:
    first = ("DEVICE",) if with_device else ()
    table = _table(*first, "PROPERTY", "VALUE", "UNIT", "QUALITY", "CHANGED", "DESIRED", "STATE")
    for device in devices:
        for name, prop in device["properties"].items():
            head = (device["name"],) if with_device else ()
            table.add_row(*head, *_property_row(name, prop))
    return table


def _property_row(name: str, prop: Mapping[str, Any]) -> tuple[str | Text, ...]:
    reported = prop["reported"] or {"value": None, "quality": "", "timestamp": None}
    desired = prop["desired"] or {"value": None, "state": ""}
    quality = " ".join(filter(None, (reported["quality"], reported.get("reason"))))
    quality = ": ".join(filter(None, (quality, reported.get("message"))))
    return (
        name,
        value_text(reported["value"]),
        prop.get("unit", ""),
        Text(quality, style=_QUALITY.get(reported["quality"], "")),
        age(reported["timestamp"]),
        value_text(desired["value"]),
        desired["state"],
    )


def alarms_table(alarms: Iterable[Mapping[str, Any]]) -> Table:
    table = _table("ID", "RULE", "DEVICE", "SEVERITY", "STATE", "TRIP", "SINCE", "MESSAGE")
    for alarm in alarms:
        table.add_row(
            alarm["id"],
            alarm["rule"],
            alarm["device"],
            alarm["severity"],
            alarm["state"],
            alarm["trip"]["state"],
            age(alarm["since"]),
            Text(alarm["trip"]["message"] or alarm["message"]),
        )
    return table


def rules_table(rules: Iterable[Mapping[str, Any]]) -> Table:
    table = _table("RULE", "DEVICE", "MODE", "SEVERITY", "STATE", "TRIPPED", "ALARM")
    for rule in rules:
        for instance in rule["instances"]:
            table.add_row(
                rule["name"],
                instance["device"],
                instance["mode"],
                rule["severity"],
                instance["state"],
                yes_no(instance["tripped"], good=False),
                instance["alarm"] or "",
            )
    return table


def synced(device: Mapping[str, Any]) -> bool:
    """Whether nothing that is desired of the device still waits or was refused."""
    wishes = (prop["desired"] for prop in device["properties"].values())
    return all(wish is None or wish["state"] in ("applied", "overridden") for wish in wishes)


def yes_no(value: bool, *, good: bool) -> Text:  # noqa: FBT001 - the value that is shown
    return Text("yes" if value else "no", style="" if value is good else "red")


def value_text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def age(timestamp: str | None) -> str:
    """How long ago, in the largest fitting unit."""
    if not timestamp:
        return "never"
    seconds = (datetime.now(UTC) - datetime.fromisoformat(timestamp)).total_seconds()
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f}{unit}"
    return f"{max(0.0, seconds):.1f}s"
