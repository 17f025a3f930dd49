"""`twinbridge plan`: what each link will do, before a machine is touched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from twinbridge.core.model import MILLISECOND, SECOND, DeviceSpec, Point, PropertyRef

if TYPE_CHECKING:
    from twinbridge.api.plant import Plant
    from twinbridge.core.rule import RuleInstance
    from twinbridge.ports import Driver


def plan(
    files: Annotated[
        list[str], typer.Option("-f", "--file", help="YAML file or folder; may be repeated.")
    ],
    node: Annotated[str | None, typer.Option("--node", help="Only what names this node.")] = None,
) -> None:
    """Print the reads that each link will do, its load, and the bound of each trip."""
    from twinbridge.api.plant import load_plant
    from twinbridge.cli.drivers import installed_drivers

    drivers = installed_drivers()
    plant = load_plant(files, drivers, node)
    for problem in plant.problems:
        typer.echo(str(problem), err=True)
    for line in _links(plant, drivers):
        typer.echo(line)
    late = False
    for text, broken in _trips(plant, drivers):
        late = late or broken
        typer.echo(text, err=broken)
    if late or any(not p.warning for p in plant.problems):
        raise typer.Exit(1)


def _links(plant: Plant, drivers: dict[str, Driver]) -> Iterator[str]:
    links: dict[str, list[DeviceSpec]] = {}
    for spec in plant.devices.values():
        links.setdefault(drivers[spec.protocol].endpoint(spec.connection), []).append(spec)  # type: ignore[arg-type]  # validated by that driver
    for endpoint, specs in links.items():
        yield from _link(endpoint, specs, drivers[specs[0].protocol])


def _link(endpoint: str, specs: Sequence[DeviceSpec], driver: Driver) -> Iterator[str]:
    timeout = driver.request_timeout(specs[0].connection)  # type: ignore[arg-type]  # see above
    yield f"{endpoint}   timeout {_span(timeout)}"
    requests = load = 0.0
    for spec in specs:
        for interval, points in _classes(spec.points):
            for read in driver.outline(points):
                size = read.request_bytes + read.response_bytes
                requests += SECOND / interval
                load += size * SECOND / interval
                names = ", ".join(p.spec.name for p in read.points)
                yield f"  {spec.name}  every {_span(interval)}  {read.where}  {size} bytes: {names}"
    capacity = driver.capacity(specs[0].connection)  # type: ignore[arg-type]  # see above
    share = f", {load / capacity:.0%} of the line" if capacity else ""
    yield f"  in all {requests:.1f} requests/s, {load:.0f} bytes/s{share}"


def _classes(points: Iterable[Point]) -> Iterator[tuple[int, list[Point]]]:
    classes: dict[int, list[Point]] = {}
    for point in points:
        if point.spec.access.readable:
            classes.setdefault(point.interval, []).append(point)
    yield from sorted(classes.items())


def _trips(plant: Plant, drivers: dict[str, Driver]) -> Iterator[tuple[str, bool]]:
    """A line per trip, and whether its bound is above what the rule allows."""
    for instance in plant.instances:
        if instance.trip is not None:
            bound = _bound(instance, plant, drivers)
            text = (
                f"trip {instance.id}: from the machine's change to the write acknowledged, at most"
                f" {_span(bound)} (scan + one request in flight + the write)"
            )
            broken = 0 < instance.max_latency < bound
            more = f"; the rule allows {_span(instance.max_latency)}" if broken else ""
            yield text + more, broken


def _bound(instance: RuleInstance, plant: Plant, drivers: dict[str, Driver]) -> int:
    """Scan interval + timeout of the request in flight + timeout of the write; worst case."""
    from twinbridge.core.rule import inputs

    scan = max(_interval(plant, ref) for ref in inputs(instance))
    targets = {w.target.device for w in instance.trip.writes} if instance.trip else set()
    specs = [plant.devices[name] for name in targets]
    slowest = max(drivers[s.protocol].request_timeout(s.connection) for s in specs)  # type: ignore[arg-type]  # see above
    return scan + 2 * slowest


def _interval(plant: Plant, ref: PropertyRef) -> int:
    point = plant.devices[ref.device].point(ref.property)
    return point.interval if point else 0


def _span(ns: int) -> str:
    return f"{ns // MILLISECOND} ms" if ns < SECOND else f"{ns / SECOND:g} s"


def register(app: typer.Typer) -> None:
    app.command()(plan)
