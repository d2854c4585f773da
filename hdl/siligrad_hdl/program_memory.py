"""The memory of programs."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from siligrad.isa import LINE_BITS
from siligrad.registers import WORDS_PER_LINE
from siligrad_hdl.block_memory import BlockMemory

__all__ = ["ProgramMemory"]


class ProgramMemory(wiring.Component):
    """Lines that are read whole and written word by word.

    Parameters
    ----------
    depth : :class:`int`
        Number of lines.
    init : sequence of :class:`int`
        The first lines; zero where there are none.

    Members
    -------
    read_address, read_enable, output_enable, line
        As ``read_data`` and its likes of :class:`~siligrad_hdl.block_memory.BlockMemory`.
    write_words, write_address, write_data : :py:`In(WORDS_PER_LINE)`, :py:`In(range(depth))`,
    :py:`In(32)`
        Words of a line to write in this cycle, the line, and what to write to each.

    Attributes
    ----------
    latency : :class:`int`
        Cycles from an address to its line.
    """

    latency = BlockMemory.latency

    def __init__(self, *, depth: int, init: Sequence[int] = ()) -> None:
        self.depth = depth
        self.init = tuple(init)
        super().__init__({
            "read_address": In(range(depth)),
            "read_enable": In(1),
            "output_enable": In(1),
            "line": Out(LINE_BITS),
            "write_words": In(WORDS_PER_LINE),
            "write_address": In(range(depth)),
            "write_data": In(32),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        words = []
        bits = LINE_BITS // WORDS_PER_LINE
        for number in range(WORDS_PER_LINE):
            init = [line >> bits * number & (1 << bits) - 1 for line in self.init]
            word = BlockMemory(shape=bits, depth=self.depth, init=init)
            m.submodules[f"word_{number}"] = word
            m.d.comb += [
                word.read_address.eq(self.read_address),
                word.read_enable.eq(self.read_enable),
                word.output_enable.eq(self.output_enable),
                word.write_enable.eq(self.write_words[number]),
                word.write_address.eq(self.write_address),
                word.write_data.eq(self.write_data),
            ]
            words.append(word.read_data)
        m.d.comb += self.line.eq(Cat(words))
        return m
