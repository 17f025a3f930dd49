"""What crosses the bus, as bytes: JSON, compact where there is much of it.

Every `decode_*` raises Malformed for whatever does not fit; nothing is half taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

from twinbridge import errors
from twinbridge.adapters.driver_store import KeptRecord, Record, decode_record
from twinbridge.adapters.state_rows import dumps, loads
from twinbridge.core.messages import (
    Acknowledge,
    Contact,
    Desire,
    Request,
    ResetTrip,
    Samples,
    SetMode,
    Shelve,
    TellAll,
)
from twinbridge.core.model import Quality, Reason, Sample
from twinbridge.core.rule import Mode
from twinbridge.errors import InvalidDesired, TwinBridgeError

T = TypeVar("T")

FORMAT: Final = 1
"""Of everything here. A process refuses what another format has, and says so."""
LARGEST: Final = 16 * 1024 * 1024
"""Bytes of a message; a larger one is refused."""

_QUALITIES: Final = tuple(Quality)
_REASONS: Final = tuple(Reason)
_QUALITY: Final = {quality: number for number, quality in enumerate(_QUALITIES)}
_REASON: Final = {reason: number for number, reason in enumerate(_REASONS)}
_UNFIT: Final = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError
)  # fmt: skip
_REQUESTS: Final[dict[str, type[Request]]] = {
    "desire": Desire,
    "reset": ResetTrip,
    "acknowledge": Acknowledge,
    "shelve": Shelve,
    "mode": SetMode,
    "tell": TellAll,
}
_KINDS: Final = {kind: name for name, kind in _REQUESTS.items()}


class Malformed(ValueError):
    """The bytes are none of ours."""


# Samples and contacts.


class Frame(NamedTuple):
    """What a driver said at once; `number` counts the frames of one start (`boot`) from 1."""

    boot: str
    number: int
    events: Sequence[Samples | Contact]
    since: int = 0
    """UTC ns at which its machines said the first of it; 0: not told."""


def encode_frame(frame: Frame) -> bytes:
    boot, number, events, since = frame
    return dumps([FORMAT, boot, number, [_event(e) for e in events], since])


def _event(event: Samples | Contact) -> list[object]:
    if isinstance(event, Contact):
        return list(event)
    quality, reason = _QUALITY, _REASON
    return [
        event.device,
        [
            (name, s.value, quality[s.quality], reason[s.reason], s.source_time, s.seq, s.detail)
            if s.detail
            else (name, s.value, quality[s.quality], reason[s.reason], s.source_time, s.seq)
            for name, s in event.samples
        ],
    ]


def decode_frame(payload: bytes) -> Frame:
    return _decoded(payload, _frame)


def _frame(content: list[object]) -> Frame:
    version, boot, number, events, *rest = content
    _check_format(version)
    since = rest[0] if rest else 0
    if not isinstance(boot, str) or not isinstance(number, int) or not isinstance(events, list):
        raise Malformed("a frame is format, boot, number, events")
    if not isinstance(since, int):
        raise Malformed("a frame's time is in ns")
    return Frame(boot, number, [_event_from(event) for event in events], since)


def _event_from(event: list[object]) -> Samples | Contact:
    device, second, *rest = event
    if not isinstance(device, str):
        raise Malformed("an event names its device")
    if isinstance(second, bool):
        at, message = rest
        if not isinstance(at, int) or not isinstance(message, str):
            raise Malformed("a contact has a time and a message")
        return Contact(device, second, at, message)
    if not isinstance(second, list):
        raise Malformed("an event has samples")
    return Samples(device, tuple([_sample_from(*sample) for sample in second]))


def _sample_from(
    name: str,
    value: Any,  # noqa: ANN401 - JSON has no better type
    quality: int,
    reason: int,
    source_time: int,
    seq: int,
    detail: str = "",
) -> tuple[str, Sample]:
    if isinstance(value, list | dict):
        raise Malformed("a value is a scalar")
    return name, Sample(value, _QUALITIES[quality], _REASONS[reason], source_time, seq, detail)


# Records.


def encode_handover(records: Sequence[KeptRecord]) -> bytes:
    parts = b",".join(b"[%d,%s]" % record for record in records)
    return b"[%d,[%s]]" % (FORMAT, parts)


def decode_handover(payload: bytes) -> Sequence[tuple[int, Record]]:
    return _decoded(payload, _handover)


def _handover(content: list[object]) -> Sequence[tuple[int, Record]]:
    version, records = content
    _check_format(version)
    found: list[tuple[int, Record]] = []
    for number, body in records:  # type: ignore[attr-defined]  # an error of it is caught
        if not isinstance(number, int):
            raise Malformed("a record has a number")
        found.append((number, decode_record(dumps(body))))
    return found


# Requests and their answers.


class Asked(NamedTuple):
    """A request: the `number` counts those of one start (`boot`) of the agent from 1."""

    agent: str
    boot: str
    number: int
    request: Request
    system: str
    """Names the boot of the agent's machine, within which monotonic times compare."""


def encode_asked(asked: Asked) -> bytes:
    name = _KINDS[type(asked.request)]
    body = {"kind": name, **asked.request._asdict()}
    head = [FORMAT, asked.agent, asked.boot, asked.number, asked.system]
    return dumps([*head, body])


def decode_asked(payload: bytes) -> Asked:
    return _decoded(payload, _asked)


