"""`twinbridge browse mqtt`: what a broker's devices say, and a DeviceModel of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from twinbridge.errors import InvalidInput, LinkLost, Unreachable


def mqtt(
    url: Annotated[str, typer.Argument(help="mqtt://HOST[:PORT], or mqtts:// with TLS.")],
    duration: Annotated[str, typer.Option("--for", help="How long to listen.")] = "30s",
    topic: Annotated[str, typer.Option("--topic", help="Filter: a/+/b, a/#.")] = "#",
    model: Annotated[
        str | None, typer.Option("--model", help="Write a DeviceModel of this name.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", help="The level of the topics that names the device."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File of the model; else it is printed.")
    ] = None,
    username: Annotated[str | None, typer.Option("--user", help="User of the broker.")] = None,
    password_file: Annotated[
        str | None, typer.Option("--password-file", help="File with the user's password.")
    ] = None,
    ca: Annotated[
        str | None, typer.Option("--ca", help="PEM file of the authorities, for mqtts.")
    ] = None,
    certificate: Annotated[
        str | None, typer.Option("--certificate", help="PEM file of the client's certificate.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="PEM file of the client's private key.")
    ] = None,
) -> None:
    """List the topics that are spoken on, with the shapes of their payloads."""
    from pydantic import ValidationError

    from twinbridge.api.durations import parse_duration
    from twinbridge.core.model import SECOND
    from twinbridge_mqtt.browse import listen, model_yaml
    from twinbridge_mqtt.config import TlsOptions

    if output is not None and model is None:
        raise InvalidInput("-o is the file of a model: give its name with --model")
    try:
        seconds = parse_duration(duration) / SECOND
        tls = TlsOptions(ca=ca, certificate=certificate, key=key) if ca or certificate else None
        heard = asyncio.run(
            listen(
                url,
                seconds,
                topic=topic,
                username=username,
                password_file=password_file,
                tls=tls,
            )
        )
    except ValidationError as error:
        raise InvalidInput("; ".join(e["msg"] for e in error.errors())) from error
    except ValueError as error:
        raise InvalidInput(str(error)) from error
    except LinkLost as error:
        raise Unreachable(str(error)) from error
    if model is None:
        for line in heard.describe():
            typer.echo(line)
        typer.echo(f"{len(heard.topics)} topics in {duration}")
        return
    text = model_yaml(heard, model, device=device)
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")
        typer.echo(f"{output}: written")


def register(group: typer.Typer) -> None:
    group.command("mqtt")(mqtt)
