"""Label and field selectors: every form, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinbridge.hub.selectors import BadSelector, field_selector, label_selector

LABELS = {"line": "bottling", "hall": "", "twinbridge.io/cell": "7"}
FIELDS = ("metadata.name", "spec.nodeName", "spec.on")
DEVICE = {"metadata": {"name": "pump-1"}, "spec": {"nodeName": "edge-1", "on": True}}


@pytest.mark.parametrize(
    ("text", "selects"),
    [
        ("", True),
        ("line=bottling", True),
        ("line==bottling", True),
        (" line = bottling ", True),
        ("line=packing", False),
        ("line!=packing", True),
        ("floor!=2", True),
        ("line", True),
        ("floor", False),
        ("!floor", True),
        ("!line", False),
        ("hall=", True),
        ("line in (packing, bottling)", True),
        ("line in (packing)", False),
        ("line notin (packing,filling)", True),
        ("floor notin (1)", True),
        ("floor in (1)", False),
        ("twinbridge.io/cell=7", True),
        ("twinbridge.io/cell>6", True),
        ("twinbridge.io/cell<7", False),
        ("line>1", False),
        ("line=bottling,twinbridge.io/cell in (6,7),!floor", True),
        ("line=bottling,floor", False),
    ],
)
def test_labels_are_selected_by_every_form(text: str, *, selects: bool) -> None:
    assert label_selector(text)(LABELS) is selects


@pytest.mark.parametrize(
    "text",
    ["=x", "a b", "a in b", "a in (x", "a=b=c", "a=b,", "-a", "a~b", "a>x", "a notin", "/a", "a=-"],
)
def test_what_selects_no_labels_is_told(text: str) -> None:
    with pytest.raises(BadSelector, match=r"unable to parse requirement: .* is none of: key"):
        label_selector(text)


@given(st.dictionaries(st.sampled_from("abc"), st.sampled_from(["x", "y", "z"])))
def test_a_requirement_and_its_opposite_never_both_hold(labels: dict[str, str]) -> None:
    for one, other in (("a", "!a"), ("a=x", "a!=x"), ("b in (x,y)", "b notin (x,y)")):
        assert label_selector(one)(labels) is not label_selector(other)(labels)


@pytest.mark.parametrize(
    ("text", "selects"),
    [
        ("", True),
        ("metadata.name=pump-1", True),
        ("metadata.name==pump-1,spec.nodeName=edge-1", True),
        ("metadata.name=pump-1,spec.nodeName!=edge-1", False),
        ("spec.nodeName!=edge-2", True),
        ("spec.nodeName=", False),
        ("spec.on=true", True),
        (r"metadata.name=pump\,1", False),
    ],
)
def test_fields_are_selected_by_every_form(text: str, *, selects: bool) -> None:
    assert field_selector(text, FIELDS)(DEVICE) is selects


def test_a_value_may_have_what_is_written_with_a_backslash() -> None:
    named = {"metadata": {"name": "a,b=c"}}
    assert field_selector(r"metadata.name=a\,b\=c", FIELDS)(named)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("metadata.name", "invalid selector: 'metadata.name'; can't understand it"),
        ("status.phase=Up", "field label not supported: status.phase; supported: metadata.name"),
    ],
)
def test_what_selects_no_fields_is_told(text: str, why: str) -> None:
    with pytest.raises(BadSelector) as refused:
        field_selector(text, FIELDS)
    assert why in str(refused.value)
