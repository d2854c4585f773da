"""Counting what saturates."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from siligrad_hdl.block_memory import BlockMemory

__all__ = ["SaturationCounters"]


class SaturationCounters(wiring.Component):
    """Adds up the saturated elements of each instruction of a run.

    Parameters
    ----------
    array : :class:`int`
        N, the most elements of a row.
    instructions : :class:`int`
        The most instructions of a run.

    Members
    -------
    saturations : :py:`In(range(array + 1))`
        Saturated elements of a row.
    count, count_first : :py:`In(1)`
        There is a row in this cycle; it is the first of an instruction.
    write, write_address : :py:`In(1)`, :py:`In(range(instructions))`
        Keep the sum of the rows up to the cycle before for this instruction.
    read_address : :py:`In(range(instructions))`
        Instruction to read.
    read_data : :py:`Out(32)`
        Its sum, modulo 2³², ``latency`` cycles later.

    Attributes
    ----------
    latency : :class:`int`
        Cycles from ``read_address`` to ``read_data``.
    """

    latency = BlockMemory.latency

    def __init__(self, *, array: int, instructions: int) -> None:
        self.array = array
        self.instructions = instructions
        super().__init__({
            "saturations": In(range(array + 1)),
            "count": In(1),
            "count_first": In(1),
            "write": In(1),
            "write_address": In(range(instructions)),
            "read_address": In(range(instructions)),
            "read_data": Out(32),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.sums = sums = BlockMemory(shape=32, depth=self.instructions)
        total = Signal(32, reset_less=True)
        with m.If(self.count):
            m.d.sync += total.eq(Mux(self.count_first, 0, total) + self.saturations)
        m.d.comb += [
            sums.write_enable.eq(self.write),
            sums.write_address.eq(self.write_address),
            sums.write_data.eq(total),
            sums.read_address.eq(self.read_address),
            sums.read_enable.eq(1),
            sums.output_enable.eq(1),
            self.read_data.eq(sums.read_data),
        ]
        return m
