"""For tests of TwinBridge and of drivers: contract suites, fakes, a fault-injecting proxy."""
