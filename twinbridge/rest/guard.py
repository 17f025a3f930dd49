"""Who may do what, and that no foreign web page speaks through a browser on this machine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import ASGIApp, Receive, Scope, Send

from twinbridge.rest.problems import Refused, of_refusal
from twinbridge.rest.tokens import LOCAL, Identity, Role, Tokens

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

_BEARER = Depends(HTTPBearer(auto_error=False, description="A token of the agent's token file."))


def _requires(role: Role) -> Callable[..., Awaitable[Identity]]:
    """A dependency that gives the caller's identity. Raises Refused: 401 or 403.

    `app.state.tokens` are those of the token file, or None without one.
    """

    async def caller(
        request: Request, credentials: HTTPAuthorizationCredentials | None = _BEARER
    ) -> Identity:
        tokens: Tokens | None = request.app.state.tokens
        if tokens is None:
            return LOCAL
        identity = tokens.identify(credentials.credentials) if credentials else None
        if identity is None:
            raise Refused(HTTPStatus.UNAUTHORIZED, "a valid bearer token is needed")
        if identity.role < role:
            raise Refused(
                HTTPStatus.FORBIDDEN,
                f"{identity.name} is {identity.role.name.lower()}",
                allowed=f"{role.name.lower()} or above",
            )
        return identity

    return caller


VIEWER = Depends(_requires(Role.VIEWER))
Operator = Annotated[Identity, Depends(_requires(Role.OPERATOR))]
Admin = Annotated[Identity, Depends(_requires(Role.ADMIN))]


class SameOriginOnly:
    """Without tokens the API trusts whoever reaches it: so only this machine, by its own name.

    A foreign page that a browser here has open may not reach it, neither by its own origin (CSRF)
    nor under a name that resolves to loopback (DNS rebinding).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = _foreign(Request(scope)) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await of_refusal(refusal)(scope, receive, send)


def _foreign(request: Request) -> Refused | None:
    host = request.headers.get("host", "")
    if _name(f"//{host}") not in LOOPBACK:
        return Refused(
            HTTPStatus.FORBIDDEN,
            "without tokens this API answers only to its loopback name",
            field="Host",
            allowed=", ".join(sorted(LOOPBACK)),
        )
    origin = request.headers.get("origin")
    if origin is not None and origin != f"http://{host}":
        return Refused(
            HTTPStatus.FORBIDDEN,
            "a page of another origin may not use this API",
            field="Origin",
            allowed=f"http://{host}",
        )
    return None


def _name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
