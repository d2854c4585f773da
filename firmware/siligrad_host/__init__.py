"""The link to a board: frames over a serial line, and the device ``serial:PORT``."""

from __future__ import annotations

from siligrad_host.link import Link, LinkError, Transport
from siligrad_host.serial import SerialDevice

__all__ = ["Link", "LinkError", "SerialDevice", "Transport"]
