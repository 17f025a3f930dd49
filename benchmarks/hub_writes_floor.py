"""What a durable write over HTTP costs at least: parse the body, commit a row, answer.

The web server, JSON library and writer thread of the hub, and nothing of Kubernetes: no merge, no
owners, no schema, no watch. Listens on PORT and keeps its rows in FILE.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import orjson
import uvicorn
from starlette.types import Receive, Scope, Send

from twinbridge.adapters.sqlite_file import SqliteFile
from twinbridge.adapters.sqlite_thread import SqliteThread
from twinbridge.cli.loops import loop_factory

SCHEMA = "CREATE TABLE row (name TEXT PRIMARY KEY, body BLOB NOT NULL)"
HEAD = [(b"content-type", b"application/json"), (b"content-length", b"2")]


class Floor:
    def __init__(self, thread: SqliteThread) -> None:
        self._thread = thread

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if body:
            kept = orjson.dumps(orjson.loads(body))
            row = (scope["path"], kept)
            await self._thread.write(
                lambda db: db.execute("INSERT OR REPLACE INTO row VALUES (?, ?)", row).rowcount
            )
        await send({"type": "http.response.start", "status": 200, "headers": HEAD})
        await send({"type": "http.response.body", "body": b"{}"})


async def serve(port: int, file: Path) -> None:
    app = Floor(SqliteThread(SqliteFile(file, (SCHEMA,))))
    config = uvicorn.Config(
        app, port=port, log_config=None, access_log=False, lifespan="off", ws="none"
    )
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("file", type=Path)
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve(given.port, given.file))
