"""What a Device says of its MQTT broker and a property of its topic and payload.

These models become part of the CRDs; their field descriptions are the reference a user reads.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from twinbridge.api.base import Scalar
from twinbridge.api.broker import Broker, Tls
from twinbridge.api.durations import Duration, format_duration
from twinbridge.core.model import SECOND

Version: TypeAlias = Literal["3.1.1", "5"]
Format: TypeAlias = Literal["json", "raw", "csv", "hex", "binary"]
Encoding: TypeAlias = Literal[
    "bool",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float32",
    "float64",
    "string",
]
Order: TypeAlias = Literal["ABCD", "CDAB", "BADC", "DCBA"]
TimeUnit: TypeAlias = Literal["s", "ms", "us", "ns", "iso"]

DEFAULT_COMMAND = '{"id": {id}, "value": {value}, "expires": {expires}}'
RAW_COMMAND = "raw"
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_FIELD = re.compile(r"\{([^{}]*)\}")
_LONGEST_TOPIC = 65_535
_LONGEST_KEEPALIVE = 65_535 * SECOND


class _Model(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
    )


def topic_template(*fields: str) -> BeforeValidator:
    """Checks a topic in which the named fields stand for what they are called."""
    allowed = " and ".join(f"{{{name}}}" for name in fields)

    def check(topic: object) -> object:
        if not isinstance(topic, str):
            return topic
        if "+" in topic or "#" in topic:
            raise ValueError(
                f"{topic!r} has a wildcard; a property has one topic, in which {allowed} may stand"
            )
        if not topic or "\0" in topic or len(topic.encode()) > _LONGEST_TOPIC:
            raise ValueError("a topic has 1 to 65535 bytes, and no NUL")
        unknown = [name for name in _FIELD.findall(topic) if name not in fields]
        if unknown or "{" in _FIELD.sub("", topic) or "}" in _FIELD.sub("", topic):
            raise ValueError(f"{topic!r}: only {allowed} may stand in braces")
        return topic

    return BeforeValidator(check)


Topic: TypeAlias = Annotated[str, topic_template("device", "property")]
DeviceTopic: TypeAlias = Annotated[str, topic_template("device")]


def parse_pointer(pointer: str) -> tuple[str, ...]:
    """`/a~1b/0` → ('a/b', '0') (RFC 6901). Raises ValueError."""
    if pointer and not pointer.startswith("/"):
        raise ValueError(f"{pointer!r} is no JSON pointer: it begins with /, e.g. /temp")
    if re.search(r"~(?![01])", pointer):
        raise ValueError(f"{pointer!r} is no JSON pointer: ~ is written ~0, / in a name ~1")
    return tuple(p.replace("~1", "/").replace("~0", "~") for p in pointer.split("/")[1:])


_STEP = re.compile(r"\.([^.\[\]'\"*]+)|\[(-?\d+)\]|\['([^']*)'\]|\[\"([^\"]*)\"\]")


def parse_path(path: str) -> tuple[str | int, ...]:
    """`$.a['b c'][0]` → ('a', 'b c', 0): names and indices of RFC 9535. Raises ValueError."""
    wrong = ValueError(f"{path!r} is no path of names and indices such as $.a.b[0]['c d']")
    if not path.startswith("$"):
        raise wrong
    steps: list[str | int] = []
    at = 1
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None:
            raise wrong
        dotted, index, *quoted = step.groups()
        named = (name for name in (dotted, *quoted) if name is not None)
        steps.append(int(index) if index is not None else next(named))
        at = step.end()
    return tuple(steps)


def _pointer(text: object) -> object:
    if isinstance(text, str):
        parse_pointer(text)
    return text


def _path(text: object) -> object:
    if isinstance(text, str):
        parse_path(text)
    return text


def _texts(table: object) -> object:
    """Keys are the texts of what they stand for; YAML reads true and 1 as what they are."""
    if not isinstance(table, dict):
        return table
    return {
        str(key).lower() if isinstance(key, bool | None) else str(key): value
        for key, value in table.items()
    }


JsonPointer: TypeAlias = Annotated[str, BeforeValidator(_pointer)]
JsonPath: TypeAlias = Annotated[str, BeforeValidator(_path)]
Table: TypeAlias = Annotated[dict[str, Scalar], BeforeValidator(_texts)]


class TlsOptions(_Model):
    """Whom to trust and, where the broker asks for it, who we are."""

    ca: str | None = Field(
        default=None,
        min_length=1,
        description="PEM file of the authorities that are trusted; the system's, if left out.",
    )
    certificate: str | None = Field(
        default=None, min_length=1, description="PEM file of the client's certificate."
    )
    key: str | None = Field(
        default=None, min_length=1, description="PEM file of the client's private key."
    )

    @model_validator(mode="after")
    def _certificate_and_key(self) -> TlsOptions:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: give both or neither")
        return self


class Availability(_Model):
    """Where a device, or its last will, says whether it is there."""

    topic: DeviceTopic = Field(
        description="Its topic, mostly retained; {device} stands for the device."
    )
    pointer: JsonPointer | None = Field(
        default=None, description="Where in a JSON payload the word is, e.g. /state."
    )
    online: str = Field(default="online", min_length=1, description="What says that it is there.")
    offline: str = Field(default="offline", min_length=1, description="What says that it is gone.")

    @model_validator(mode="after")
    def _different(self) -> Availability:
        if self.online == self.offline:
            raise ValueError("online and offline must be different texts")
        return self


class MqttConnection(_Model):
    """How a device is reached over MQTT. Devices with the same broker and user share a link."""

    url: str = Field(description="mqtt://host:1883, or mqtts://host:8883 with TLS.")
    version: Version = Field(default="3.1.1", description="Version of the protocol.")
    client_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=23_000,
        description="Client id; if left out, one of this process and broker.",
    )
    device: str | None = Field(
        default=None,
        min_length=1,
        pattern=r"^[^+#{}\x00]+$",
        description="What {device} stands for in topics, if it is not the Device's name.",
    )
    keepalive: Duration = Field(
        default="5s",
        validate_default=True,
        ge=SECOND,
        le=_LONGEST_KEEPALIVE,
        multiple_of=SECOND,
        description="In whole seconds. A broker silent for 1.5 times as long is lost.",
    )
    timeout: Duration = Field(
        default="2s",
        validate_default=True,
        gt=0,
        description="How long to wait for a connection or an acknowledgement, e.g. 2s.",
    )
    username: str | None = Field(default=None, min_length=1, description="User of the broker.")
    password_file: str | None = Field(
        default=None, min_length=1, description="File that holds the user's password."
    )
    tls: TlsOptions | None = Field(default=None, description="Certificates, for mqtts.")
    availability: Availability | None = Field(
        default=None, description="Where the device says whether it is there."
    )
    max_age: Duration | None = Field(
        default=None,
        gt=0,
        description="How old a value may become before it is stale; properties may say their own.",
    )
    queue_limit: int = Field(
        default=10_000,
        ge=100,
        le=1_000_000,
        description="Messages that may wait; beyond it only the latest of each topic is kept.",
    )

    @model_validator(mode="after")
    def _sound(self) -> MqttConnection:
        parts = urlsplit(self.url)
        if parts.scheme not in _PORTS or not parts.hostname or self._port_wrong():
            raise ValueError(f"url {self.url!r}: write mqtt://host:1883 or mqtts://host:8883")
        if parts.username or parts.password:
            raise ValueError("url: give the user as username, the password in passwordFile")
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError(f"url {self.url!r} has more than a host and a port")
        if self.tls is not None and not self.secure:
            raise ValueError("tls is for mqtts://, not mqtt://")
        if self.password_file is not None and self.username is None:
            raise ValueError("passwordFile needs a username")
        return self

    def _port_wrong(self) -> bool:
        try:
            return urlsplit(self.url).port == 0
        except ValueError:
            return True

    @property
    def secure(self) -> bool:
        return urlsplit(self.url).scheme == "mqtts"

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        parts = urlsplit(self.url)
        return parts.port or _PORTS[parts.scheme]

    def broker(self) -> Broker:
        tls = self.tls or TlsOptions()
        return Broker(
            self.host,
            self.port,
            self.client_id or "",
            self.version,
            self.username,
            self.password_file,
            Tls(tls.ca, tls.certificate, tls.key) if self.secure else None,
            self.keepalive,
            self.timeout,
            self.endpoint,
        )

    @property
    def endpoint(self) -> str:
        """`mqtt://host:1883#user`, and what else keeps devices from sharing a connection."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "mqtts" if self.secure else "mqtt"
        whole = f"{scheme}://{host}:{self.port}"
        if self.username is not None:
            whole += f"#{self.username}"
        options = "&".join(self._own_options())
        return f"{whole}?{options}" if options else whole

    def _own_options(self) -> list[str]:
        tls = self.tls or TlsOptions()
        options = {
            "version": self.version,
            "clientId": self.client_id,
            "keepalive": format_duration(self.keepalive),
            "timeout": format_duration(self.timeout),
            "queueLimit": self.queue_limit,
            "passwordFile": self.password_file,
            "ca": tls.ca,
            "certificate": tls.certificate,
            "key": tls.key,
        }
        usual = {"version": "3.1.1", "keepalive": "5s", "timeout": "2s", "queueLimit": 10_000}
        return [f"{k}={v}" for k, v in options.items() if v is not None and v != usual.get(k)]


