"""The multiplier of a cell, the part that an FPGA has a block for."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from siligrad_hdl.vendor import technology_of

__all__ = ["Multiplier"]


class Multiplier(wiring.Component):
    """Signed multiplier with registered operands and two registers behind the product.

    The three ranks of registers are those of a DSP block: operand, pipeline, output. The
    registered operands leave the component too, since a systolic cell passes them on.

    For a platform whose family has a block for it (:mod:`siligrad_hdl.vendor`), it is that block.

    Parameters
    ----------
    operand_bits : :class:`int`
        Width of each operand.

    Members
    -------
    a, b : :py:`In(signed(operand_bits))`
        The operands of this cycle.
    a_registered, b_registered : :py:`Out(signed(operand_bits))`
        The operands of the cycle before.
    product : :py:`Out(signed(2 * operand_bits))`
        The product of the operands ``latency`` cycles ago.

    Attributes
    ----------
    latency : :class:`int`
        Cycles from the operands to their product.
    """

    latency = 3

    def __init__(self, *, operand_bits: int) -> None:
        self.operand_bits = operand_bits
        super().__init__({
            "a": In(signed(operand_bits)),
            "b": In(signed(operand_bits)),
            "a_registered": Out(signed(operand_bits)),
            "b_registered": Out(signed(operand_bits)),
            "product": Out(signed(2 * operand_bits)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        technology = technology_of(platform)
        if technology is not None and technology.multiplier is not None:
            m.submodules.block = block = technology.multiplier(operand_bits=self.operand_bits)
            m.d.comb += [
                block.a.eq(self.a),
                block.b.eq(self.b),
                self.a_registered.eq(block.a_registered),
                self.b_registered.eq(block.b_registered),
                self.product.eq(block.product),
            ]
            return m
        operand_a = Signal(signed(self.operand_bits), reset_less=True)
        operand_b = Signal(signed(self.operand_bits), reset_less=True)
        pipeline = Signal(signed(2 * self.operand_bits), reset_less=True)
        output = Signal(signed(2 * self.operand_bits), reset_less=True)
        m.d.sync += [
            operand_a.eq(self.a),
            operand_b.eq(self.b),
            pipeline.eq(operand_a * operand_b),
            output.eq(pipeline),
        ]
        m.d.comb += [
            self.a_registered.eq(operand_a),
            self.b_registered.eq(operand_b),
            self.product.eq(output),
        ]
        return m
