"""The RAM of the system on chip."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Module, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Ram"]


class Ram(wiring.Component):
    """Words of 32 bits that are written byte by byte; one is read or written in a cycle.

    Parameters
    ----------
    words : :class:`int`
        How many, a power of two.
    init : sequence of :class:`int`
        The first of them; zero where there are none.

    Members
    -------
    address : :py:`In(range(words))`
        Of a word.
    read : :py:`In(1)`
        Read it.
    read_data : :py:`Out(32)`
        What was read last, from the next cycle on.
    write_bytes, write_data : :py:`In(4)`, :py:`In(32)`
        Bytes of it to write, and what; none while it is read.

    Raises
    ------
    ValueError
        If `words` is no power of two, or `init` has more.
    """

    def __init__(self, *, words: int, init: Sequence[int] = ()) -> None:
        if words < 2 or words & (words - 1):
            raise ValueError(f"words of a RAM must be a power of two, not {words}")
        if len(init) > words:
            raise ValueError(f"init has {len(init)} words, the RAM has {words}")
        self.words = words
        self._data = memory.MemoryData(shape=unsigned(32), depth=words, init=init)
        super().__init__({
            "address": In(range(words)),
            "read": In(1),
            "read_data": Out(32),
            "write_bytes": In(4),
            "write_data": In(32),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = rows = memory.Memory(self._data)
        write_port = rows.write_port(granularity=8)
        read_port = rows.read_port()
        m.d.comb += [
            read_port.addr.eq(self.address),
            read_port.en.eq(self.read),
            self.read_data.eq(read_port.data),
            write_port.addr.eq(self.address),
            write_port.en.eq(self.write_bytes),
            write_port.data.eq(self.write_data),
        ]
        return m
