"""What a request is about: its path, its parameters, its body."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import orjson
import yaml
from starlette.requests import ClientDisconnect, Request

from twinbridge.errors import InvalidInput
from twinbridge.hub import protobuf_bodies, refusals
from twinbridge.hub.kinds import CLUSTER, Catalog, Json, Kind
from twinbridge.hub.refusals import Cause
from twinbridge.hub.selectors import BadSelector, field_selector, label_selector
from twinbridge.hub.stored import Key, Stored
from twinbridge.hub.watch import Selection, narrowed

LARGEST_BODY: Final = 3 << 20
_TRUE: Final = ("true", "1", "")
_LONGEST_MANAGER: Final = 128


class Target(NamedTuple):
    """An object, or with no name a collection; with no namespace that of all namespaces."""

    kind: Kind
    namespace: str
    name: str
    subresource: str


def target(catalog: Catalog, path: str) -> Target | None:
    """What a path of the API names, if anything."""
    match [part for part in path.split("/") if part]:
        case ["api", "v1", *rest]:
            return _target(catalog, "", "v1", rest)
        case ["apis", group, version, *rest]:
            return _target(catalog, group, version, rest)
    return None


def _target(catalog: Catalog, group: str, version: str, rest: list[str]) -> Target | None:
    namespace = CLUSTER
    match rest:
        case ["namespaces", namespace, _, *_]:
            rest = rest[2:]
    match rest:
        case [plural]:
            name = subresource = ""
        case [plural, name]:
            subresource = ""
        case [plural, name, "status" as subresource]:
            pass
        case _:
            return None
    kind = catalog.find(group, version, plural)
    if kind is None or (subresource and not kind.has_status):
        return None
    if kind.namespaced == bool(namespace) or (kind.namespaced and not name):
        return Target(kind, namespace, name, subresource)
    return None


def key_of(target: Target) -> Key:
    return Key(target.kind.key, target.namespace, target.name)


def flag(query: Mapping[str, str], name: str) -> bool:
    return name in query and query[name].lower() in _TRUE


def is_dry(query: Mapping[str, str], options: Mapping[str, Any] | None = None) -> bool:
    """Raises Refused for a dry run of another kind than `All`."""
    asked = query.get("dryRun") or ",".join((options or {}).get("dryRun") or ())
    if asked not in ("", "All"):
        told = f'Unsupported value: "{asked}": supported values: "All"'
        raise _bad_option("CreateOptions", "dryRun", "FieldValueNotSupported", told)
    return asked == "All"


def validation(query: Mapping[str, str]) -> str:
    asked = query.get("fieldValidation") or "Warn"
    if asked not in ("Strict", "Warn", "Ignore"):
        told = f'Unsupported value: "{asked}": supported values: "", "Ignore", "Strict", "Warn"'
        raise _bad_option("CreateOptions", "fieldValidation", "FieldValueNotSupported", told)
    return asked


def manager(request: Request) -> str:
    """Who manages the fields: as said, else the client's program."""
    given = request.query_params.get("fieldManager", "")
    if len(given) > _LONGEST_MANAGER or not given.isprintable():
        told = f'Invalid value: "{given}": at most {_LONGEST_MANAGER} printable characters'
        raise _bad_option("PatchOptions", "fieldManager", "FieldValueInvalid", told)
    agent = request.headers.get("user-agent", "").partition("/")[0]
    return given or agent[:_LONGEST_MANAGER] or "unknown"


def required_manager(request: Request) -> str:
    if not request.query_params.get("fieldManager"):
        told = "Required value: is required for apply patch"
        raise _bad_option("PatchOptions", "fieldManager", "FieldValueRequired", told)
    return manager(request)


def _bad_option(kind: str, field: str, reason: str, told: str) -> refusals.Refused:
    return refusals.invalid_options(kind, [Cause(field, reason, told)])


def version_of(query: Mapping[str, str]) -> int | None:
    """`resourceVersion`, if it is given. Raises Refused: 400."""
    text = query.get("resourceVersion", "")
    if not text:
        return None
    if not text.isdecimal() or len(text) > 19:  # noqa: PLR2004 - digits of 64 bits
        raise refusals.bad_request(f"Invalid value: {text!r}: resourceVersion is no number")
    return int(text)


def seconds_of(query: Mapping[str, str]) -> int:
    """`timeoutSeconds`, or 0. Raises Refused: 400."""
    return _number(query, "timeoutSeconds")


