"""Sparkplug B 3.0: this edge node as a Sparkplug edge node, its devices as Sparkplug devices.

Importing it takes the `protobuf` runtime of the extra `scada`.
"""

from twinbridge.adapters.scada_sparkplug.face import SparkplugFace

__all__ = ["SparkplugFace"]
