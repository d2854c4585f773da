"""Devices that simulate: the numpy reference and the simulators of the hardware."""