def limit_of(query: Mapping[str, str]) -> int:
    """`limit`, or 0 for none. Raises Refused: 400."""
    return _number(query, "limit")


def _number(query: Mapping[str, str], name: str) -> int:
    text = query.get(name) or "0"
    if not text.isdecimal() or len(text) > 18:  # noqa: PLR2004 - digits of 64 bits
        raise refusals.bad_request(f"{name}: {text!r} is no number of 0 or more")
    return int(text)


class Place(NamedTuple):
    """Where a list goes on: after `key`, as of `version`."""

    version: int
    after: tuple[str, str]


def place_of(token: str) -> Place:
    """Of a `continue` token. Raises Refused: 400."""
    try:
        said = orjson.loads(base64.urlsafe_b64decode(token))
        namespace, name = said["after"]
        return Place(int(said["rv"]), (str(namespace), str(name)))
    except (binascii.Error, ValueError, KeyError, TypeError):
        raise refusals.bad_request("continue key is not valid: it is none of this hub") from None


def token_of(place: Place) -> str:
    said = orjson.dumps({"rv": place.version, "after": place.after})
    return base64.urlsafe_b64encode(said).decode()


_EXACT: Final = re.compile(r"([\w.]+)==?([^=!,\\]+)")


def selection(
    target: Target, query: Mapping[str, str], stored: Kind, visible: Callable[[Json], bool] | None
) -> Selection:
    """What the selectors ask for, of what the caller may see. Raises Refused: 400."""
    labels, fields = query.get("labelSelector", ""), query.get("fieldSelector", "")
    if target.name:
        fields = f"metadata.name={target.name},{fields}".rstrip(",")
    try:
        by_labels = label_selector(labels) if labels else None
        by_fields = field_selector(fields, stored.fields) if fields else None
    except BadSelector as error:
        raise refusals.bad_request(str(error)) from None
    exact = narrowed(_exact(fields))

    def selects(item: Stored) -> bool:
        return (
            (visible is None or visible(item.selectable))
            and (by_labels is None or by_labels(item.labels))
            and (by_fields is None or by_fields(item.selectable))
        )

    return Selection(target.kind.key, target.namespace, selects, exact)


def _exact(fields: str) -> Iterator[tuple[str, str]]:
    for term in fields.split(","):
        if match := _EXACT.fullmatch(term):
            yield match[1], match[2]


async def body_of(request: Request) -> bytes:
    """Raises Refused: 413."""
    if int(request.headers.get("content-length") or 0) > LARGEST_BODY:
        raise refusals.too_large(LARGEST_BODY)
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > LARGEST_BODY:
                raise refusals.too_large(LARGEST_BODY)
            parts.append(part)
    except ClientDisconnect:
        raise refusals.bad_request("the request ended before its body did") from None
    return b"".join(parts)


class _Loader(yaml.CSafeLoader):
    """YAML as JSON has it: a time is text."""


_Loader.yaml_implicit_resolvers = {
    letter: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
    for letter, pairs in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}

JSON_TYPES: Final = ("application/json", "application/yaml")


def content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def parsed(raw: bytes, *, as_yaml: bool) -> object:
    """Raises Refused: 400."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        if not as_yaml:
            raise refusals.bad_request(f"the body is no JSON: {error}") from None
    try:
        return yaml.load(raw, _Loader)  # noqa: S506 - made of the safe one
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise refusals.bad_request(f"error converting YAML to JSON: {error}") from None


async def document_of(request: Request) -> object:
    """The body of a create or update. Raises Refused."""
    kind = content_type(request)
    if kind == protobuf_bodies.MEDIA_TYPE:
        try:
            return protobuf_bodies.document(await body_of(request))
        except InvalidInput:
            raise refusals.unsupported_media(JSON_TYPES) from None
    if kind not in ("", *JSON_TYPES):
        raise refusals.unsupported_media(JSON_TYPES)
    return parsed(await body_of(request), as_yaml=kind == "application/yaml")


async def options_of(request: Request) -> Json:
    """DeleteOptions of the body, if it has any."""
    raw = await body_of(request)
    found = parsed(raw, as_yaml=True) if raw.strip() else {}
    if not isinstance(found, dict):
        raise refusals.bad_request("the body is no object; give DeleteOptions")
    return found
