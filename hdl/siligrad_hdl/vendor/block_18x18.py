"""What the multiplier blocks of ECP5, Nexus and Gowin have in common: 18 bits by 18."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from amaranth.hdl import Instance, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Block18Multiplier"]

_BITS = 18


class Block18Multiplier(wiring.Component):
    """:class:`~siligrad_hdl.multiplier.Multiplier` as one block with all of its registers.

    What a family calls its block, and how it wants it, says a class derived from this one. The
    operands' registers are made of flip-flops once more: wires between blocks are few and go to the
    next block only.

    Parameters
    ----------
    operand_bits : :class:`int`
        Width of each operand, at most 18.

    Members
    -------
    a, b, a_registered, b_registered, product
        As of the multiplier.

    Attributes
    ----------
    family : :class:`str`
        What messages call the family.
    pipeline_register : :class:`bool`
        Whether the block has a register between those of its operands and of its product; else
        flip-flops behind it take its place.

    Raises
    ------
    ValueError
        If `operand_bits` is more than the block takes.
    """

    family: ClassVar[str]
    pipeline_register: ClassVar[bool]

    def __init__(self, *, operand_bits: int) -> None:
        if operand_bits > _BITS:
            raise ValueError(
                f"operand_bits must be at most {_BITS} on {self.family}, not {operand_bits}"
            )
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
        wide_a, wide_b = Signal(signed(_BITS)), Signal(signed(_BITS))
        answer = Signal(signed(2 * _BITS))
        operand_a = Signal(signed(self.operand_bits), reset_less=True)
        operand_b = Signal(signed(self.operand_bits), reset_less=True)
        m.d.sync += [operand_a.eq(self.a), operand_b.eq(self.b)]
        m.d.comb += [
            wide_a.eq(self.a),
            wide_b.eq(self.b),
            self.a_registered.eq(operand_a),
            self.b_registered.eq(operand_b),
        ]
        if self.pipeline_register:
            m.d.comb += self.product.eq(answer)
        else:
            product = Signal(signed(2 * self.operand_bits), reset_less=True)
            m.d.sync += product.eq(answer)
            m.d.comb += self.product.eq(product)
        m.submodules.block = self.block(wide_a, wide_b, answer)
        return m

    @abstractmethod
    def block(self, a: Signal, b: Signal, product: Signal) -> Instance:
        """Return the block: signed operands of 18 bits, and their product of 36."""
