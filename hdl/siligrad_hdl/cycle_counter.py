"""The counter of busy cycles."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["CycleCounter"]


class CycleCounter(wiring.Component):
    """Counts cycles, in two halves, since one carry chain of 64 bits is too slow for an iCE40.

    Parameters
    ----------
    half_bits : :class:`int`
        Width of each half.

    Members
    -------
    clear, count : :py:`In(1)`
        Begin from zero; else count this cycle.
    cycles : :py:`Out(2 * half_bits)`
        Cycles that were counted.
    """

    def __init__(self, *, half_bits: int = 32) -> None:
        self.half_bits = half_bits
        super().__init__({"clear": In(1), "count": In(1), "cycles": Out(2 * half_bits)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        low = Signal(self.half_bits)
        high = Signal(self.half_bits)
        carry = Signal()  # the lower half is all ones, which is known a count before
        m.d.comb += self.cycles.eq(Cat(low, high))
        with m.If(self.count):  # not an addend: what enables comes late
            m.d.sync += [low.eq(low + 1), carry.eq(low == (1 << self.half_bits) - 2)]
        with m.If(self.count & carry):
            m.d.sync += high.eq(high + 1)
        with m.If(self.clear):
            m.d.sync += [low.eq(0), carry.eq(0), high.eq(0)]
        return m
