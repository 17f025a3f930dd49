"""The Modbus driver."""

from twinbridge_modbus.driver import driver

__all__ = ["driver"]
