"""The machines by protocol and name, with their options checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import yaml
from pydantic import BaseModel, ValidationError

from twinbridge.errors import InvalidInput
from twinbridge_simulators.machines.abb import AbbDrive, DriveOptions
from twinbridge_simulators.machines.base import BankMachine
from twinbridge_simulators.machines.boiler import BoilerOptions
from twinbridge_simulators.machines.energy_meter import EnergyMeter, EnergyMeterOptions
from twinbridge_simulators.machines.fan import Fan, FanOptions
from twinbridge_simulators.machines.leak_sensor import LeakSensor, LeakSensorOptions
from twinbridge_simulators.machines.sdm630 import MeterOptions, Sdm630
from twinbridge_simulators.machines.signals import GenericOptions
from twinbridge_simulators.machines.sunspec import InverterOptions, SunSpecInverter
from twinbridge_simulators.machines.tesys import MotorOptions, TesysTera
from twinbridge_simulators.machines.valued import ValueMachine
from twinbridge_simulators.world import MACHINE_ANNOTATION, OPTIONS_ANNOTATION

GENERIC = "generic"
Catalog: TypeAlias = Mapping[str, type[BaseModel]]
MODBUS: Catalog = {
    "tesys-tera": MotorOptions,
    "sdm630": MeterOptions,
    "sunspec-inverter": InverterOptions,
    "abb-drive": DriveOptions,
    GENERIC: GenericOptions,
}
MQTT: Catalog = {
    "leak-sensor": LeakSensorOptions,
    "energy-meter": EnergyMeterOptions,
    "fan": FanOptions,
    GENERIC: GenericOptions,
}
OPCUA: Catalog = {"boiler": BoilerOptions, GENERIC: GenericOptions}


def modbus_machine(options: BaseModel) -> BankMachine:
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
            raise TypeError(f"{type(options).__name__} are the options of no Modbus machine")


def mqtt_machine(options: BaseModel) -> ValueMachine:
    match options:
        case LeakSensorOptions():
            return LeakSensor(options)
        case EnergyMeterOptions():
            return EnergyMeter(options)
        case FanOptions():
            return Fan(options)
        case _:
            raise TypeError(f"{type(options).__name__} are the options of no MQTT machine")


def parse_options(catalog: Catalog, notes: Mapping[str, str]) -> BaseModel:
    """The options of the machine that a Device's annotations choose. Raises InvalidInput."""
    name = notes.get(MACHINE_ANNOTATION, GENERIC)
    model = catalog.get(name)
    if model is None:
        raise InvalidInput(f"no machine {name!r}; allowed are {', '.join(catalog)}")
    try:
        return model.model_validate(yaml.safe_load(notes.get(OPTIONS_ANNOTATION, "")) or {})
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
