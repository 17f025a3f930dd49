"""Formats of strings and numbers that a schema may ask for (github.com/go-openapi/strfmt).

Others than these are not checked: an API server leaves alone what it does not know.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Final

_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIME: Final = re.compile(
    r"(\d{2}):(\d{2}):(\d{2})(\.\d+)?(z|[+-]\d{2}:\d{2})", re.ASCII | re.IGNORECASE
)
_LAST: Final = (23, 59, 59)


def is_of_format(value: str, name: str) -> bool:
    match name:
        case "date":
            return _is_date(value)
        case "date-time":
            return _is_date_time(value)
    return True


def _is_date(text: str) -> bool:
    if not _DATE.fullmatch(text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _is_date_time(text: str) -> bool:
    day, separator, rest = text.partition("T" if "T" in text else "t")
    time = _TIME.fullmatch(rest)
    if not separator or time is None or not _is_date(day):
        return False
    return all(int(time[n]) <= last for n, last in enumerate(_LAST, 1))
