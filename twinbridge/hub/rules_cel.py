"""Rules of schemas in the Common Expression Language, by cel-python where it is installed."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

try:
    import celpy
    from celpy.adapter import json_to_cel
    from celpy.evaluation import CELEvalError

    INSTALLED = True
except ImportError:  # the edge refuses it all the same: it has the models themselves
    INSTALLED = False


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
        return f" (evaluation failed: {error.args[0] if error.args else error})"
    return None if fine else ""
