"""A small REST API to let faults strike and to end them, meant for loopback."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Query, Request, status
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from twinbridge.errors import InvalidInput, UnknownName
from twinbridge_simulators.faults import Fault, FaultKind
from twinbridge_simulators.simulation import Simulation


class MachineView(BaseModel):
    """A machine, where it is served, and what is wrong with it."""

    name: str
    host: str
    port: int
    faults: list[Fault]
    possible: list[FaultKind]


def control_app(simulation: Simulation) -> FastAPI:
    """`GET /machines`, `GET|POST|DELETE /machines/{name}/faults`."""
    app = FastAPI(title="TwinBridge simulators", docs_url=None, redoc_url=None)
    app.add_exception_handler(UnknownName, _not_found)
    app.add_exception_handler(InvalidInput, _unprocessable)

    @app.get("/machines")
    def machines() -> list[MachineView]:
        return [_view(simulation, name) for name in simulation.names]

    @app.get("/machines/{name}/faults")
    def faults(name: str) -> list[Fault]:
        return simulation.faults(name)

    # `async`, so that they run in the loop that owns the servers
    @app.post("/machines/{name}/faults", status_code=status.HTTP_201_CREATED)
    async def inject(name: str, fault: Fault) -> MachineView:
        simulation.fault(name, fault)
        return _view(simulation, name)

    @app.delete("/machines/{name}/faults")
    async def clear(
        name: str, kind: Annotated[FaultKind | None, Query(alias="fault")] = None
    ) -> MachineView:
        simulation.clear(name, kind)
        return _view(simulation, name)

    return app


def _view(simulation: Simulation, name: str) -> MachineView:
    place = simulation.place(name)
    return MachineView(
        name=name,
        host=place.host,
        port=place.port,
        faults=simulation.faults(name),
        possible=sorted(simulation.machine(name).possible_faults),
    )


async def _not_found(_request: Request, error: Exception) -> JSONResponse:
    return _problem(404, "unknown machine", error)


async def _unprocessable(_request: Request, error: Exception) -> JSONResponse:
    return _problem(422, "not possible", error)


def _problem(code: int, title: str, error: Exception) -> JSONResponse:
    """RFC 9457 problem details."""
    return JSONResponse(
        {"type": "about:blank", "title": title, "status": code, "detail": str(error)},
        status_code=code,
        media_type="application/problem+json",
    )
