"""What the API has, as clients find it out: versions, groups and resources, old way and new."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from twinbridge import __version__
from twinbridge.hub.formats import media_ranges
from twinbridge.hub.kinds import Catalog, Json, Kind

EMULATED: Final = "v1.32.0"
"""The Kubernetes whose API this one keeps to."""
_AGGREGATED: Final = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"
_STATUS_VERBS: Final = ("get", "patch", "update")


def version() -> Json:
    major, minor, _ = EMULATED.removeprefix("v").split(".")
    return {
        "major": major,
        "minor": minor,
        "gitVersion": f"{EMULATED}+twinbridge-{__version__}",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": platform.python_implementation(),
        "platform": f"{platform.system()}/{platform.machine()}".lower(),
    }


def aggregated_type(accept: str) -> str:
    """The media type of aggregated discovery when that is what the client wants first, else ''."""
    for kind, parameters in media_ranges(accept):
        if kind != "application/json":
            continue
        wants = parameters.get("as") == "APIGroupDiscoveryList"
        if wants and parameters.get("v") in ("v2", "v2beta1"):
            return _AGGREGATED.format(parameters["v"])
        if not wants:
            return ""
    return ""


def aggregated(catalog: Catalog, media_type: str, *, core: bool) -> Json:
    """APIGroupDiscoveryList of /api (`core`) or /apis."""
    beta = "v2beta1" in media_type
    items = [
        {
            "metadata": {"name": group, "creationTimestamp": None} if group else {},
            "versions": [
                {
                    "version": name,
                    "resources": list(map(_discovered, kinds)),
                    "freshness": "Current",
                }
                for name, kinds in versions.items()
            ],
        }
        for group, versions in catalog.groups().items()
        if core == (group == "")
    ]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{'v2beta1' if beta else 'v2'}",
        "metadata": {},
        "items": items,
    }


def _discovered(kind: Kind) -> Json:
    shown = {"group": kind.group, "version": kind.version, "kind": kind.kind}
    made: Json = {
        "resource": kind.plural,
        "responseKind": shown,
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        made["shortNames"] = list(kind.short_names)
    if kind.categories:
        made["categories"] = list(kind.categories)
    if kind.has_status:
        status = {"subresource": "status", "responseKind": shown, "verbs": list(_STATUS_VERBS)}
        made["subresources"] = [status]
    return made


def api_versions() -> Json:
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [],
    }


def group_list(catalog: Catalog) -> Json:
    groups = [_group(name, list(found)) for name, found in catalog.groups().items() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(catalog: Catalog, name: str) -> Json | None:
    found: Mapping[str, Sequence[Kind]] | None = catalog.groups().get(name) if name else None
    if found is None:
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, list(found))}


def _group(name: str, versions: Sequence[str]) -> Json:
    listed = [{"groupVersion": f"{name}/{each}", "version": each} for each in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def resource_list(catalog: Catalog, group: str, version: str) -> Json | None:
    kinds = catalog.groups().get(group, {}).get(version)
    if kinds is None:
        return None
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": list(_resources(kinds)),
    }


def _resources(kinds: Iterable[Kind]) -> Iterable[Json]:
    for kind in kinds:
        common = {"namespaced": kind.namespaced, "kind": kind.kind}
        yield {
            "name": kind.plural,
            "singularName": kind.singular,
            **common,
            "verbs": list(kind.verbs),
            **({"shortNames": list(kind.short_names)} if kind.short_names else {}),
            **({"categories": list(kind.categories)} if kind.categories else {}),
        }
        if kind.has_status:
            yield {
                "name": f"{kind.plural}/status",
                "singularName": "",
                **common,
                "verbs": list(_STATUS_VERBS),
            }
