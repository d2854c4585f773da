"""The counter of busy cycles, and what ends a run that takes too many of them."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from siligrad_hdl.cycle_counter import CycleCounter
from siligrad_hdl.delay import delayed

__all__ = ["Watchdog"]


class Watchdog(wiring.Component):
    """Counts the cycles of a run, and ends one that is still busy after its limit.

    The halves of the counter are compared beside each other, each into a register: no comparison is
    wider than a half, and next to nothing is between them and the end, which is a register too,
    since all of a sequencer hangs on it. So a run that does not end by itself is busy for
    :data:`siligrad.registers.OVERRUN_CYCLES` cycles beyond its limit, and ends with the cycle in
    which ``end`` is high; one that has ended by itself in the cycle before counts as busy in that
    one too, and as ended.

    Parameters
    ----------
    half_bits : :class:`int`
        Width of each half of the counter and of the limit.

    Members
    -------
    start : :py:`In(1)`
        A run begins in the next cycle; ``busy`` and ``end`` are low.
    busy : :py:`In(1)`
        It is going on.
    limit : :py:`In(2 * half_bits)`
        Cycles that it may take; zero for any number. Does not change while it is going on.
    cycles : :py:`Out(2 * half_bits)`
        Cycles that it has taken; as in :class:`~siligrad_hdl.cycle_counter.CycleCounter`.
    end : :py:`Out(1)`
        This cycle is the last of a run, which is to be reset with it.
    overrun : :py:`Out(1)`
        The last run was ended so; from the cycle after ``end`` to the next start.
    """

    def __init__(self, *, half_bits: int = 32) -> None:
        self.half_bits = half_bits
        super().__init__({
            "start": In(1),
            "busy": In(1),
            "limit": In(2 * half_bits),
            "cycles": Out(2 * half_bits),
            "end": Out(1),
            "overrun": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        half = self.half_bits
        m.submodules.counter = counter = CycleCounter(half_bits=half)
        m.d.comb += [
            counter.clear.eq(self.start),
            counter.count.eq(self.busy | self.end),
            self.cycles.eq(counter.cycles),
        ]
        # A limit of zero is met in the first cycle alone, which is left out.
        first = delayed(m, self.start, 1, name="first", reset=True)
        low_met = Signal()
        high_met = Signal()
        m.d.sync += [
            low_met.eq(self.cycles[:half] == self.limit[:half]),
            high_met.eq(self.cycles[half:] == self.limit[half:]),
            self.end.eq(low_met & high_met & self.busy),
        ]
        with m.If(~self.busy | first):
            m.d.sync += low_met.eq(0)
        with m.If(self.start):
            m.d.sync += self.overrun.eq(0)
        with m.Elif(self.end):
            m.d.sync += self.overrun.eq(1)
        return m
