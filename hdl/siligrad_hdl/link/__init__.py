"""The serial link of ``docs/spec/link.md``: frames on two wires in front of the host port."""

from __future__ import annotations

from siligrad_hdl.link.serial import SerialLink

__all__ = ["SerialLink"]
