"""The hub as a Kubernetes API: the port `Hub`, over the official client's asyncio side."""

from twinbridge.adapters.hub_kube.credentials import parse_where
from twinbridge.adapters.hub_kube.hub import KubeHub, open_hub

__all__ = ["KubeHub", "open_hub", "parse_where"]
