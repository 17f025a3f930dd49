"""What is not about an object: discovery, OpenAPI, the version."""

from __future__ import annotations

from typing import Final

from twinbridge.hub import discovery
from twinbridge.hub.kinds import Catalog, Json
from twinbridge.hub.openapi import openapi_v2, openapi_v3, openapi_v3_index

PROBES: Final = ("/healthz", "/livez", "/readyz")


class Documents:
    """They never change while the hub runs: each is made when it is first asked for."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._made: dict[str, Json | None] = {}

    def at(self, path: str) -> Json | None:
        """The document at a path such as `/apis/GROUP/VERSION`, or None."""
        document = self._made.get(path)
        if document is None:
            document = self._make(path.strip("/").split("/"))
            if document is not None:
                self._made[path] = document
        return document

    def _make(self, path: list[str]) -> Json | None:
        match path:
            case ["openapi", *rest]:
                return self._openapi(rest)
            case ["api" | "apis", *_]:
                return self._discovered(path)
            case ["version"]:
                return discovery.version()
            case [""]:
                return {"paths": ["/api", "/apis", *PROBES, "/openapi/v3", "/version"]}
        return None

    def _discovered(self, path: list[str]) -> Json | None:
        match path:
            case ["api"]:
                return discovery.api_versions()
            case ["api", version]:
                return discovery.resource_list(self._catalog, "", version)
            case ["apis"]:
                return discovery.group_list(self._catalog)
            case ["apis", group]:
                return discovery.group(self._catalog, group)
            case ["apis", group, version]:
                return discovery.resource_list(self._catalog, group, version)
        return None

    def _openapi(self, path: list[str]) -> Json | None:
        known = self._catalog.group_versions
        match path:
            case ["v2"]:
                return openapi_v2(self._catalog.definitions)
            case ["v3"]:
                return openapi_v3_index(known)
            case ["v3", "api" | "apis", *rest] if "/".join(rest) in known:
                return openapi_v3("/".join(rest), self._catalog.definitions)
        return None
