"""Primitives of Gowin's GW1N and GW2A series.

After Gowin Semiconductor, *BSRAM & SSRAM User Guide* (UG285), section on the semi-dual-port mode,
and *Digital Signal Processing (DSP) User Guide* (UG287), MULT18X18.
"""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Signal, Value

from siligrad_hdl.vendor.block_16k import Block16Memory
from siligrad_hdl.vendor.block_18x18 import Block18Multiplier

__all__ = ["GowinMultiplier", "SdpMemory"]

_INITIAL_BYTES = 32  # in each of the parameters INIT_RAM_00 to INIT_RAM_3F


class SdpMemory(Block16Memory):
    """:class:`~siligrad_hdl.block_memory.BlockMemory` of SDPB, or SDPX9B, side by side.

    They are written through port A and read through port B. The register behind that is made of
    flip-flops: nextpnr has it that the blocks' own do not work on the GW1NR-9C and the GW2A-18C,
    for words of less than 32 bits.
    """

    family = "Gowin"
    output_register = False

    def block(self, answer: Signal, data: Value, contents: Sequence[int]) -> Instance:
        """Return an SDPX9B, which has the ninth bit of a byte, or an SDPB, which does not.

        Their port A writes whenever its clock is enabled. The lower two pins below an address of 18
        bits enable the two bytes.
        """
        ninth = self.block_bits >= 9
        byte, word = (9, 36) if ninth else (8, 32)
        initial = [
            sum(value << byte * i for i, value in enumerate(contents[first : first + 32]))
            for first in range(0, len(contents), _INITIAL_BYTES)
        ]
        return Instance(
            "SDPX9B" if ninth else "SDPB",
            p_READ_MODE=Const(0, 1),
            p_BIT_WIDTH_0=self.block_bits,
            p_BIT_WIDTH_1=self.block_bits,
            p_BLK_SEL_0=Const(0, 3),
            p_BLK_SEL_1=Const(0, 3),
            p_RESET_MODE="SYNC",
            **{
                f"p_INIT_RAM_{part:02X}": Const(value, byte * _INITIAL_BYTES)
                for part, value in enumerate(initial)
            },
            i_CLKA=ClockSignal(),
            i_CEA=self.write_enable,
            i_RESETA=Const(0),
            i_BLKSELA=Const(0, 3),
            i_ADA=self.address(self.write_address, 0b11 if self.block_bits == 18 else 0),
            i_DI=Cat(data, Const(0, word - len(data))),
            i_CLKB=ClockSignal(),
            i_CEB=self.read_enable,
            i_OCE=Const(1),
            i_RESETB=Const(0),
            i_BLKSELB=Const(0, 3),
            i_ADB=self.address(self.read_address, 0),
            o_DO=Cat(answer, Signal(word - len(answer), name="unused")),
        )


class GowinMultiplier(Block18Multiplier):
    """:class:`~siligrad_hdl.multiplier.Multiplier` as one MULT18X18."""

    family = "Gowin"
    pipeline_register = True

    def block(self, a: Signal, b: Signal, product: Signal) -> Instance:
        """Return a MULT18X18, whose operands are always signed."""
        return Instance(
            "MULT18X18",
            **{f"p_{name}": Const(1, 1) for name in ("AREG", "BREG", "PIPE_REG", "OUT_REG")},
            **{f"p_{name}": Const(0, 1) for name in ("ASIGN_REG", "BSIGN_REG", "SOA_REG")},
            p_MULT_RESET_MODE="SYNC",
            i_CLK=ClockSignal(),
            i_CE=Const(1),
            i_RESET=Const(0),
            i_A=a,
            i_B=b,
            i_SIA=Const(0, 18),
            i_SIB=Const(0, 18),
            i_ASIGN=Const(1),
            i_BSIGN=Const(1),
            i_ASEL=Const(0),
            i_BSEL=Const(0),
            o_DOUT=product,
        )
