"""How browsed nodes become properties: their names, units and ranges."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from asyncua import ua
from hypothesis import given
from hypothesis import strategies as st

from twinbridge.api.device_resources import Property
from twinbridge.core.model import Access, ValueType
from twinbridge_opcua.browsing.as_model import as_property, candidates
from twinbridge_opcua.browsing.survey import Branch
from twinbridge_opcua.browsing.units import ucum
from twinbridge_opcua.browsing.variables import Variable

if TYPE_CHECKING:
    from collections.abc import Sequence

VALID = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}")
CEFACT = "http://www.opcfoundation.org/UA/units/un/cefact"


def variable(
    type_: ValueType = ValueType.FLOAT, access: Access = Access.READ_ONLY, **more: object
) -> Variable:
    return Variable("Double", type_, access, "1", **more)  # type: ignore[arg-type]  # by name


def branch(name: str, *children: Branch, held: Variable | None = None) -> Branch:
    kind = "object" if held is None else "variable"
    return Branch(name, kind, ua.NodeId(1, 1), f"nsu=urn:x;s={name}", held, list(children))


def leaves(names: Sequence[str]) -> list[Branch]:
    return [branch(name, held=variable()) for name in names]


def test_nodes_of_one_name_are_told_apart_by_the_folders_above() -> None:
    top = branch(
        "Boiler", branch("Heat", *leaves(["Level", "Set"])), branch("Cool", *leaves(["Level"]))
    )
    assert list(candidates(top)) == ["Heat.Level", "Set", "Cool.Level"]


def test_names_that_cleaning_makes_alike_are_numbered() -> None:
    assert list(candidates(branch("B", *leaves(["a b", "a+b", "a_b"])))) == [
        "B.a_b",
        "B.a_b_2",
        "B.a_b_3",
    ]


NAMES = st.lists(st.text(max_size=80) | st.sampled_from(["a", "a_2", "a b", "ä", ""]), max_size=12)


@given(NAMES, NAMES)
def test_every_name_is_valid_and_unique_whatever_the_server_calls_its_nodes(
    first: list[str], second: list[str]
) -> None:
    found = candidates(branch("Top", branch("x" * 70, *leaves(first)), *leaves(second)))
    assert len(found) == len(first) + len(second)
    assert all(VALID.fullmatch(name) for name in found)


def test_only_what_a_property_can_hold_is_offered() -> None:
    array = Variable("Double[3]", None, Access.READ_ONLY, "…")
    hidden = Variable("Double", ValueType.FLOAT, None, "-")
    top = branch("T", branch("array", held=array), branch("hidden", held=hidden), *leaves(["fit"]))
    assert list(candidates(top)) == ["fit"]


@pytest.mark.parametrize(
    "held",
    [
        variable(minimum=0.0, maximum=0.0),
        variable(minimum=9.0, maximum=1.0),
        variable(minimum=0.0),
        variable(ValueType.STRING, minimum=0.0, maximum=9.0, ucum="Cel"),
    ],
)
def test_a_range_that_means_nothing_is_left_out(held: Variable) -> None:
    entry = as_property("p", branch("p", held=held))
    assert set(entry) == {"name", "type", "access", "opcua"}
    assert Property.model_validate(entry).minimum is None


def unit(shown: str, unit_id: int = -1, namespace: str = CEFACT) -> ua.EUInformation:
    return ua.EUInformation(
        NamespaceUri=namespace, UnitId=unit_id, DisplayName=ua.LocalizedText(shown)
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (unit("whatever", 4408652), "Cel"),  # CEL
        (unit("", 20529), "%"),  # P1
        (unit("", 5066068), "mm"),  # MMT
        (unit("°C", namespace="urn:own"), "Cel"),
        (unit(" m³/h "), "m3/h"),
        (unit("bar"), "bar"),
        (unit("kWh"), "kW.h"),
        (unit("°C", 4408652, "urn:own"), "Cel"),
        (unit("pieces"), None),
        (unit("C"), None),  # coulomb, or a Celsius that somebody wrote so
        (unit(""), None),
    ],
)
def test_a_unit_is_told_only_where_it_is_certain(
    given: ua.EUInformation, expected: str | None
) -> None:
    assert ucum(given) == expected
