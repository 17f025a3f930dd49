"""TwinBridge: industrial machines as device twins, with local rules that can stop them."""

from importlib.metadata import version

__version__ = version("twinbridge")
