"""A conflict of server-side apply, as the API server tells it (structured-merge-diff)."""

from __future__ import annotations

from twinbridge.hub import refusals
from twinbridge.hub.apply import ApplyConflict
from twinbridge.hub.refusals import Cause, Refused


def told(conflict: ApplyConflict) -> Refused:
    """As `kubectl apply --server-side` shows it: by manager, each with its fields."""
    causes = [
        Cause(field, "FieldManagerConflict", f"conflict with {manager}")
        for field, manager in conflict.causes
    ]
    if len(causes) == 1:
        message = f"Apply failed with 1 conflict: {causes[0].message}: {causes[0].field}"
        return refusals.apply_conflict(message, causes)
    fields: dict[str, list[str]] = {}
    for field, manager in conflict.causes:
        fields.setdefault(manager, []).append(f"- {field}")
    parts = [
        "\n".join((f"conflicts with {manager}:", *listed))
        for manager, listed in sorted(fields.items())
    ]
    message = f"Apply failed with {len(causes)} conflicts: " + "\n".join(parts)
    return refusals.apply_conflict(message, causes)