def _asked(content: list[object]) -> Asked:
    version, agent, boot, number, system, body = content
    _check_format(version)
    if not isinstance(body, dict) or not isinstance(number, int):
        raise Malformed("a request has a number and a body")
    kind = _REQUESTS[body.pop("kind")]
    known = {name: value for name, value in body.items() if name in kind._fields}
    if kind is SetMode:
        known["mode"] = Mode(known["mode"])
    if kind is TellAll:
        known = {name: tuple(value) for name, value in known.items()}
    return Asked(str(agent), str(boot), number, kind(**known), str(system))


class Answer(NamedTuple):
    """What a driver says of a request; `error` None: it is done."""

    number: int
    owner: str
    error: TwinBridgeError | None = None


def encode_answer(answer: Answer) -> bytes:
    error = answer.error
    told: dict[str, object] = {}
    if error is not None:
        told = {"error": type(error).__name__, "message": str(error)}
    if isinstance(error, InvalidDesired):
        told |= {"field": error.field, "allowed": error.allowed}
    return dumps([FORMAT, answer.number, answer.owner, told])


def decode_answer(payload: bytes) -> Answer:
    return _decoded(payload, _answer)


def _answer(content: list[object]) -> Answer:
    version, number, owner, told = content
    _check_format(version)
    if not isinstance(number, int) or not isinstance(told, dict):
        raise Malformed("an answer has a number and what is told")
    return Answer(number, str(owner), _error(told) if told else None)


def _error(told: Mapping[str, str]) -> TwinBridgeError:
    if told["error"] == InvalidDesired.__name__:
        return InvalidDesired(told["message"], field=told["field"], allowed=told["allowed"])
    kind = getattr(errors, told["error"], TwinBridgeError)
    known = isinstance(kind, type) and issubclass(kind, TwinBridgeError)
    return (kind if known else TwinBridgeError)(told["message"])


# Who is there.


@dataclass(frozen=True, slots=True)
class DriverStatus:
    """What a driver says of itself, retained. Its last will is the same with `online` False."""

    online: bool
    protocol: str = ""
    share: str = ""
    version: str = ""
    boot: str = ""
    definitions: str = ""
    """Hash of the definitions that it runs."""
    devices: tuple[str, ...] = ()
    standby: tuple[str, ...] = ()
    """Devices of its share that another driver serves."""
    problems: tuple[tuple[str, str], ...] = ()
    """By resource: why it does not run here."""


def encode_status(status: DriverStatus) -> bytes:
    return dumps([FORMAT, {name: getattr(status, name) for name in DriverStatus.__slots__}])


def decode_status(payload: bytes) -> DriverStatus:
    return _decoded(payload, _status)


def _status(content: list[object]) -> DriverStatus:
    version, body = content
    _check_format(version)
    if not isinstance(body, dict) or not isinstance(body.get("online"), bool):
        raise Malformed("a status says whether its driver is online")
    known = {name: body[name] for name in DriverStatus.__slots__ if name in body}
    for name in ("devices", "standby"):
        known[name] = tuple(str(device) for device in known.get(name, ()))
    known["problems"] = tuple((str(a), str(b)) for a, b in known.get("problems", ()))
    return DriverStatus(**known)


class AgentStatus(NamedTuple):
    online: bool
    agent: str
    boot: str
    version: str = ""


def encode_agent(status: AgentStatus) -> bytes:
    return dumps([FORMAT, *status])


def decode_agent(payload: bytes) -> AgentStatus:
    return _decoded(payload, _agent)


def _agent(content: list[object]) -> AgentStatus:
    version, online, agent, boot, *rest = content
    _check_format(version)
    return AgentStatus(online is True, str(agent), str(boot), *(str(r) for r in rest[:1]))


# Definitions.


@dataclass(frozen=True, slots=True)
class Portion:
    """What the drivers of one protocol need to know: resources as they were written.

    `modes`: of rules, as set by hand. `exports`: devices that rules in other processes read.
    """

    hash: str
    epoch: str
    version: str
    documents: tuple[tuple[str, object], ...]
    """Where each comes from, and its content."""
    modes: tuple[tuple[str, str], ...] = ()
    exports: tuple[str, ...] = ()


def encode_portion(portion: Portion) -> bytes:
    return dumps([FORMAT, {name: getattr(portion, name) for name in Portion.__slots__}])


def decode_portion(payload: bytes) -> Portion:
    return _decoded(payload, _portion)


def _portion(content: list[object]) -> Portion:
    version, body = content
    _check_format(version)
    if not isinstance(body, dict):
        raise Malformed("definitions are a mapping")
    return Portion(
        str(body["hash"]),
        str(body["epoch"]),
        str(body["version"]),
        tuple((str(place), document) for place, document in body["documents"]),
        tuple((str(rule), str(Mode(mode))) for rule, mode in body["modes"]),
        tuple(str(device) for device in body["exports"]),
    )


def _check_format(version: object) -> None:
    if version != FORMAT:
        raise Malformed(f"format {version!r} of the bus is not known here, only {FORMAT}")


def _decoded(payload: bytes, read: Callable[[list[object]], T]) -> T:
    if len(payload) > LARGEST:
        raise Malformed(f"{len(payload)} bytes are more than {LARGEST}")
    try:
        return read(loads(payload))
    except Malformed:
        raise
    except _UNFIT as error:
        raise Malformed(f"{type(error).__name__}: {error}") from error
