"""What the client library and a broker answer → the errors of the house and their words.

The one place where paho's codes are translated; a test walks its enumerations.
"""

from __future__ import annotations

from typing import Final

CONNACK: Final[dict[int, str]] = {
    1: "it does not speak this version of MQTT",
    2: "it refuses the client id",
    3: "it is not available now",
    4: "wrong user name or password",
    5: "not authorized: the user may not connect, or none was given",
}
"""Answers to CONNECT in MQTT 3.1.1 (3.2.2.3)."""

REASONS: Final[dict[int, str]] = {
    16: "nobody has subscribed to the topic",
    128: "refused without a reason",
    129: "it could not read the packet",
    130: "protocol error",
    131: "it refuses for a reason of its own",
    132: "it does not speak this version of MQTT",
    133: "it refuses the client id",
    134: "wrong user name or password",
    135: "not authorized",
    136: "it is not available now",
    137: "it is busy",
    138: "the client is banned",
    139: "it is shutting down",
    140: "wrong way of authentication",
    141: "it has not heard from the client for too long",
    142: "another client with the same client id has connected",
    143: "it does not take this topic filter",
    144: "it does not take this topic",
    145: "the packet identifier is in use",
    146: "the packet identifier is unknown",
    147: "too many messages in flight",
    148: "wrong topic alias",
    149: "the message is too large for it",
    150: "too many messages",
    151: "a quota is exceeded",
    152: "closed by its administrator",
    153: "it does not take this payload format",
    154: "it keeps no retained messages",
    155: "it does not take this quality of service",
    156: "another broker is to be used",
    157: "the broker has moved",
    158: "it has no shared subscriptions",
    159: "too many connections in a short time",
    160: "the connection was open for as long as it may be",
    161: "it has no subscription identifiers",
    162: "it takes no wildcards",
}
"""Reason codes of MQTT 5 (2.4) that say no; 128 is also what a SUBACK of 3.1.1 has."""

FAILURES: Final[dict[int, str]] = {
    -1: "the socket is not ready",
    1: "out of memory",
    2: "the broker sent what is no MQTT, or not of this version",
    3: "the client library took an argument for invalid",
    4: "not connected",
    5: "the broker refused the connection",
    6: "not found",
    7: "the connection was lost",
    8: "TLS failed",
    9: "the payload is too large",
    10: "not supported",
    11: "authentication failed",
    12: "access denied",
    13: "an unknown error of the client library",
    14: "the system reported an error",
    15: "too many messages wait to be sent",
    16: "the broker was silent for longer than keepalive",
}
"""Result codes of the client library."""

NOBODY_LISTENS: Final = 16
_REFUSED: Final = 128


def refused(code: int) -> bool:
    """Whether an acknowledgement says no."""
    return code >= _REFUSED


def reason(code: int) -> str:
    return REASONS.get(code, f"reason code {code}")


def connack(code: int) -> str:
    """Of either version: below 128 it is one of 3.1.1."""
    return reason(code) if code >= _REFUSED else CONNACK.get(code, f"return code {code}")


def failure(code: int) -> str:
    return FAILURES.get(code, f"result code {code}")
