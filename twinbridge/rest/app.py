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
from twinbridge.rest.probes import Health, Verdict, verdict
from twinbridge.rest.routes import routes
from twinbridge.rest.tokens import Tokens


def create_app(
    service: TwinService,
    *,
    tokens: Tokens | None,
    metrics: CollectorRegistry,
    health: Health | None = None,
) -> FastAPI:
    """Without `tokens` whoever is on this machine may do everything, and nobody else anything.

    Without `health` the process is alive when it answers, and ready when its agent is.
    """
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
        _probes(app, prefix, health or Health(_answers, service.health), metrics)
    if tokens is None:
        app.add_middleware(SameOriginOnly)
    return app


def _answers() -> Verdict:
    return True, {"status": "ok"}


def _response(found: Verdict) -> Response:
    status, media_type, body = verdict(found)
    return Response(body, status, media_type=media_type)


def _probes(app: FastAPI, prefix: str, health: Health, metrics: CollectorRegistry) -> None:
    @app.get(
        f"{prefix}/healthz",
        response_model=schemas.Health,
        responses={503: {"model": schemas.Stuck, "description": "An event loop stands."}},
        operation_id=f"healthz{prefix}",
    )
    async def healthz() -> Response:
        """Whether the process works; one that does not is better started anew."""
        return _response(health.live())

    @app.get(
        f"{prefix}/readyz",
        response_model=schemas.Ready,
        responses={503: {"model": schemas.Ready, "description": "Not ready, and why."}},
        operation_id=f"readyz{prefix}",
    )
    async def readyz() -> Response:
        """Whether it serves, and whether what must be kept can be kept."""
        return _response(health.ready())

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
