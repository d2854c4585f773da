"""What the block RAMs of ECP5, Nexus and Gowin have in common: 16 Kibit, in bytes of nine bits."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from amaranth.hdl import Cat, Const, Instance, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Block16Memory"]

_SHAPES = ((1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
"""Words of a block, and their bits, by depth."""

_ADDRESS_PINS = 14  # of single bits; wider words have theirs above it
_BYTES = 2048


class Block16Memory(wiring.Component):
    """:class:`~siligrad_hdl.block_memory.BlockMemory` of blocks of 16 Kibit side by side.

    What a family calls its blocks, and how it wants them, says a class derived from this one. Of a
    word that is read while it is written, nothing is known.

    Parameters
    ----------
    width : :class:`int`
        Bits of a word.
    depth : :class:`int`
        Words, at most 16384.
    init : sequence of :class:`int`
        Initial words, modulo ``2 ** width``; zero where there are none.

    Members
    -------
    read_address, read_enable, output_enable, read_data, write_enable, write_address, write_data
        As of the block memory; words have no sign.

    Attributes
    ----------
    family : :class:`str`
        What messages call the family.
    output_register : :class:`bool`
        Whether the output register is in the block; else it is made of flip-flops.
    block_bits : :class:`int`
        Bits of a word that a block holds.

    Raises
    ------
    ValueError
        If `depth` is more than a block has words.
    """

    family: ClassVar[str]
    output_register: ClassVar[bool]

    def __init__(self, *, width: int, depth: int, init: Sequence[int] = ()) -> None:
        self.width = width
        self.depth = depth
        self.init = [word % (1 << width) for word in init]
        self.block_bits = self._shape(depth)
        super().__init__({
            "read_address": In(range(depth)),
            "read_enable": In(1),
            "output_enable": In(1),
            "read_data": Out(width),
            "write_enable": In(1),
            "write_address": In(range(depth)),
            "write_data": In(width),
        })

    @classmethod
    def blocks(cls, width: int, depth: int) -> int:
        """Return how many blocks a memory of `depth` words of `width` bits takes.

        Raises
        ------
        ValueError
            If `depth` is more than a block has words.
        """
        return -(-width // cls._shape(depth))

    @classmethod
    def _shape(cls, depth: int) -> int:
        for words, bits in _SHAPES:
            if depth <= words:
                return bits
        raise ValueError(f"depth must be at most {_SHAPES[-1][0]} on {cls.family}, not {depth}")

    def elaborate(self, platform: object) -> Module:
        m = Module()
        read = Signal(self.width)
        if self.output_register:
            m.d.comb += self.read_data.eq(read)
        else:
            output = Signal(self.width, reset_less=True)
            with m.If(self.output_enable):
                m.d.sync += output.eq(read)
            m.d.comb += self.read_data.eq(output)
        for low in range(0, self.width, self.block_bits):
            bits = min(self.block_bits, self.width - low)
            answer = Signal(bits, name=f"answer_{low}")
            m.d.comb += read[low : low + bits].eq(answer)
            m.submodules[f"block_{low}"] = self.block(
                answer, self.write_data[low : low + bits], self._contents(low, bits)
            )
        return m

    @abstractmethod
    def block(self, answer: Signal, data: Value, contents: Sequence[int]) -> Instance:
        """Return a block.

        Parameters
        ----------
        answer
            What it reads, of at most :attr:`block_bits` bits.
        data
            What to write, as many bits.
        contents
            What it holds at first: 2048 bytes of nine bits. Words of 18 bits are two of them, the
            lower one first; narrower words lie in a byte one above the other, and of those of 4, 2
            and 1 bits the ninth bit has none.
        """

    def address(self, address: Value, below: int) -> Value:
        """Return the 14 pins of an address, with `below` on those that wide words leave over."""
        spare = {18: 4, 9: 3, 4: 2, 2: 1, 1: 0}[self.block_bits]
        pins = Cat(Const(below % (1 << spare), spare), address)
        return Cat(pins, Const(0, _ADDRESS_PINS - len(pins)))

    def _contents(self, low: int, bits: int) -> list[int]:
        """Return the contents of the block of `bits` bits from `low` on."""
        contents = [0] * _BYTES
        for address, word in enumerate(self.init):
            value = word >> low & (1 << bits) - 1
            if self.block_bits == 18:
                contents[2 * address : 2 * address + 2] = value & 0x1FF, value >> 9
            else:
                per_byte = 8 // min(self.block_bits, 8)
                byte, place = divmod(address, per_byte)
                contents[byte] |= value << place * self.block_bits
        return contents
