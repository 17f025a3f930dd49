"""Options that several long-running commands share, and what their texts mean."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from twinbridge.core.model import SECOND
from twinbridge.errors import InvalidInput

DEFAULT_API = "127.0.0.1:8470"
DEFAULT_STATE = Path("twinbridge-state")
STUCK_AFTER = "10s"
SHORTEST_STUCK = 1.0
"""Seconds; on a busy machine a healthy loop may wait for fractions of one."""


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


Files: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "-f", "--file", help="YAML file or folder; may be repeated. Needed without --hub."
    ),
]
HubWhere: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--hub",
        envvar="TWINBRIDGE_HUB",
        help="Where definitions come from and status goes: http(s)://HOST:PORT, a kubeconfig, or"
        " in-cluster.",
    ),
]
HubNamespace: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--hub-namespace",
        envvar="TWINBRIDGE_HUB_NAMESPACE",
        help="Namespace there. Otherwise that of the kubeconfig or of the pod, or default.",
    ),
]
HubTokenFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--hub-token-file", envvar="TWINBRIDGE_HUB_TOKEN_FILE", help="Token; read again when new."
    ),
]
HubCaFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--hub-ca-file", envvar="TWINBRIDGE_HUB_CA_FILE", help="CA of the hub's address."),
]
ConnectivityFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--connectivity", help="How this node stands to its hub; goes before EdgeNode."),
]
StateDir: TypeAlias = Annotated[
    Path, typer.Option("--state-dir", help="Where twins, latches and the audit are kept.")
]
Api: TypeAlias = Annotated[str, typer.Option("--api", help="HOST:PORT of the REST API.")]
ApiTokenFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--api-token-file", help="Lines of `token role name`; needed off loopback."),
]
BusUrl: TypeAlias = Annotated[
    str,
    typer.Option(
        "--bus",
        envvar="TWINBRIDGE_BUS",
        help="The node's broker: mqtt://[user@]host[:port][?passwordFile=…&ca=…&cert=…&key=…]",
    ),
]
NodeName: TypeAlias = Annotated[
    str, typer.Option("--node", envvar="TWINBRIDGE_NODE", help="Name of this edge node.")
]
Mqtt: TypeAlias = Annotated[
    str | None,
    typer.Option("--mqtt", help="Broker on which SCADA finds the twins, as the EdgeNode may say."),
]
StuckAfter: TypeAlias = Annotated[
    str,
    typer.Option("--stuck-after", help="How long an event loop may stand before /healthz says so."),
]
LogFormatOption: TypeAlias = Annotated[LogFormat, typer.Option("--log-format")]
LogLevelOption: TypeAlias = Annotated[LogLevel, typer.Option("--log-level")]


def split_address(text: str) -> tuple[str, int]:
    """`HOST:PORT` or `[V6]:PORT`. Raises InvalidInput."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004
        raise InvalidInput(f"{text!r} is no address; give HOST:PORT, such as {DEFAULT_API}")
    return host.strip("[]"), int(port)


def stuck_seconds(text: str) -> float:
    """Of `--stuck-after`. Raises InvalidInput."""
    from twinbridge.api.wire import parse_duration

    seconds = parse_duration(text, "--stuck-after") / SECOND
    if seconds < SHORTEST_STUCK:
        allowed = f"{SHORTEST_STUCK:.0f}s or more"
        raise InvalidInput(f"--stuck-after {text}: too short; allowed: {allowed}")
    return seconds


@dataclass(frozen=True, slots=True)
class HubOptions:
    where: str
    """URL, kubeconfig file, or `in-cluster`."""
    namespace: str | None = None
    """Otherwise what the kubeconfig or the pod says, or `default`."""
    token_file: Path | None = None
    ca_file: Path | None = None
    connectivity: Path | None = None
    """A file that says how the node stands to its hub, in place of the EdgeNode."""


def hub_options(
    files: list[str] | None,
    node: str | None,
    where: str | None,
    *more: str | Path | None,
) -> HubOptions | None:
    """Of `--hub` and what goes with it. Raises InvalidInput where something is missing or wrong:
    that is told now, and not again and again while the machines run.
    """
    if where is None:
        if not files:
            raise InvalidInput("give -f PATH, or --hub where the definitions come from")
        return None
    if node is None:
        raise InvalidInput("--hub needs --node: the hub defines what that node serves")
    if find_spec("kubernetes") is None:
        raise InvalidInput(
            "--hub speaks by the package kubernetes, which is not installed: pip install"
            " 'twinbridge[hub]'"
        )
    from twinbridge.adapters.hub_kube import parse_where

    namespace, token_file, ca_file, connectivity = more
    options = HubOptions(
        where,
        str(namespace) if namespace else None,
        _path(token_file),
        _path(ca_file),
        _path(connectivity),
    )
    parse_where(where, options.namespace, options.token_file, options.ca_file)
    return options


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)


def check_mqtt(url: str | None) -> str | None:
    """Of `--mqtt`. Raises InvalidInput."""
    from twinbridge.api.broker import parse_url

    if url is not None:
        parse_url(url)
    return url
