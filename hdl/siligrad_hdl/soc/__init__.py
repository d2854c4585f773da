"""A system on chip: a small processor, RAM and a console beside the accelerator."""

from __future__ import annotations

from siligrad_hdl.soc.chip import DEBUG_RAM, SystemOnChip, to_verilog
from siligrad_hdl.soc.memory_map import RAM_BYTES
from siligrad_hdl.soc.processor import ProcessorMissing

__all__ = ["DEBUG_RAM", "ProcessorMissing", "RAM_BYTES", "SystemOnChip", "to_verilog"]
