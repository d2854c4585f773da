"""The end of the sequencer: what happens to a tile some constant time after its last term."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["TileQueue"]


class TileQueue(wiring.Component):
    """Remembers something about each tile until its time comes, then walks through its rows.

    Tiles are walked in the order in which they were pushed.

    Parameters
    ----------
    array : :class:`int`
        N, the rows of a tile.
    layout : :class:`amaranth.lib.data.Layout`
        What to remember.
    depth : :class:`int`
        Most tiles that are remembered at a time, a power of two.

    Members
    -------
    push, pushed : :py:`In(1)`, :py:`In(layout)`
        Remember a tile.
    start : :py:`In(1)`
        The time of the oldest tile has come. It was pushed two cycles ago or more, and the tile
        before it was started N cycles ago or more.
    active : :py:`Out(1)`
        A row of a tile has its turn, in the N cycles after ``start``.
    index : :py:`Out(range(array))`
        Which one, from N - 1 to 0.
    following : :py:`Out(range(array))`
        What ``index`` is in the next cycle, if a row has its turn then.
    tile : :py:`Out(layout)`
        What was remembered about its tile.
    """

    def __init__(self, *, array: int, layout: data.Layout, depth: int) -> None:
        self.array = array
        self.layout = layout
        self.depth = depth
        super().__init__({
            "push": In(1),
            "pushed": In(layout),
            "start": In(1),
            "active": Out(1),
            "index": Out(range(array)),
            "following": Out(range(array)),
            "tile": Out(layout),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.tiles = tiles = memory.Memory(shape=self.layout, depth=self.depth, init=[])
        write_port = tiles.write_port()
        read_port = tiles.read_port()
        newest = Signal(range(self.depth))
        oldest = Signal(range(self.depth))
        m.d.comb += [
            write_port.en.eq(self.push),
            write_port.addr.eq(newest),
            write_port.data.eq(self.pushed),
            read_port.en.eq(1),
            read_port.addr.eq(oldest),
        ]
        with m.If(self.push):
            m.d.sync += newest.eq(newest + 1)

        active = Signal()
        index = Signal(range(self.array), reset_less=True)
        tile = Signal(self.layout)
        m.d.comb += [
            self.active.eq(active),
            self.index.eq(index),
            self.following.eq(Mux(self.start, self.array - 1, index - 1)),
            self.tile.eq(tile),
        ]
        with m.If(self.start):
            m.d.sync += [
                active.eq(1),
                index.eq(self.array - 1),
                tile.eq(read_port.data),
                oldest.eq(oldest + 1),
            ]
        with m.Elif(index == 0):
            m.d.sync += active.eq(0)
        with m.Else():
            m.d.sync += index.eq(index - 1)
        return m
