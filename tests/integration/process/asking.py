"""Questions to a process over HTTP, from outside."""

from __future__ import annotations

import urllib.error
import urllib.request


def get(url: str) -> tuple[int, str]:
    """Status and text; raises OSError when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read().decode()


def status_of(url: str) -> int:
    """0 when nobody answers."""
    try:
        return get(url)[0]
    except OSError:
        return 0
