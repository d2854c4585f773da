"""Counting what saturates."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from siligrad_hdl.block_memory import BlockMemory
from siligrad_hdl.delay import delayed
from siligrad_hdl.vendor import is_lean

__all__ = ["SaturationCounters"]


class SaturationCounters(wiring.Component):
    """Adds up the saturated elements of each instruction of a run, over all its steps.

    The rows of an instruction in one step are added up in a register. With the last of them, the
    sum goes to the instruction's counter, and is added there to that of the steps before.

    In its lean form (:func:`~siligrad_hdl.vendor.is_lean`) it writes a cycle earlier than it says
    here; nobody reads a counter so soon.

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
    write, add : :py:`In(1)`
        Keep the sum of the rows up to the cycle before in the counter at the ``address`` of the
        cycle before, two cycles later; add it to what the counter held when it was read at the
        ``address`` of two cycles before.
    address : :py:`In(range(instructions))`
        Counter to read in this cycle.
    read_data : :py:`Out(32)`
        What it holds, modulo 2³², ``latency`` cycles later.

    Attributes
    ----------
    latency : :class:`int`
        Cycles from ``address`` to ``read_data``.
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
            "add": In(1),
            "address": In(range(instructions)),
            "read_data": Out(32),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.sums = sums = BlockMemory(shape=32, depth=self.instructions)
        total = Signal(32, reset_less=True)
        added = Signal(32, reset_less=True)
        lean = is_lean(platform)
        late = 1 if lean else 2
        if lean:
            m.d.sync += added.eq(Mux(self.add, total + sums.read_data, total))
            with m.If(self.count):
                m.d.sync += total.eq(
                    Mux(self.count_first, self.saturations, total + self.saturations)
                )
        else:
            # Block RAMs are far away: what is added and their sum lie in registers on the way back.
            rows = Signal(32, reset_less=True)
            before = Signal(32, reset_less=True)
            m.d.sync += [
                rows.eq(total),
                before.eq(Mux(self.add, sums.read_data, 0)),
                added.eq(rows + before),
            ]
            with m.If(self.count):
                m.d.sync += total.eq(Mux(self.count_first, 0, total) + self.saturations)
        m.d.comb += [
            sums.read_address.eq(self.address),
            sums.read_enable.eq(1),
            sums.output_enable.eq(1),
            self.read_data.eq(sums.read_data),
            sums.write_enable.eq(delayed(m, self.write, late, name="write", reset=True)),
            sums.write_address.eq(delayed(m, self.address, late + 1, name="address")),
            sums.write_data.eq(added),
        ]
        return m
