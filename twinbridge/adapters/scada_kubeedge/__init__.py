"""The device topics of KubeEdge's EventBus, for applications that know them."""

from twinbridge.adapters.scada_kubeedge.face import KubeEdgeFace

__all__ = ["KubeEdgeFace"]
