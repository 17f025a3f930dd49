"""Bodies that come as protobuf: what `kubectl` sends, and anything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinbridge.errors import InvalidInput
from twinbridge.hub.protobuf_bodies import document

# What kubectl 1.32 sent for `kubectl create namespace hall-2`.
NAMESPACE = (
    b'k8s\x00\n\x0f\n\x02v1\x12\tNamespace\x12\x1e\n\x16\n\x06hall-2\x12\x00\x1a\x00"\x00*\x00'
    b'2\x008\x00B\x00\x12\x00\x1a\x02\n\x00\x1a\x00"\x00'
)


def field(number: int, content: bytes) -> bytes:
    assert len(content) < 0x80
    return bytes((number << 3 | 2, len(content))) + content


def body(kind: bytes, content: bytes) -> bytes:
    type_meta = field(1, b"authorization.k8s.io/v1") + field(2, kind)
    return b"k8s\x00" + field(1, type_meta) + field(2, content)


@given(
    st.dictionaries(
        st.sampled_from(
            [(1, "namespace"), (2, "verb"), (3, "group"), (5, "resource"), (7, "name")]
        ),
        st.text(max_size=8),
    )
)
def test_a_question_of_access_is_read_as_in_json(asked: dict[tuple[int, str], str]) -> None:
    attributes = b"".join(field(number, text.encode()) for (number, _), text in asked.items())
    found = document(body(b"SelfSubjectAccessReview", field(2, field(1, attributes))))
    assert found == {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {name: text for (_, name), text in asked.items()}},
    }


def test_a_namespace_as_kubectl_sends_it() -> None:
    found = document(NAMESPACE)
    assert (found["kind"], found["metadata"]["name"]) == ("Namespace", "hall-2")


def test_other_kinds_are_refused() -> None:
    with pytest.raises(InvalidInput, match="send JSON"):
        document(body(b"Deployment", b""))


@given(st.binary(max_size=64), st.sampled_from([b"", b"k8s\x00"]))
def test_garbage_is_refused_and_nothing_else_is_raised(garbage: bytes, magic: bytes) -> None:
    with pytest.raises(InvalidInput):
        document(magic + garbage)


@given(st.integers(0, len(NAMESPACE) - 1), st.integers(0, 255))
def test_a_byte_that_is_wrong_does_no_harm(at: int, byte: int) -> None:
    raw = bytearray(NAMESPACE)
    raw[at] = byte
    try:
        found = document(bytes(raw))
    except InvalidInput:
        return
    assert found["kind"] == "Namespace"
