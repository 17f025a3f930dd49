"""The metadata that every object has: what a client may set, and how it must look.

Source: k8s.io/apimachinery/pkg/api/validation, with its messages.
"""

from __future__ import annotations

import re
import secrets
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import orjson

from twinbridge.hub.kinds import Json
from twinbridge.hub.refusals import Cause

_SUBDOMAIN: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_QUALIFIED: Final = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE: Final = r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
_NAME = re.compile(_SUBDOMAIN)
_LABEL_NAME = re.compile(_QUALIFIED)
_LABEL_VALUE = re.compile(_VALUE)
_LONGEST_NAME: Final = 253
_LONGEST_LABEL: Final = 63
_MOST_ANNOTATIONS: Final = 256 << 10

_BAD_NAME: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    f"for validation is '{_SUBDOMAIN}')"
)
_BAD_KEY: Final = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
    f"validation is '{_QUALIFIED}')"
)
_BAD_VALUE: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  "
    f"or '12345', regex used for validation is '{_VALUE}')"
)

KNOWN: Final[dict[str, type]] = {
    "name": str,
    "generateName": str,
    "namespace": str,
    "selfLink": str,
    "uid": str,
    "resourceVersion": str,
    "generation": int,
    "creationTimestamp": str,
    "deletionTimestamp": str,
    "deletionGracePeriodSeconds": int,
    "labels": dict,
    "annotations": dict,
    "ownerReferences": list,
    "finalizers": list,
    "managedFields": list,
}
_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"


def now() -> str:
    """RFC 3339 in whole seconds, as metadata has it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def generated(base: str) -> str:
    """A name that starts so and that nobody has, very likely."""
    return base[:58] + "".join(secrets.choice(_LETTERS) for _ in range(5))


def check_metadata(metadata: Json) -> list[Cause]:
    """What is wrong with it."""
    return [*_types(metadata), *_name(metadata), *_labels(metadata), *_annotations(metadata)]


def _types(metadata: Json) -> Iterator[Cause]:
    for name in ("labels", "annotations"):
        for key, value in (metadata.get(name) or {}).items():
            if not isinstance(value, str):
                shown = orjson.dumps(value).decode()
                told = f"Invalid value: {shown}: must be a string"
                yield Cause(f"metadata.{name}.{key}", "FieldValueTypeInvalid", told)
    for index, finalizer in enumerate(metadata.get("finalizers") or ()):
        if not isinstance(finalizer, str) or not finalizer:
            told = "Invalid value: finalizers are names"
            yield Cause(f"metadata.finalizers[{index}]", "FieldValueInvalid", told)


def _name(metadata: Json) -> Iterator[Cause]:
    name = metadata.get("name", "")
    if not name:
        yield Cause(
            "metadata.name",
            "FieldValueRequired",
            "Required value: name or generateName is required",
        )
    elif len(name) > _LONGEST_NAME:
        told = f'Invalid value: "{name}": must be no more than {_LONGEST_NAME} characters'
        yield Cause("metadata.name", "FieldValueInvalid", told)
    elif not _NAME.fullmatch(name):
        told = f'Invalid value: "{name}": {_BAD_NAME}'
        yield Cause("metadata.name", "FieldValueInvalid", told)


def _labels(metadata: Json) -> Iterator[Cause]:
    for key, value in (metadata.get("labels") or {}).items():
        yield from _qualified(key, "metadata.labels")
        if not isinstance(value, str):
            continue
        if len(value) > _LONGEST_LABEL:
            told = f'Invalid value: "{value}": must be no more than {_LONGEST_LABEL} bytes'
            yield Cause("metadata.labels", "FieldValueInvalid", told)
        elif not _LABEL_VALUE.fullmatch(value):
            told = f'Invalid value: "{value}": {_BAD_VALUE}'
            yield Cause("metadata.labels", "FieldValueInvalid", told)


def _annotations(metadata: Json) -> Iterator[Cause]:
    annotations = metadata.get("annotations") or {}
    for key in annotations:
        yield from _qualified(key.lower(), "metadata.annotations")
    if sum(len(k) + len(str(v)) for k, v in annotations.items()) > _MOST_ANNOTATIONS:
        told = f"Too long: may not be more than {_MOST_ANNOTATIONS} bytes"
        yield Cause("metadata.annotations", "FieldValueTooLong", told)


def _qualified(key: str, field: str) -> Iterator[Cause]:
    prefix, slash, name = key.rpartition("/")
    if slash and not _NAME.fullmatch(prefix):
        told = f'Invalid value: "{key}": prefix part {_BAD_NAME}'
        yield Cause(field, "FieldValueInvalid", told)
    if len(name) > _LONGEST_LABEL:
        told = f'Invalid value: "{key}": name part must be no more than {_LONGEST_LABEL} bytes'
        yield Cause(field, "FieldValueInvalid", told)
    elif not _LABEL_NAME.fullmatch(name):
        yield Cause(field, "FieldValueInvalid", f'Invalid value: "{key}": {_BAD_KEY}')


def server_set(name: str, moment: str) -> Json:
    """The metadata that the server gives an object without a namespace."""
    return {"name": name, "uid": str(uuid.uuid4()), "creationTimestamp": moment, "generation": 1}
