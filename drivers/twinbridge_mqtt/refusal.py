"""Why a payload gives no value."""

from __future__ import annotations

from twinbridge.core.model import Reason

_SHOWN = 60
_QUOTES = 3
_NAMES = 5


class BadPayload(Exception):
    """Its text and its reason go beside the value; nothing else leaves the codec."""

    def __init__(self, message: str, reason: Reason = Reason.DEVICE_FAULT) -> None:
        super().__init__(message)
        self.reason = reason


class Missing(BadPayload):
    """The payload is sound, but what is asked for is not in it."""


def shown(raw: object) -> str:
    """What was found, short enough for one line, whatever it is."""
    if isinstance(raw, str | bytes | bytearray):
        text = repr(raw[:_SHOWN])
        cut = len(raw) > _SHOWN or len(text) > _SHOWN + _QUOTES
        return f"{text[: _SHOWN + _QUOTES]}…" if cut else text
    if isinstance(raw, dict):
        return f"an object of {', '.join(list(map(str, raw))[:_NAMES])[:_SHOWN] or 'nothing'}"
    if isinstance(raw, list):
        return f"a list of {len(raw)}"
    return "null" if raw is None else str(raw).lower() if isinstance(raw, bool) else str(raw)[:40]
