"""The Common Expression Language, by cel-python: loaded when the first rule is asked.

Without it nothing is checked; `twinbridge hub` does not start then.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from typing import Any, Final

INSTALLED: Final = importlib.util.find_spec("celpy") is not None
LONGEST: Final = 200
"""Characters of what the library says."""


@lru_cache(maxsize=512)
def _program(rule: str) -> Any:  # noqa: ANN401 - of a library without types
    import celpy  # noqa: PLC0415 - takes longer to load than the rest of the hub

    environment = celpy.Environment()
    return environment.program(environment.compile(rule))


def holds(rule: str, value: Any, *old: Any) -> str | None:  # noqa: ANN401 - any JSON
    """None when it does; else what to add to its message. `old`: the value before, if it asks."""
    if not INSTALLED:
        return None
    program = _program(rule)
    from celpy.adapter import json_to_cel  # noqa: PLC0415 - as above
    from celpy.evaluation import CELEvalError  # noqa: PLC0415

    asked = {"self": json_to_cel(value)}
    if old:
        asked["oldSelf"] = json_to_cel(old[0])
    try:
        fine = bool(program.evaluate(asked))
    except CELEvalError as error:
        said = str(error.args[0] if error.args else error)  # kilobytes, of some
        return f" (evaluation failed: {said[:LONGEST]})"
    return None if fine else ""
