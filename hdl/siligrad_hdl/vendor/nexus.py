"""Primitives of Lattice's Nexus platform: CrossLink-NX, Certus-NX and their likes.

After Lattice Semiconductor, *Memory Usage Guide for Nexus Platform* (FPGA-TN-02094) and *sysDSP
Usage Guide for Nexus Platform* (FPGA-TN-02096).
"""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Signal, Value

from siligrad_hdl.vendor.block_16k import Block16Memory
from siligrad_hdl.vendor.block_18x18 import Block18Multiplier

__all__ = ["NexusMultiplier", "PdpMemory"]

_INITIAL_BYTES = 32  # of 9 bits, 10 bits apart, in each of the parameters INITVAL_00 to INITVAL_3F


class PdpMemory(Block16Memory):
    """:class:`~siligrad_hdl.block_memory.BlockMemory` of PDPSC16K side by side.

    The block's own output register has no clock enable but that of the read port, so the memory's
    is made of flip-flops.
    """

    family = "Nexus"
    output_register = False

    def block(self, answer: Signal, data: Value, contents: Sequence[int]) -> Instance:
        """Return a PDPSC16K, all of whose pins below an address are high.

        Those of 18 bits enable the two bytes when they are written.
        """
        initial = [
            sum(value << 10 * i for i, value in enumerate(contents[first : first + 32]))
            for first in range(0, len(contents), _INITIAL_BYTES)
        ]
        return Instance(
            "PDPSC16K",
            p_DATA_WIDTH_W=f"X{self.block_bits}",
            p_DATA_WIDTH_R=f"X{self.block_bits}",
            p_OUTREG="BYPASSED",
            p_RESETMODE="SYNC",
            p_ASYNC_RST_RELEASE="SYNC",
            p_CSDECODE_W="111",
            p_CSDECODE_R="111",
            p_ECC="DISABLED",
            p_GSR="DISABLED",
            **{f"p_INITVAL_{part:02X}": f"0x{value:080x}" for part, value in enumerate(initial)},
            i_CLK=ClockSignal(),
            i_RST=Const(0),
            i_CEW=self.write_enable,
            i_CSW=Const(0b111, 3),
            i_ADW=self.address(self.write_address, -1),
            i_DI=Cat(data, Const(0, 36 - len(data))),
            i_CER=self.read_enable,
            i_CSR=Const(0b111, 3),
            i_ADR=self.address(self.read_address, -1),
            o_DO=Cat(answer, Signal(36 - len(answer), name="unused")),
        )


class NexusMultiplier(Block18Multiplier):
    """:class:`~siligrad_hdl.multiplier.Multiplier` as one MULT18X18, and a register behind it."""

    family = "Nexus"
    pipeline_register = False

    def block(self, a: Signal, b: Signal, product: Signal) -> Instance:
        """Return a MULT18X18."""
        return Instance(
            "MULT18X18",
            **{f"p_REG{name}": "REGISTER" for name in ("INPUTA", "INPUTB", "OUTPUT")},
            p_RESETMODE="SYNC",
            p_GSR="DISABLED",
            i_CLK=ClockSignal(),
            **{f"i_CE{name}": Const(1) for name in ("A", "B", "OUT")},
            **{f"i_RST{name}": Const(0) for name in ("A", "B", "OUT")},
            i_A=a,
            i_B=b,
            i_SIGNEDA=Const(1),
            i_SIGNEDB=Const(1),
            o_Z=product,
        )
