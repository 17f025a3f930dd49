"""Events are stored as core/v1 has them; events.k8s.io/v1 shows the same under other names.

Source: k8s.io/kubernetes/pkg/apis/events/v1/conversion.go.
"""

from __future__ import annotations

from typing import Final

from twinbridge.hub.kinds import Json, Kind

GROUP: Final = "events.k8s.io"
_NAMES: Final = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_BACK: Final = {new: old for old, new in _NAMES.items()}


def to_stored(kind: Kind, document: Json) -> Json:
    """From the kind asked for to the one that is stored."""
    return _renamed(document, _BACK, "v1") if kind.group == GROUP else document


def to_shown(kind: Kind, document: Json) -> Json:
    """From the kind stored to the one asked for."""
    return _renamed(document, _NAMES, kind.api_version) if kind.group == GROUP else document


def _renamed(document: Json, names: dict[str, str], api_version: str) -> Json:
    made = {names.get(name, name): value for name, value in document.items()}
    return {**made, "apiVersion": api_version}
