"""All proofs, in the order in which they are told of."""

from __future__ import annotations

from siligrad_sim.formal.epilogue import EPILOGUE
from siligrad_sim.formal.non_interference import NON_INTERFERENCE
from siligrad_sim.formal.proof import Proof

__all__ = ["PROOFS"]

PROOFS: tuple[Proof, ...] = (NON_INTERFERENCE, EPILOGUE)
"""Every proof."""
