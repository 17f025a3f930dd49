"""Rules of schemas in the Common Expression Language, by cel-python.

Without it nothing is checked; `twinbridge hub` does not start then.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

try:
    import celpy
    from celpy.adapter import json_to_cel
    from celpy.evaluation import CELEvalError

    INSTALLED = True
except ImportError:
    INSTALLED = False


LONGEST = 200
"""Characters of what the library says."""


@lru_cache(maxsize=512)
def _program(rule: str) -> Any:  # noqa: ANN401 - of a library without types
    environment = celpy.Environment()
    return environment.program(environment.compile(rule))


def holds(rule: str, value: Any) -> str | None:  # noqa: ANN401 - any JSON
    """None when it does; else what to add to its message."""
    if not INSTALLED:
        return None
    try:
        fine = bool(_program(rule).evaluate({"self": json_to_cel(value)}))
    except CELEvalError as error:
        said = str(error.args[0] if error.args else error)  # kilobytes, of some
        return f" (evaluation failed: {said[:LONGEST]})"
    return None if fine else ""
