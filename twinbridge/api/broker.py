"""Which broker, and who we are to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from twinbridge.core.model import SECOND
from twinbridge.errors import InvalidInput

PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
_ALLOWED = "mqtt://[user@]host[:1883] or mqtts://[user@]host[:8883]"
_OPTIONS = ("passwordFile", "ca", "cert", "key", "clientId")


@dataclass(frozen=True, slots=True)
class Tls:
    """Whom to trust and, where the broker asks for it, who we are: paths of PEM files."""

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker says for us when we are lost."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Broker:
    """Times in ns. `version`: "3.1.1" or "5". `client_id` '' is made up, one per process."""

    host: str
    port: int = 1883
    client_id: str = ""
    version: str = "5"
    username: str | None = None
    password_file: str | None = None
    tls: Tls | None = None
    keepalive: int = 5 * SECOND
    timeout: int = 5 * SECOND
    called: str = ""
    """What messages to people call it; '' for its address."""

    @property
    def endpoint(self) -> str:
        """`mqtt://host:1883`, for people."""
        if self.called:
            return self.called
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"


def parse_url(text: str) -> Broker:
    """`mqtt[s]://[user@]host[:port][?passwordFile=…&ca=…&cert=…&key=…&clientId=…]`.

    A password stands in a file, never in a URL that a list of processes shows. Raises
    InvalidInput.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise InvalidInput(f"{text!r} is no address of a broker; give {_ALLOWED}") from None
    if parts.scheme not in PORTS or not parts.hostname or port == 0 or parts.path.strip("/"):
        raise InvalidInput(f"{text!r} is no address of a broker; give {_ALLOWED}")
    if parts.password is not None:
        raise InvalidInput("give the broker's password as ?passwordFile=PATH, not in the URL")
    options = {name: found[-1] for name, found in parse_qs(parts.query).items()}
    for name in options:
        if name not in _OPTIONS:
            raise InvalidInput(f"{text!r}: unknown option {name}; allowed: {', '.join(_OPTIONS)}")
    return _broker(text, parts.scheme, parts.hostname, port, parts.username, options)


def _broker(
    text: str, scheme: str, host: str, port: int | None, user: str | None, options: dict[str, str]
) -> Broker:
    broker = Broker(
        host,
        port or PORTS[scheme],
        client_id=options.get("clientId", ""),
        username=unquote(user) if user else None,
        password_file=options.get("passwordFile"),
    )
    if broker.password_file and not user:
        raise InvalidInput(f"{text!r}: passwordFile needs a user, as in mqtt://user@host")
    if ("cert" in options) != ("key" in options):
        raise InvalidInput(f"{text!r}: cert and key belong together: give both or neither")
    if scheme == "mqtts":
        return replace(broker, tls=Tls(options.get("ca"), options.get("cert"), options.get("key")))
    if options.keys() & {"ca", "cert", "key"}:
        raise InvalidInput(f"{text!r}: ca, cert and key are for mqtts://")
    return broker
