"""An address space as a tree, and a DeviceModel of a part of it."""
