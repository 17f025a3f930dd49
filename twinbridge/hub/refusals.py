"""What the API refuses, as `Status` objects in the API server's own words.

Source: k8s.io/apimachinery/pkg/api/errors, which clients take apart by `reason` and `details`.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeAlias

from twinbridge.errors import TwinBridgeError
from twinbridge.hub.validation import Cause

if TYPE_CHECKING:
    from twinbridge.hub.kinds import Kind

__all__ = ["Cause", "Refused"]

Json: TypeAlias = dict[str, Any]


class Refused(TwinBridgeError):
    """Answered with `status`, whose `code` is that of the answer too."""

    def __init__(
        self,
        code: HTTPStatus,
        reason: str,
        message: str,
        details: Json | None = None,
        *,
        retry_after: int = 0,
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        if retry_after:
            details = {**(details or {}), "retryAfterSeconds": retry_after}
        self.status: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            **({"details": details} if details else {}),
            "code": int(code),
        }


def _details(kind: Kind, name: str, said: str) -> Json:
    group = {"group": kind.group} if kind.group else {}
    return {**({"name": name} if name else {}), **group, "kind": said}


def not_found(kind: Kind, name: str) -> Refused:
    message = f'{kind.resource} "{name}" not found'
    return Refused(HTTPStatus.NOT_FOUND, "NotFound", message, _details(kind, name, kind.plural))


def no_such_path() -> Refused:
    message = "the server could not find the requested resource"
    return Refused(HTTPStatus.NOT_FOUND, "NotFound", message, {})


def already_exists(kind: Kind, name: str) -> Refused:
    message = f'{kind.resource} "{name}" already exists'
    return Refused(HTTPStatus.CONFLICT, "AlreadyExists", message, _details(kind, name, kind.plural))


MODIFIED = (
    "the object has been modified; please apply your changes to the latest version and try again"
)


def conflict(kind: Kind, name: str, why: str = MODIFIED) -> Refused:
    message = f'Operation cannot be fulfilled on {kind.resource} "{name}": {why}'
    return Refused(HTTPStatus.CONFLICT, "Conflict", message, _details(kind, name, kind.plural))


def apply_conflict(message: str, causes: Sequence[Cause]) -> Refused:
    return Refused(HTTPStatus.CONFLICT, "Conflict", message, {"causes": _listed(causes)})


def invalid(kind: Kind, name: str, causes: Sequence[Cause]) -> Refused:
    said = [f"{cause.field}: {cause.message}" for cause in causes]
    what = said[0] if len(said) == 1 else f"[{', '.join(said)}]"
    group = f".{kind.group}" if kind.group else ""
    message = f'{kind.kind}{group} "{name}" is invalid: {what}'
    details = {**_details(kind, name, kind.kind), "causes": _listed(causes)}
    return Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid", message, details)


def _listed(causes: Sequence[Cause]) -> list[Json]:
    return [
        {"reason": cause.type, "message": cause.message, "field": cause.field} for cause in causes
    ]


def bad_request(message: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, "BadRequest", message)


def unauthorized() -> Refused:
    return Refused(HTTPStatus.UNAUTHORIZED, "Unauthorized", "Unauthorized")


def forbidden(kind: Kind, name: str, why: str) -> Refused:
    told = f'{kind.resource} "{name}"' if name else kind.resource
    message = f"{told} is forbidden: {why}"
    return Refused(HTTPStatus.FORBIDDEN, "Forbidden", message, _details(kind, name, kind.plural))


def forbidden_path(user: str, verb: str, path: str) -> Refused:
    message = f'forbidden: User "{user}" cannot {verb} path "{path}"'
    return Refused(HTTPStatus.FORBIDDEN, "Forbidden", message, {})


def expired(message: str) -> Refused:
    return Refused(HTTPStatus.GONE, "Expired", message)


def too_old(version: int, oldest: int) -> Refused:
    return expired(f"too old resource version: {version} ({oldest})")


def too_large_version(version: int, current: int) -> Refused:
    """The client has seen a future that this store has not (KEP-1904)."""
    cause = Cause("", "ResourceVersionTooLarge", "Too large resource version")
    return Refused(
        HTTPStatus.GATEWAY_TIMEOUT,
        "Timeout",
        f"Timeout: Too large resource version: {version}, current: {current}",
        {"causes": _listed([cause])},
        retry_after=1,
    )


def method_not_allowed(kind: Kind | None = None) -> Refused:
    message = "the server does not allow this method on the requested resource"
    details = _details(kind, "", kind.plural) if kind else {}
    return Refused(HTTPStatus.METHOD_NOT_ALLOWED, "MethodNotAllowed", message, details)


def not_acceptable(accepted: Sequence[str]) -> Refused:
    message = f"only the following media types are accepted: {', '.join(accepted)}"
    return Refused(HTTPStatus.NOT_ACCEPTABLE, "NotAcceptable", message)


def unsupported_media(accepted: Sequence[str]) -> Refused:
    message = (
        "the body of the request was in an unknown format - accepted media types include: "
        f"{', '.join(accepted)}"
    )
    return Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)


def too_large(limit: int) -> Refused:
    message = f"Request entity too large: limit is {limit}"
    return Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "RequestEntityTooLarge", message)


def unavailable(why: str) -> Refused:
    return Refused(HTTPStatus.SERVICE_UNAVAILABLE, "ServiceUnavailable", why, retry_after=5)


def internal() -> Refused:
    message = "Internal error occurred: see the hub's log"
    return Refused(HTTPStatus.INTERNAL_SERVER_ERROR, "InternalError", message)


def invalid_options(options: str, causes: Sequence[Cause]) -> Refused:
    """A parameter of the request that is wrong: `options` such as `PatchOptions`."""
    said = ", ".join(f"{cause.field}: {cause.message}" for cause in causes)
    message = f'{options}.meta.k8s.io "" is invalid: {said}'
    details = {"group": "meta.k8s.io", "kind": options, "causes": _listed(causes)}
    return Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid", message, details)


def patch_failed(why: str) -> Refused:
    """The operations of a JSON patch do not fit what is there."""
    message = f"the server rejected our request due to an error in our request: {why}"
    return Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid", message, {})