class PayloadTime(_Model):
    """Where in the payload the device says when it measured."""

    pointer: JsonPointer | None = Field(default=None, description="JSON pointer, e.g. /ts.")
    path: JsonPath | None = Field(default=None, description="JSON path, e.g. $.meta.ts.")
    column: int | None = Field(default=None, ge=0, description="Column of csv, from 0.")
    unit: TimeUnit = Field(
        default="ms", description="Since 1970 in s, ms, us or ns; iso for an RFC 3339 text."
    )

    @model_validator(mode="after")
    def _one_place(self) -> PayloadTime:
        if sum(p is not None for p in (self.pointer, self.path, self.column)) != 1:
            raise ValueError("give exactly one of pointer, path and column")
        return self


def _did_it() -> list[Scalar]:
    return ["ok", True]


class Response(_Model):
    """Where a device answers a command. With MQTT 5 it is also told as the response topic."""

    topic: Topic = Field(description="Its topic; {device} and {property} may stand in it.")
    id: JsonPointer = Field(default="/id", description="Where the command's id is, a JSON pointer.")
    status: JsonPointer = Field(default="/status", description="Where it says whether it did it.")
    ok: list[Scalar] = Field(
        default_factory=_did_it,
        min_length=1,
        description="What the status is when it did it: ok or true, if left out.",
    )
    message: JsonPointer = Field(
        default="/message", description="Where it says why it did not, if it does."
    )


