"""One desired value as it is kept, shown, sent and journalled."""

from __future__ import annotations

from dataclasses import replace

from twinbridge.api.wire import Json, timestamp
from twinbridge.app.clock import Clock
from twinbridge.core.messages import Audit, Desire, DesiredState
from twinbridge.core.model import DesiredSpec, Value
from twinbridge.errors import InvalidDesired
from twinbridge.ports import Actor, StoredDesired

DEVICE_ORIGIN = "device"
"""Of what a Device resource desires."""
WITHDRAWN = "withdrawn"
"""Kept in the store as the grave of a desired value, so that its version is not given again."""


def new_entry(device: str, wish: DesiredSpec, version: int, origin: str, now: int) -> StoredDesired:
    """A wish, pending. `now` is UTC ns."""
    return StoredDesired(
        device,
        wish.property,
        wish.value,
        version,
        origin,
        DesiredState.PENDING.value,
        accepted=now,
        changed=now,
    )


def grave(device: str, name: str, held: Value, version: int) -> StoredDesired:
    """Of what nobody desires, and a trip holds or held."""
    return StoredDesired(device, name, held, version, "", WITHDRAWN, held=held)


def desired_view(entry: StoredDesired) -> Json:
    view: Json = {
        "value": entry.value,
        "version": entry.version,
        "origin": entry.origin,
        "state": entry.state,
        "message": entry.message,
        "timestamp": timestamp(entry.changed),
    }
    if entry.valid_until is not None:
        view["validUntil"] = timestamp(entry.valid_until)
    return view


def to_desire(entry: StoredDesired, accepted_mono: int, epoch: str) -> Desire:
    """The message to the machines' side; `accepted_mono` is 0 for what came from disk."""
    return Desire(
        entry.device,
        entry.property,
        entry.value,
        entry.version,
        entry.origin,
        entry.accepted,
        entry.valid_until,
        accepted_mono,
        epoch,
    )


def deadline(wish: DesiredSpec, now: int) -> int | None:
    """UTC ns until which a wish is valid, None for ever. Raises InvalidDesired when it is over."""
    if wish.valid_for is not None:
        return now + wish.valid_for
    if wish.valid_until is not None and wish.valid_until <= now:
        field = f"{wish.property}.validUntil"
        raise InvalidDesired(f"{field}: it is over", field=field, allowed="a time to come")
    return wish.valid_until


def wish_text(wish: DesiredSpec) -> str:
    """What a resource's entry says: equal texts are one wish."""
    text = f"{wish.value!r} until={wish.valid_until} for={wish.valid_for}"
    return text if wish.given_at is None else f"{text} given={wish.given_at}"


def heard(entry: StoredDesired, wish: DesiredSpec, *, older: bool) -> StoredDesired:
    """The entry, once the wish is heard. `older`: it may be, than the reset of a trip."""
    said = replace(entry, spec=wish_text(wish))
    return said if older else replace(said, held=None, released=0)


def record(entry: StoredDesired, old: StoredDesired | None, actor: Actor, clock: Clock) -> Audit:
    """The journal's record of an entry that was accepted in place of `old`."""
    withdrawn = entry.state == WITHDRAWN
    detail: dict[str, object] = {
        "who": actor.name,
        "from": actor.address,
        "old": old.value if old else None,
        "new": None if withdrawn else entry.value,
        "version": entry.version,
        "validUntil": timestamp(entry.valid_until or 0),
    }
    kind = "desired.withdrawn" if withdrawn else "desired.accepted"
    subject = f"{entry.device}/{entry.property}"
    return Audit(kind, subject, actor.origin, detail, clock.wall(), clock.mono())
