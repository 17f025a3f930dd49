"""What callers ask of their own access: `kubectl auth whoami` and `kubectl auth can-i`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from twinbridge.hub import access, refusals
from twinbridge.hub.kinds import Catalog, Json
from twinbridge.hub.tokens import Identity, Role

_AUTHORIZATION: Final = "/apis/authorization.k8s.io/v1/"
ACCESS: Final = f"{_AUTHORIZATION}selfsubjectaccessreviews"
RULES: Final = f"{_AUTHORIZATION}selfsubjectrulesreviews"
PATHS: Final = frozenset(
    (
        ACCESS,
        RULES,
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        "/apis/authentication.k8s.io/v1beta1/selfsubjectreviews",
    )
)


def review(catalog: Catalog, who: Identity, path: str, asked: Json) -> Json:
    """The answer to what is asked at one of PATHS."""
    if path == ACCESS:
        allowed = {"allowed": _allowed(catalog, who, asked)}
        return _answer(asked, "SelfSubjectAccessReview", allowed)
    if path == RULES:
        rules = list(_rules(catalog, who))
        told = {"resourceRules": rules, "nonResourceRules": [], "incomplete": False}
        return _answer(asked, "SelfSubjectRulesReview", told)
    return _who_am_i(who)


def _who_am_i(who: Identity) -> Json:
    groups = [f"twinbridge:{who.role}", "system:authenticated"]
    return {
        "kind": "SelfSubjectReview",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"creationTimestamp": None},
        "status": {"userInfo": {"username": who.name, "groups": groups}},
    }


def _answer(asked: Json, kind: str, status: Json) -> Json:
    return {
        "kind": kind,
        "apiVersion": "authorization.k8s.io/v1",
        "metadata": {"creationTimestamp": None},
        "spec": asked.get("spec") or {},
        "status": status,
    }


def _allowed(catalog: Catalog, who: Identity, asked: Json) -> bool:
    spec = _object(asked, "spec")
    if "nonResourceAttributes" in spec:
        reads = _object(spec, "nonResourceAttributes").get("verb") == "get"
        return who.role is Role.ADMIN or (who.role is not Role.EDGE and reads)
    wanted = _object(spec, "resourceAttributes")
    if who.role is Role.ADMIN:
        return True
    verb, sub, name = (wanted.get(key, "") for key in ("verb", "subresource", "name"))
    named = (wanted.get("group", ""), wanted.get("resource", ""))
    return any(
        access.allowed(who, verb, kind, sub) and (not name or access.may_name(who, kind, name))
        for kind in catalog.kinds
        if (kind.group, kind.plural) == named
    )


def _object(of: Json, key: str) -> Json:
    found = of.get(key, {})
    if not isinstance(found, dict):
        raise refusals.bad_request(f"{key} is no object")
    return found


def _rules(catalog: Catalog, who: Identity) -> Iterator[Json]:
    for kind in catalog.kinds:
        for sub in ("", "status") if kind.has_status else ("",):
            offered = ("get", "patch", "update") if sub else kind.verbs
            verbs = [verb for verb in offered if access.allowed(who, verb, kind, sub)]
            if verbs:
                resource = f"{kind.plural}/{sub}" if sub else kind.plural
                yield {"verbs": verbs, "apiGroups": [kind.group], "resources": [resource]}


def object_of(body: object) -> Json:
    if not isinstance(body, dict):
        raise refusals.bad_request("the body is no object")
    return body