class CommandOptions(_Model):
    """How the property is written: published with QoS 1, not retained."""

    topic: Topic = Field(description="Its topic; {device} and {property} may stand in it.")
    payload: str = Field(
        default=DEFAULT_COMMAND,
        min_length=1,
        description="What is sent, with {value}, {id} and {expires} (ms since 1970) in it; raw is "
        "the value alone. In one that begins with { or [ they are put in as JSON, else as text.",
    )
    values: Table = Field(
        default_factory=dict,
        description='What is sent for a value, where it is not itself: {true: "ON"}.',
    )
    expiry: Duration = Field(
        default="10s",
        validate_default=True,
        gt=0,
        description="How long the command holds; the device, and with MQTT 5 the broker, drop it.",
    )
    response: Response | None = Field(
        default=None, description="Where the device answers, if it does; then it is waited for."
    )


class MqttAddress(_Model):
    """On which topic a property is told, and what in the payload is its value."""

    topic: Topic | None = Field(
        default=None, description="Its topic; {device} and {property} may stand in it."
    )
    format: Format = Field(
        default="json",
        description="json, raw (UTF-8 text), csv, hex (bytes as text) or binary (bytes).",
    )
    pointer: JsonPointer | None = Field(
        default=None, description="JSON pointer of the value, e.g. /temp; the whole, if left out."
    )
    path: JsonPath | None = Field(
        default=None, description="The same as a JSON path of names and indices: $.a.b[0]."
    )
    column: int | None = Field(
        default=None, ge=0, description="Column of csv, from 0; of the last line with content."
    )
    separator: str = Field(default=",", min_length=1, max_length=1, description="Between columns.")
    encoding: Encoding | None = Field(default=None, description="Of hex and binary.")
    order: Order = Field(default="ABCD", description="Byte order of hex and binary.")
    byte_offset: int = Field(default=0, ge=0, le=262_143, description="Its first byte, from 0.")
    length: int | None = Field(
        default=None, ge=1, le=65_535, description="Bytes of a string in hex or binary."
    )
    bit: int | None = Field(
        default=None, ge=0, le=63, description="One bit of an integer as a bool; 0 is the least."
    )
    scale: float | None = Field(default=None, description="value = raw * scale + offset; not zero.")
    offset: float = Field(default=0.0, description="Added after scaling.")
    labels: Table = Field(
        default_factory=dict,
        description='What the texts of the payload mean: {"ON": true, "OFF": false}.',
    )
    timestamp: PayloadTime | None = Field(
        default=None, description="Where the payload says when; the time of receipt, if left out."
    )
    optional: bool = Field(
        default=False, description="May be left out of a message; the value then stays."
    )
    max_age: Duration | None = Field(
        default=None, gt=0, description="How old the value may become before it is stale."
    )
    qos: Literal[0, 1] = Field(default=0, description="Of the subscription.")
    command: CommandOptions | None = Field(
        default=None, description="How the property is written, if it can be."
    )

    @model_validator(mode="after")
    def _somewhere(self) -> MqttAddress:
        if self.topic is None and self.command is None:
            raise ValueError("give a topic, a command or both")
        if self.pointer is not None and self.path is not None:
            raise ValueError("give pointer or path, not both")
        return self
