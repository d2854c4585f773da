"""A memory with one read port and one write port, the part that an FPGA has a block for."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Module, Shape, ShapeLike, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.memory import MemoryData
from amaranth.lib.wiring import In, Out

from siligrad_hdl.vendor import technology_of

__all__ = ["BlockMemory"]


class BlockMemory(wiring.Component):
    """Memory that reads and writes a word in each cycle, with a register behind the read port.

    A read sees what was written in earlier cycles. What it returns when the word is written in the
    same cycle, or later but before it is taken over into the output register, is the old word;
    nothing here depends on that, since no accepted program does it, and the blocks of some families
    return anything then.

    For a platform whose family has blocks for it (:mod:`siligrad_hdl.vendor`), it is made of them.

    Parameters
    ----------
    shape : :class:`ShapeLike`
        Shape of a word.
    depth : :class:`int`
        Words, not only powers of two.
    init : sequence of :class:`int`
        The first words, zero where there are none.

    Members
    -------
    read_address : :py:`In(range(depth))`
        Address to read in this cycle.
    read_enable : :py:`In(1, init=1)`
        Read in this cycle, else the memory goes on returning what it read last.
    output_enable : :py:`In(1, init=1)`
        Take what the memory returns over into the output register.
    read_data : :py:`Out(shape)`
        The output register: the word, ``latency`` cycles after its address.
    write_enable, write_address, write_data : :py:`In(1)`, :py:`In(range(depth))`, :py:`In(shape)`
        What to write in this cycle.

    Attributes
    ----------
    latency : :class:`int`
        Cycles from an address to its word.
    data : :class:`amaranth.hdl.MemoryData`
        The rows of the memory, for simulators.
    """

    latency = 2

    def __init__(self, *, shape: ShapeLike, depth: int, init: Sequence[int] = ()) -> None:
        self.shape = shape
        self.depth = depth
        self.data = MemoryData(shape=shape, depth=depth, init=init)
        super().__init__({
            "read_address": In(range(depth)),
            "read_enable": In(1, init=1),
            "output_enable": In(1, init=1),
            "read_data": Out(shape),
            "write_enable": In(1),
            "write_address": In(range(depth)),
            "write_data": In(shape),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        technology = technology_of(platform)
        if technology is not None and technology.block_memory is not None:
            m.submodules.block = block = technology.block_memory(
                width=Shape.cast(self.shape).width, depth=self.depth, init=list(self.data.init)
            )
            m.d.comb += [
                block.read_address.eq(self.read_address),
                block.read_enable.eq(self.read_enable),
                block.output_enable.eq(self.output_enable),
                self.read_data.eq(block.read_data),
                block.write_enable.eq(self.write_enable),
                block.write_address.eq(self.write_address),
                block.write_data.eq(self.write_data),
            ]
            return m
        m.submodules.memory = rows = memory.Memory(self.data)
        write_port = rows.write_port()
        read_port = rows.read_port()
        output = Signal(self.shape, reset_less=True)
        m.d.comb += [
            read_port.addr.eq(self.read_address),
            read_port.en.eq(self.read_enable),
            self.read_data.eq(output),
            write_port.en.eq(self.write_enable),
            write_port.addr.eq(self.write_address),
            write_port.data.eq(self.write_data),
        ]
        with m.If(self.output_enable):
            m.d.sync += output.eq(read_port.data)
        return m
