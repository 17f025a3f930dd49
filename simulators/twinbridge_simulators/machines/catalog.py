"""The machines by name, with their options checked."""

from __future__ import annotations

from collections.abc import Mapping

import yaml
from pydantic import BaseModel, ValidationError

from twinbridge.errors import InvalidInput
from twinbridge_simulators.machines.abb import AbbDrive, DriveOptions
from twinbridge_simulators.machines.base import Machine
from twinbridge_simulators.machines.generic import GenericOptions
from twinbridge_simulators.machines.sdm630 import MeterOptions, Sdm630
from twinbridge_simulators.machines.sunspec import InverterOptions, SunSpecInverter
from twinbridge_simulators.machines.tesys import MotorOptions, TesysTera

GENERIC = "generic"
OPTIONS: Mapping[str, type[BaseModel]] = {
    "tesys-tera": MotorOptions,
    "sdm630": MeterOptions,
    "sunspec-inverter": InverterOptions,
    "abb-drive": DriveOptions,
    GENERIC: GenericOptions,
}


def machine(options: BaseModel) -> Machine:
    """The machine that these options are for; the generic one needs a Device besides."""
    match options:
        case MotorOptions():
            return TesysTera(options)
        case MeterOptions():
            return Sdm630(options)
        case InverterOptions():
            return SunSpecInverter(options)
        case DriveOptions():
            return AbbDrive(options)
        case _:
            raise TypeError(f"{type(options).__name__} are the options of no machine")


def parse_options(name: str, text: str) -> BaseModel:
    """The options of machine `name` from a YAML mapping. Raises InvalidInput."""
    model = OPTIONS.get(name)
    if model is None:
        raise InvalidInput(f"no machine {name!r}; allowed are {', '.join(OPTIONS)}")
    try:
        return model.model_validate(yaml.safe_load(text) or {})
    except yaml.YAMLError as error:
        raise InvalidInput(f"options are no YAML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "options"
        raise InvalidInput(f"{place}: {first['msg']}; allowed: {_allowed(model)}") from error


def _allowed(model: type[BaseModel]) -> str:
    return ", ".join(
        f"{name} ({field.description})" if field.description else name
        for name, field in model.model_fields.items()
    )
