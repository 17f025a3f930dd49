"""JSON merge patch and JSON patch: the examples of their RFCs, and what does not fit."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinbridge.hub.json_values import same
from twinbridge.hub.patch import MOST_OPERATIONS, PatchFailed, json_patch, merge_patch

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "a", "b"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc/~"), inner, max_size=3)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_the_merges_of_rfc_7386_appendix_a(target: Any, patch: Any, result: Any) -> None:
    assert merge_patch(target, patch) == result


@given(JSON, JSON)
def test_a_merge_leaves_what_it_was_given_and_is_the_same_twice(target: Any, patch: Any) -> None:
    before = deepcopy((target, patch))
    once = merge_patch(target, patch)
    assert same(merge_patch(once, patch), once)
    assert (target, patch) == before


@pytest.mark.parametrize(
    ("target", "operations", "result"),
    [
        # Numbers are those of RFC 6902, appendix A.
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}],
         {"baz": "qux", "foo": "bar"}),  # 1
        ({"foo": ["bar", "baz"]}, [{"op": "add", "path": "/foo/1", "value": "qux"}],
         {"foo": ["bar", "qux", "baz"]}),  # 2
        ({"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),  # 3
        ({"foo": ["bar", "qux", "baz"]}, [{"op": "remove", "path": "/foo/1"}],
         {"foo": ["bar", "baz"]}),  # 4
        ({"baz": "qux", "foo": "bar"}, [{"op": "replace", "path": "/baz", "value": "boo"}],
         {"baz": "boo", "foo": "bar"}),  # 5
        ({"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
         [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
         {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}}),  # 6
        ({"foo": ["all", "grass", "cows", "eat"]},
         [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
         {"foo": ["all", "cows", "eat", "grass"]}),  # 7
        ({"baz": "qux", "foo": ["a", 2, "c"]},
         [{"op": "test", "path": "/baz", "value": "qux"},
          {"op": "test", "path": "/foo/1", "value": 2}],
         {"baz": "qux", "foo": ["a", 2, "c"]}),  # 8
        ({"foo": "bar"}, [{"op": "add", "path": "/child", "value": {"grandchild": {}}}],
         {"foo": "bar", "child": {"grandchild": {}}}),  # 10
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}],
         {"foo": "bar", "baz": "qux"}),  # 11
        ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}],
         {"/": 9, "~1": 10}),  # 14
        ({"foo": ["bar"]}, [{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}],
         {"foo": ["bar", ["abc", "def"]]}),  # 16
        ({"a": {"b": 1}}, [{"op": "copy", "from": "/a", "path": "/c"},
                           {"op": "replace", "path": "/c/b", "value": 2}],
         {"a": {"b": 1}, "c": {"b": 2}}),
        ({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}),
        ({"a": 1}, [{"op": "test", "path": "/a", "value": 1.0}], {"a": 1}),
    ],
)  # fmt: skip
def test_the_operations_of_rfc_6902_appendix_a(target: Any, operations: Any, result: Any) -> None:
    before = deepcopy((target, operations))
    assert json_patch(target, operations) == result
    assert (target, operations) == before


@pytest.mark.parametrize(
    ("target", "operations", "why"),
    [
        ({"baz": "qux"}, [{"op": "test", "path": "/baz", "value": "bar"}],
         "operation 0: testing value /baz failed"),  # 9
        ({"foo": "bar"}, [{"op": "add", "path": "/baz/bat", "value": "qux"}],
         "operation 0: there is no 'baz'"),  # 12
        ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": "10"}], "failed"),  # 15
        ({"a": 1}, [{"op": "test", "path": "/a", "value": True}], "failed"),
        ({"a": 1}, [{"op": "test", "path": "/a", "value": 1}, {"op": "remove", "path": "/b"}],
         "operation 1: there is no 'b'"),
        ({"a": [1]}, [{"op": "add", "path": "/a/2", "value": 1}], "no index '2' in a list of 2"),
        ({"a": [1]}, [{"op": "remove", "path": "/a/-"}], "no index '-'"),
        ({"a": [1]}, [{"op": "remove", "path": "/a/01"}], "no index '01'"),
        ({"a": 1}, [{"op": "add", "path": "/a/b", "value": 1}], "below a plain value"),
        ({"a": {}}, [{"op": "move", "from": "/a", "path": "/a/b"}], "moved into itself"),
        ({}, [{"op": "add", "path": "a", "value": 1}], "'a' is no JSON pointer"),
        ({}, [{"op": "add", "path": "/a"}], "operation 0: has no value"),
        ({}, [{"op": "spam", "path": "/a"}], "operation 0: Unexpected kind: spam"),
        ({}, [{"op": "remove"}], "None is no JSON pointer"),
        ({}, ["remove"], "operation 0 is no object"),
        ({}, {"op": "remove", "path": "/a"}, "a list of operations"),
        ({}, [{}] * (MOST_OPERATIONS + 1), f"at most {MOST_OPERATIONS} operations"),
    ],
)  # fmt: skip
def test_an_operation_that_does_not_fit_is_named(target: Any, operations: Any, why: str) -> None:
    with pytest.raises(PatchFailed) as refused:
        json_patch(target, operations)
    assert why in str(refused.value)


@given(st.dictionaries(st.sampled_from("abc/~"), JSON, min_size=1, max_size=4), JSON)
def test_what_is_added_anywhere_is_found_there_and_can_be_removed(target: Any, value: Any) -> None:
    for name in list(target):
        path = "/" + name.replace("~", "~0").replace("/", "~1")
        added = json_patch(
            target,
            [{"op": "add", "path": path, "value": value},
             {"op": "test", "path": path, "value": value}],
        )  # fmt: skip
        assert same(added[name], value)
        assert name not in json_patch(added, [{"op": "remove", "path": path}])
