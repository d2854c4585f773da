"""The accelerators that proofs look at, as netlists, and some with a leak put in."""

from __future__ import annotations

from collections.abc import Callable

from amaranth.back import rtlil
from amaranth.hdl import EnableInserter, Module, Signal

from siligrad.isa import Geometry, Memory
from siligrad_hdl.accelerator import Accelerator
from siligrad_hdl.sequencer import Sequencer
from siligrad_sim.formal.netlist import Netlist

__all__ = ["LEAKS", "TOP", "accelerator_netlist"]

TOP = "siligrad"
"""What the top module of a netlist is called."""


def accelerator_netlist(array: int, build: Callable[[Geometry], Accelerator]) -> Netlist:
    """Return the netlist of ``build(geometry)``, with memories of a few tiles.

    The depths of memories decide how wide addresses are and nothing else that a proof of structure
    looks at.
    """
    depth = 8 * array
    geometry = Geometry(array=array, x_depth=depth, w_depth=depth, e_depth=depth, program_depth=16)
    return Netlist(rtlil.convert(build(geometry), name=TOP), top=TOP)


class _StallingSequencer(Sequencer):
    """A sequencer that stands still while :attr:`go` is low."""

    go: Signal

    def elaborate(self, platform: object) -> Module:
        return EnableInserter(self.go)(super().elaborate(platform))


class _StallsOnZero(Accelerator):
    """Stands still while it multiplies with zero."""

    _sequencer: _StallingSequencer

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        self._sequencer.__class__ = _StallingSequencer  # which has the same ports
        self._sequencer.go = Signal(init=1)

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        m.d.comb += self._sequencer.go.eq(self._operands.a[0] != 0)
        return m


class _SkipsZeroRows(Accelerator):
    """Does not write a row of results that begins with a zero: nothing is later, but an enable."""

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        written = self._epilogue.results[0] != 0
        m.d.comb += self._writer.enable.eq(
            self._sequencer.write_enable & written.replicate(len(Memory))
        )
        return m


class _Gathers(Accelerator):
    """Reads, of W, the row whose number the lowest bit of a word of X has changed."""

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        x, w = self.memories[Memory.X], self.memories[Memory.W]
        m.d.comb += w.request.index.eq(self._sequencer.requests[Memory.W].index ^ x.lanes[0][0])
        return m


LEAKS: dict[str, Callable[[Geometry], Accelerator]] = {
    "the stream stalls on a zero operand": _StallsOnZero,
    "a row that begins with zero is not written": _SkipsZeroRows,
    "a word of X chooses what is read of W": _Gathers,
}
"""Accelerators in which data reaches control, by how."""
