"""How answers leave: JSON or YAML, small ones as they are, large ones packed if that is asked."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Final

import orjson
import yaml
from starlette.requests import Request
from starlette.responses import Response

from twinbridge import __version__
from twinbridge.hub.formats import Format
from twinbridge.hub.kinds import Json
from twinbridge.hub.refusals import Refused

PACKED_FROM: Final = 1024
"""Bytes."""
_LONG: Final = 64 << 10
"""Bytes that take so long to pack that a thread does it."""
_AGENT: Final = f"twinbridge-hub/{__version__}"


async def json_answer(
    request: Request,
    content: Json | bytes,
    *,
    code: int = HTTPStatus.OK,
    form: Format | None = None,
    media_type: str = "",
    headers: Mapping[str, str] | None = None,
    warnings: Iterable[str] = (),
) -> Response:
    body = content if isinstance(content, bytes) else orjson.dumps(content)
    if form and form.yaml:
        body = yaml.safe_dump(orjson.loads(body), allow_unicode=True).encode()
    media_type = media_type or (form.media_type if form else "application/json")
    answer_headers = {**(headers or {}), "Cache-Control": "no-cache, private"}
    if len(body) > PACKED_FROM and "gzip" in request.headers.get("accept-encoding", ""):
        long = len(body) > _LONG
        body = await asyncio.to_thread(_packed, body) if long else _packed(body)
        answer_headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    answer = Response(body, code, answer_headers, media_type)
    for warning in warnings:
        answer.headers.append("Warning", f'299 - "{_quoted(warning)}"')
    return answer


def _packed(body: bytes) -> bytes:
    return gzip.compress(body, 1, mtime=0)


def _quoted(text: str) -> str:
    ascii_only = text.encode("ascii", "replace").decode()
    return ascii_only.replace("\\", "\\\\").replace('"', '\\"')


async def refusal(request: Request, refused: Refused) -> Response:
    headers = {"Retry-After": str(refused.retry_after)} if refused.retry_after else {}
    return await json_answer(request, refused.status, code=refused.status["code"], headers=headers)
