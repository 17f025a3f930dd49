"""A server's address space as a tree: what is there, and how a Device would name it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from asyncua.client.client import Client
from asyncua.ua.uaerrors import UaError

from twinbridge.core.model import SECOND
from twinbridge.errors import DeviceFault, LinkLost, TwinBridgeError, Unreachable
from twinbridge_opcua.browsing.survey import Branch, Scope, survey
from twinbridge_opcua.browsing.variables import read_variables
from twinbridge_opcua.config import OpcUaConnection
from twinbridge_opcua.trust.refusal import refusal
from twinbridge_opcua.trust.security import secure

# What goes wrong is raised; the library would say it once more.
logging.getLogger("asyncua").setLevel(logging.CRITICAL)


async def browse(connection: OpcUaConnection, scope: Scope) -> Branch:
    """The wanted part, with the values that it has now.

    Raises Unreachable when there is no server, LinkLost when it or we are refused, InvalidInput
    when there is nothing at the path.
    """
    async with _session(connection) as client:
        start, per_read = await survey(client, scope, connection.max_per_call)
        variables = [branch for branch in start.walk() if branch.kind == "variable"]
        asked = [(branch.node, branch.properties) for branch in variables]
        read = await read_variables(client, asked, per_read)
        for branch, variable in zip(variables, read, strict=True):
            branch.variable = variable
        return start


@asynccontextmanager
async def _session(connection: OpcUaConnection) -> AsyncIterator[Client]:
    url = f"opc.tcp://{connection.where}"
    seconds = connection.timeout / SECOND
    # The library asks now and then whether the server lives; a busy one is given its time.
    client = Client(url, timeout=seconds, watchdog_intervall=seconds)
    try:
        await secure(client, connection, url)
        await client.connect()
    except (OSError, TimeoutError, UaError) as error:
        raise _failure(error, connection, url) from error
    try:
        yield client
    except (OSError, TimeoutError) as error:
        raise Unreachable(f"{url}: the connection was lost: {_words(error)}") from error
    except UaError as error:
        raise DeviceFault(f"{url}: {_words(error)}") from error
    finally:
        with suppress(OSError, TimeoutError, UaError):  # it may be gone already
            async with asyncio.timeout(seconds):
                await client.disconnect()


def _failure(error: Exception, connection: OpcUaConnection, url: str) -> TwinBridgeError:
    words = refusal(error, connection)
    if words is not None:
        return LinkLost(f"{url}: {words}")
    if isinstance(error, UaError):
        return LinkLost(f"{url}: {_words(error)}")
    return Unreachable(f"{url} cannot be reached: {_words(error)}")


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
