"""What each answer that is not the one asked for means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twinbridge.adapters.hub_kube.limits import Limits
from twinbridge.errors import HubRefused, HubUnavailable, TwinBridgeError

_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _CONFLICT, _GONE, _MANY = 401, 403, 404, 409, 410, 429
_SERVER = 500


class NotFound(HubRefused):
    """The hub says that there is no such thing."""


class Conflicting(HubRefused):
    """409: `status` is what the hub says of it."""

    def __init__(self, message: str, status: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.status = status


class Forbidden(HubUnavailable):
    """403: the right to it may be given again."""


class Gone(HubRefused):
    """410: that resource version is no longer kept."""


def failure(
    code: int,
    status: Mapping[str, Any],
    what: str,
    limits: Limits,
    retry_after: float | None = None,
) -> TwinBridgeError:
    """Of an HTTP status with its body, or of what a watch tells as an ERROR."""
    said = f"{what}: {code} {status.get('message', '')}".strip()
    found = {_CONFLICT: Conflicting(said, status), _GONE: Gone(said)}.get(code)
    if found is not None:
        return found
    if code == _NOT_FOUND and status.get("kind") == "Status":
        return NotFound(said)
    if code == _UNAUTHORIZED:
        return HubUnavailable(said, retry_after=retry_after or limits.unauthorized)
    if code == _FORBIDDEN:
        return Forbidden(said, retry_after=retry_after or limits.forbidden)
    # Who answers 404 without a Status is no Kubernetes API: a proxy on the way, perhaps.
    if code in (_MANY, _NOT_FOUND) or code >= _SERVER or code < 400:  # noqa: PLR2004 - HTTP
        return HubUnavailable(said, retry_after=retry_after)
    return HubRefused(said)


def seconds(text: str | None, limits: Limits) -> float | None:
    """Of a Retry-After in seconds; a date is not believed: clocks differ."""
    digits = (text or "").strip()
    return min(float(digits), limits.longest_asked) if digits.isdecimal() else None
