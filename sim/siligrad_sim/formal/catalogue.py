"""All proofs, in the order in which they are told of."""

from __future__ import annotations

from siligrad_sim.formal.accumulator import ACCUMULATOR
from siligrad_sim.formal.buses import AXI_LITE, WISHBONE
from siligrad_sim.formal.epilogue import EPILOGUE
from siligrad_sim.formal.non_interference import NON_INTERFERENCE
from siligrad_sim.formal.ports import PORTS
from siligrad_sim.formal.proof import Proof
from siligrad_sim.formal.sequencer import RUN_CYCLES
from siligrad_sim.formal.stream import SEGMENT_CYCLES

__all__ = ["PROOFS"]

PROOFS: tuple[Proof, ...] = (
    NON_INTERFERENCE,
    PORTS,
    SEGMENT_CYCLES,
    RUN_CYCLES,
    EPILOGUE,
    ACCUMULATOR,
    AXI_LITE,
    WISHBONE,
)
"""Every proof."""
