"""Random bits for stochastic rounding."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from siligrad.isa import DRAW_BITS

__all__ = ["Lfsr"]


class Lfsr(wiring.Component):
    """Linear feedback shift register of ``docs/spec/numerics.md``: sixteen steps in a cycle.

    The polynomial is x³² + x²² + x² + x + 1. Of a state that is zero the next is zero; what sets
    the state does not set it to zero.

    Parameters
    ----------
    init : :class:`int`
        The state after a reset.

    Members
    -------
    draw : :py:`In(1)`
        Go on by a draw: sixteen steps. The value of the draw is the low sixteen bits of ``state``
        in the next cycle.
    load : :py:`In(1)`
        Set the state instead.
    load_state : :py:`In(32)`
        To what.
    state : :py:`Out(32)`
        The state.
    """

    def __init__(self, *, init: int = 1) -> None:
        self.init = init
        super().__init__({
            "draw": In(1),
            "load": In(1),
            "load_state": In(32),
            "state": Out(32, init=init),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # bits[0] is the newest bit, each step puts one before it.
        bits: list[Value] = list(self.state)
        for _ in range(DRAW_BITS):
            bits.insert(0, bits[31] ^ bits[30] ^ bits[29] ^ bits[9])
        state = Signal(32, init=self.init)
        with m.If(self.load):
            m.d.sync += state.eq(self.load_state)
        with m.Elif(self.draw):
            m.d.sync += state.eq(Cat(bits[:32]))
        m.d.comb += self.state.eq(state)
        return m
