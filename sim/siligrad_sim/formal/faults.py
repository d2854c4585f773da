"""How a fault gets into a netlist, for negative controls."""

from __future__ import annotations

import re

from siligrad_sim.formal.tools import ProverError

__all__ = ["edited"]


def edited(rtlil: str, pattern: str, replacement: str) -> str:
    """Return the netlist with what `pattern` finds replaced, wherever it is.

    Raises
    ------
    ProverError
        If it is nowhere: the hardware has changed, and the control would control nothing.
    """
    text, count = re.subn(pattern, replacement, rtlil)
    if count == 0:
        raise ProverError(f"a fault was to be put in at {pattern!r}, which is nowhere")
    return text
