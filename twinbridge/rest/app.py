"""Puts the API together: routes, probes, metrics, errors, and who may reach it."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from twinbridge import __version__
from twinbridge.app.service import TwinService
from twinbridge.rest import problems, schemas
from twinbridge.rest.guard import VIEWER, SameOriginOnly
from twinbridge.rest.openapi import problems as documented
from twinbridge.rest.routes import answer, routes
from twinbridge.rest.tokens import Tokens


def create_app(
    service: TwinService, *, tokens: Tokens | None, metrics: CollectorRegistry
) -> FastAPI:
    """Without `tokens` whoever is on this machine may do everything, and nobody else anything."""
    app = FastAPI(
        title="TwinBridge",
        version=__version__,
        summary="Device twins of one edge node. Not a safety system.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    app.state.tokens = tokens
    problems.install(app)
    app.include_router(routes(service))
    for prefix in ("", "/api/v1"):
        _probes(app, prefix, service, metrics)
    if tokens is None:
        app.add_middleware(SameOriginOnly)
    return app


def _probes(
    app: FastAPI,
    prefix: str,
    service: TwinService,
    metrics: CollectorRegistry,
) -> None:
    @app.get(f"{prefix}/healthz", response_model=schemas.Health, operation_id=f"healthz{prefix}")
    async def healthz() -> Response:
        """The process answers."""
        return answer({"status": "ok"})

    @app.get(
        f"{prefix}/readyz",
        response_model=schemas.Ready,
        responses={503: {"model": schemas.Ready, "description": "Not ready, and why."}},
        operation_id=f"readyz{prefix}",
    )
    async def readyz() -> Response:
        """Whether it serves, and whether what must be kept can be kept."""
        ready, view = service.health()
        return answer(view, HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)

    @app.get(
        f"{prefix}/metrics",
        dependencies=[VIEWER],
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
            **documented(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN),
        },
        response_class=Response,
        operation_id=f"metrics{prefix}",
    )
    async def show_metrics() -> Response:
        """Prometheus text format."""
        return Response(generate_latest(metrics), media_type=CONTENT_TYPE_LATEST)
