"""The cell that the array is made of."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from siligrad_hdl.multiplier import Multiplier
from siligrad_hdl.vendor import is_lean

__all__ = ["ProcessingElement"]


class ProcessingElement(wiring.Component):
    """Output-stationary multiply-accumulate cell with a drain register.

    ``a`` travels west to east and ``b`` north to south, one cell a cycle; the sum stays. When the
    last product of a tile is added, the sum goes to the drain register instead and the accumulator
    to zero, so that the next product begins the next tile; drain registers pass what they hold on
    from north to south. There is no backpressure: the array is scheduled statically and every
    cycle carries data.

    The flags travel east beside ``a``, but *behind* it, by as much as the multiplier takes, so
    that no cell has to delay them: in the cycle in which a flag is at a cell's western port, it
    acts at the end of it.

    In its lean form (:func:`~siligrad_hdl.vendor.is_lean`) it takes a product a cycle earlier, into
    the accumulator, from which the sum then drains: all comes and goes in the same cycles.

    Parameters
    ----------
    operand_bits : :class:`int`
        Width of an element of ``a`` and of ``b``.
    sum_bits : :class:`int`
        Width of the accumulator. Sums wrap; the compiler proves that they cannot.

    Members
    -------
    a_west, a_east : :py:`In(signed(operand_bits))`, :py:`Out(signed(operand_bits))`
        Operand in, and the same operand one cycle later.
    b_north, b_south : :py:`In(signed(operand_bits))`, :py:`Out(signed(operand_bits))`
        Operand in, and the same operand one cycle later.
    last_west, last_east : :py:`In(1)`, :py:`Out(1)`
        ``lag`` cycles after a pair of operands: it was the last of its tile. And the same flag one
        cycle later.
    accept_west, accept_east : :py:`In(1)`, :py:`Out(1)`
        The drain register takes over what the one to the north holds. ``last_west`` goes first.
        Without either it keeps what it has. And the same flag one cycle later.
    drain_north, drain_south : :py:`In(signed(sum_bits))`, :py:`Out(signed(sum_bits))`
        The drain registers of the cell to the north, and of this one.

    Attributes
    ----------
    latency : :class:`int`
        Cycles from the last pair of operands to the sum in the drain register.
    lag : :class:`int`
        Cycles by which the flags follow the operands they belong to.

    Raises
    ------
    ValueError
        If ``sum_bits`` cannot hold one product.
    """

    lag = Multiplier.latency + 1
    latency = lag + 1

    def __init__(self, *, operand_bits: int = 16, sum_bits: int = 40) -> None:
        if sum_bits < 2 * operand_bits:
            raise ValueError(
                f"sum_bits must be at least {2 * operand_bits} to hold a product of two "
                f"{operand_bits}-bit operands, not {sum_bits}"
            )
        self.operand_bits = operand_bits
        self.sum_bits = sum_bits
        super().__init__({
            "a_west": In(signed(operand_bits)),
            "a_east": Out(signed(operand_bits)),
            "b_north": In(signed(operand_bits)),
            "b_south": Out(signed(operand_bits)),
            "last_west": In(1),
            "last_east": Out(1),
            "accept_west": In(1),
            "accept_east": Out(1),
            "drain_north": In(signed(sum_bits)),
            "drain_south": Out(signed(sum_bits)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()

        m.submodules.multiplier = multiplier = Multiplier(operand_bits=self.operand_bits)
        m.d.comb += [
            multiplier.a.eq(self.a_west),
            multiplier.b.eq(self.b_north),
            self.a_east.eq(multiplier.a_registered),
            self.b_south.eq(multiplier.b_registered),
        ]

        total = Signal(signed(self.sum_bits), reset_less=True)
        if is_lean(platform):
            # The next tile begins with its first product as the sum of this one drains.
            product = multiplier.product
            ended: Value = total
            m.d.sync += total.eq(Mux(self.last_west, product, total + product))
        else:
            # A register between a block of an FPGA that is far away and an adder that takes its
            # time.
            product = Signal(signed(2 * self.operand_bits), reset_less=True)
            following = Signal(signed(self.sum_bits))
            ended = following
            m.d.comb += following.eq(total + product)
            m.d.sync += [product.eq(multiplier.product), total.eq(following)]
            with m.If(self.last_west):
                m.d.sync += total.eq(0)

        drain = Signal(signed(self.sum_bits), reset_less=True)
        with m.If(self.last_west | self.accept_west):
            m.d.sync += drain.eq(Mux(self.last_west, ended, self.drain_north))
        m.d.comb += self.drain_south.eq(drain)

        m.d.sync += [self.last_east.eq(self.last_west), self.accept_east.eq(self.accept_west)]
        return m
