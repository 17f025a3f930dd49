"""`twinbridge rules test`, as a user runs it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from twinbridge.cli.main import app
from twinbridge.errors import InvalidInput

PLANT = """
apiVersion: devices.twinbridge.io/v1alpha1
kind: DeviceModel
metadata: {name: pump}
spec:
  properties:
  - name: temperature
    type: float
    modbus: {table: input, address: 0, encoding: int16, scale: 0.1}
  - name: run
    type: bool
    access: ReadWrite
    modbus: {table: coil, address: 0}
---
apiVersion: devices.twinbridge.io/v1alpha1
kind: Device
metadata: {name: pump-1}
spec:
  modelRef: {name: pump}
  nodeName: edge-1
  connection:
    modbus: {host: 127.0.0.1, port: 5020, unit: 1}
---
apiVersion: devices.twinbridge.io/v1alpha1
kind: Rule
metadata: {name: overheat}
spec:
  nodeName: edge-1
  devices: {name: pump-1}
  when: {property: temperature, above: 85, deadband: 5, for: 200ms, staleAfter: 3s, onBad: Trip}
  severity: critical
  trip:
    write: [{property: run, value: false}]
  mode: Armed
"""


def tried(folder: Path, tests: str) -> tuple[int, str]:
    """Exit code and output of the tests of a file `overheat.test.yaml`."""
    (folder / "plant.yaml").write_text(PLANT)
    (folder / "overheat.test.yaml").write_text("rules: [plant.yaml]\ntests:\n" + tests)
    result = CliRunner().invoke(app, ["rules", "test", str(folder)])
    return result.exit_code, result.output


def test_a_rule_that_does_as_expected_passes(tmp_path: Path) -> None:
    code, said = tried(
        tmp_path,
        """
- name: stops the pump after its delay and stays latched
  series:
  - {device: pump-1, property: temperature, values: [[0s, 70], [1s, 90], [5s, 60]]}
  expect:
  - {at: 1.199s, noWrites: true}
  - {at: 1.199s, rule: overheat, device: pump-1, state: clear}
  - {at: 1.2s, write: {device: pump-1, property: run, value: false}}
  - {at: 6s, rule: overheat, device: pump-1, state: latched}
- name: a sensor that goes silent stops it too
  series:
  - {device: pump-1, property: temperature, values: "70x3 _x10"}
  expect:
  - {at: 4.499s, noWrites: true}
  - {at: 4.5s, rule: overheat, device: pump-1, state: active}
- name: bad quality waits for the delay
  series:
  - {device: pump-1, property: temperature, values: [[0s, 70], [1s, bad]]}
  expect:
  - {at: 1.1s, noWrites: true}
  - {at: 1.2s, rule: overheat, device: pump-1, state: active}
- name: in a dry run it writes nothing
  mode: DryRun
  series:
  - {device: pump-1, property: temperature, values: 90}
  expect:
  - {at: 2s, noWrites: true}
  - {at: 2s, rule: overheat, device: pump-1, state: active}
""",
    )
    assert code == 0, said
    assert said.count("ok   ") == 4


def test_a_failure_says_what_was_expected_and_what_came(tmp_path: Path) -> None:
    code, said = tried(
        tmp_path,
        """
- name: never stops
  series:
  - {device: pump-1, property: temperature, values: 90}
  expect:
  - {at: 1s, noWrites: true}
  - {at: 1s, rule: overheat, device: pump-1, state: clear}
  - {at: 1s, write: {device: pump-1, property: run, value: true}}
""",
    )
    assert code == 1
    assert "overheat.test.yaml:4: never stops" in said
    assert "pump-1/run = false was written, expected no writes" in said
    assert "overheat:pump-1 is active and latched, expected clear" in said
    assert "false was written to pump-1/run, expected true" in said


@pytest.mark.parametrize(
    ("property_", "values", "expected", "said"),
    [
        ("temperatur", "1", "noWrites: true", "did you mean"),
        ("temperature", "[[1, 2]]", "noWrites: true", "unit"),
        ("temperature", "[[2s, 1], [1s, 1]]", "noWrites: true", "backwards"),
        ("temperature", "1", "rule: overheat", "needs rule"),
        ("temperature", "1", "no_writes: true", "unknown field"),
        ("temperature", "1", "rule: heat, device: pump-1, state: clear", "unknown rule"),
    ],
)
def test_a_wrong_test_is_refused_with_its_line(
    tmp_path: Path, property_: str, values: str, expected: str, said: str
) -> None:
    series = f"{{device: pump-1, property: {property_}, values: {values}}}"
    test = f"- name: wrong\n  series:\n  - {series}\n  expect:\n  - {{at: 1s, {expected}}}\n"
    code, output = tried(tmp_path, test)
    assert code == 1
    assert "overheat.test.yaml:" in output
    assert said in output
    assert "Traceback" not in output


def test_a_folder_without_tests_is_an_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["rules", "test", str(tmp_path)])
    assert isinstance(result.exception, InvalidInput)
