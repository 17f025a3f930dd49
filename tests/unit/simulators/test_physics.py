"""Machines obey their commands and their physics; time is passed in."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinbridge_simulators.faults import FaultKind
from twinbridge_simulators.machines import abb, sdm630, sunspec, tesys
from twinbridge_simulators.machines.abb import AbbDrive, DriveOptions
from twinbridge_simulators.machines.base import Machine
from twinbridge_simulators.machines.sunspec import State, SunSpecInverter
from twinbridge_simulators.machines.tesys import MotorOptions, TesysTera
from twinbridge_simulators.registers import Refused, Table
from twinbridge_simulators.waveforms import Waveform, phase_value, walk

TICK = 0.02
PLATE = MotorOptions()


def pass_time(machine: Machine, seconds: float) -> None:
    for _tick in range(round(seconds / TICK)):
        machine.step(TICK)


def command(motor: TesysTera, word: int) -> None:
    motor.bank.write(Table.HOLDING, tesys.COMMAND, [word])


def running(motor: TesysTera) -> bool:
    return bool(motor.bank.get(Table.DISCRETE, tesys.RUNNING_FORWARD)[0])


def amperes(motor: TesysTera) -> float:
    high, low = motor.bank.get(Table.HOLDING, 0x157C, 2)
    return (high << 16 | low) / 1000


def test_current_and_temperature_of_the_motor_rise_with_its_load() -> None:
    light, heavy = (TesysTera(MotorOptions(load=load)) for load in (20, 110))
    pass_time(light, 1)
    pass_time(heavy, 1)
    assert heavy.motor.current > light.motor.current > 0
    assert heavy.motor.temperature > light.motor.temperature > PLATE.ambient


@given(st.integers(0, 200), st.integers(0, 200), st.floats(20, 150))
def test_more_load_never_means_a_cooler_motor(one: int, other: int, at: float) -> None:
    now = tesys.Motor(temperature=at, speed=1.0)
    low, high = sorted((one, other))
    after = [tesys.step(now, tesys.Inputs(True, load / 100), PLATE, 0.5) for load in (low, high)]
    assert after[0].temperature <= after[1].temperature
    assert after[0].energy <= after[1].energy


def test_the_stop_bit_stops_the_motor_after_its_coast_down_and_drops_the_run_bit() -> None:
    motor = TesysTera()
    command(motor, tesys.RUN | tesys.STOP)
    assert amperes(motor) == 0
    assert running(motor)
    assert motor.command & tesys.RUN == 0
    pass_time(motor, PLATE.coastDown + TICK)
    assert not running(motor)


def test_the_motor_stops_when_its_run_bit_is_taken_back() -> None:
    motor = TesysTera()
    command(motor, 0)
    pass_time(motor, PLATE.coastDown + TICK)
    assert not running(motor)


def test_a_stopped_motor_starts_only_by_a_new_command() -> None:
    motor = TesysTera()
    command(motor, tesys.STOP)
    pass_time(motor, 5)
    assert not running(motor)
    command(motor, tesys.RUN)
    pass_time(motor, 1)
    assert running(motor)


def test_a_soft_start_stays_below_the_over_current_limit_of_the_example() -> None:
    motor = TesysTera(MotorOptions(running=False))
    command(motor, tesys.RUN)
    highest = 0.0
    for _tick in range(100):
        motor.step(TICK)
        highest = max(highest, motor.motor.current * 1.01)
    assert 16 < highest < 24


def test_a_jammed_motor_draws_locked_rotor_current_and_is_idle_once_stopped() -> None:
    motor = TesysTera()
    motor.faults.add(FaultKind.JAM)
    motor.step(TICK)
    assert amperes(motor) > 5 * PLATE.ratedCurrent
    command(motor, tesys.STOP)
    assert amperes(motor) == 0
    assert not running(motor)


def test_an_overheating_motor_passes_85_degrees_and_stays_hot_until_the_fault_is_gone() -> None:
    motor = TesysTera()
    motor.faults.add(FaultKind.OVERHEAT)
    pass_time(motor, 5)
    assert motor.motor.temperature > 85
    command(motor, tesys.STOP)
    hot = motor.motor.temperature
    pass_time(motor, 1)
    assert motor.motor.temperature > hot - 10
    motor.faults.clear()
    pass_time(motor, 10 * PLATE.heatingTime)
    assert motor.motor.temperature == pytest.approx(PLATE.ambient, abs=1)


def test_the_motor_cannot_be_started_while_its_own_trip_stands() -> None:
    motor = TesysTera()
    motor.faults.add(FaultKind.JAM)
    pass_time(motor, 0.6)
    assert motor.motor.tripped
    motor.faults.clear()
    command(motor, tesys.RUN)
    assert motor.command & tesys.RUN == 0
    command(motor, tesys.TRIP_RESET)
    assert motor.motor.tripped, "still too hot to be reset"
    pass_time(motor, 60)
    command(motor, tesys.RUN)
    assert not motor.motor.current, "the trip stands until it is reset"
    command(motor, tesys.TRIP_RESET)
    assert not motor.motor.tripped
    assert motor.command == 0, "a reset does not start"
    command(motor, tesys.RUN)
    assert motor.motor.current > 0


@given(st.floats(-20_000, 20_000), st.floats(0, 20_000), st.floats(0, 100))
def test_the_meters_energies_never_run_back(power: float, swing: float, dt: float) -> None:
    feeder = sdm630.MeterOptions(power=power, swing=swing)
    before = sdm630.Meter(imported=5, exported=7)
    after = sdm630.step(before, feeder, dt)
    assert after.imported >= before.imported
    assert after.exported >= before.exported


def test_the_meter_integrates_its_power() -> None:
    meter = sdm630.Meter()
    for _second in range(3600):
        meter = sdm630.step(meter, sdm630.MeterOptions(power=3000, swing=0), 1.0)
    assert meter.imported == pytest.approx(3.0)


def test_the_inverter_has_an_end_of_its_model_chain() -> None:
    bank = SunSpecInverter().bank
    address, chain = sunspec.BASE + 2, []
    while (model := bank.get(Table.HOLDING, address, 2))[0] != 0xFFFF:
        chain.append(model[0])
        address += 2 + model[1]
    assert chain == [1, 103, 123]


def test_the_inverter_obeys_its_limit_and_lets_go_of_one_that_nobody_renews() -> None:
    inverter = SunSpecInverter()
    controls = sunspec.CONTROLS
    inverter.bank.write(Table.HOLDING, controls + sunspec.LIMIT_REVERT, [2])
    inverter.bank.write(Table.HOLDING, controls + sunspec.LIMIT, [250])
    inverter.bank.write(Table.HOLDING, controls + sunspec.LIMIT_ENABLED, [1])
    assert inverter.inverter.watts == pytest.approx(2500)
    assert inverter.inverter.state is State.THROTTLED
    pass_time(inverter, 3)
    assert inverter.inverter.state is State.MPPT


def test_a_disconnected_inverter_gives_nothing() -> None:
    inverter = SunSpecInverter()
    inverter.bank.write(Table.HOLDING, sunspec.CONTROLS + sunspec.CONN, [0])
    assert inverter.inverter.watts == 0
    assert inverter.inverter.state is State.OFF


def test_the_inverter_refuses_a_limit_above_one_hundred_percent_and_keeps_the_old_one() -> None:
    inverter = SunSpecInverter()
    with pytest.raises(Refused):
        inverter.bank.write(Table.HOLDING, sunspec.CONTROLS + sunspec.LIMIT, [1001])
    assert inverter.bank.get(Table.HOLDING, sunspec.CONTROLS + sunspec.LIMIT) == (1000,)


def test_an_overheated_inverter_faults() -> None:
    inverter = SunSpecInverter()
    inverter.faults.add(FaultKind.OVERHEAT)
    pass_time(inverter, 60)
    assert inverter.bank.get(Table.HOLDING, sunspec.INVERTER + 38) == (State.FAULT,)


def drive_word(drive: AbbDrive, word: int) -> None:
    drive.bank.write(Table.HOLDING, abb.CONTROL, [word])


def status(drive: AbbDrive) -> int:
    return drive.bank.get(Table.HOLDING, abb.STATUS)[0]


def test_the_drive_ramps_to_its_reference() -> None:
    drive = AbbDrive(DriveOptions(commsLoss=0))
    drive.bank.write(Table.HOLDING, abb.CONTROL, [0x047F, 10000])
    pass_time(drive, 3)
    assert drive.drive.speed == pytest.approx(0.5)
    assert status(drive) & abb.AT_SETPOINT


def test_the_drive_faults_when_its_control_word_is_not_written_again() -> None:
    drive = AbbDrive(DriveOptions(commsLoss=3))
    drive.bank.write(Table.HOLDING, abb.CONTROL, [0x047F, 20000])
    pass_time(drive, 2.5)
    assert not status(drive) & abb.TRIPPED
    drive_word(drive, 0x047F)
    pass_time(drive, 2.5)
    assert not status(drive) & abb.TRIPPED, "the same word again is enough"
    pass_time(drive, 2)
    assert status(drive) & abb.TRIPPED
    assert drive.drive.speed == 0


def test_a_reset_of_the_drive_does_not_restart_it() -> None:
    drive = AbbDrive(DriveOptions(commsLoss=1))
    drive.bank.write(Table.HOLDING, abb.CONTROL, [0x047F, 20000])
    pass_time(drive, 2)
    drive_word(drive, 0x04FF)
    pass_time(drive, 0.5)
    assert not status(drive) & abb.TRIPPED
    assert not status(drive) & abb.OPERATING
    drive_word(drive, 0x047E)
    drive_word(drive, 0x047F)
    pass_time(drive, 0.1)
    assert status(drive) & abb.OPERATING


@given(st.sampled_from(Waveform), st.floats(0, 1e6))
def test_a_waveform_stays_in_its_range(waveform: Waveform, phase: float) -> None:
    assert 0 <= phase_value(waveform, phase) <= 1


@given(st.floats(0, 1), st.floats(0, 10), st.integers())
def test_a_random_walk_stays_in_its_range(now: float, dt: float, seed: int) -> None:
    assert 0 <= walk(now, dt, 5.0, Random(seed)) <= 1
