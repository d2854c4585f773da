"""Primitives of the iCE40.

After Lattice Semiconductor, *iCE40 Technology Library* (FPGA-TN-02026), sections SB_RAM40_4K and
SB_MAC16, and *DSP Function Usage Guide for iCE40 Devices* (FPGA-TN-02007).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["LogicMultiplier", "Mac16Multiplier", "Ram40Memory", "ram40_blocks"]

_BLOCK_BITS = 4096
_DEPTH_MAX = 2048

# Inputs of SB_MAC16 that a plain product leaves low.
_UNUSED = (
    *("AHOLD", "BHOLD", "CHOLD", "DHOLD", "OHOLDTOP", "OHOLDBOT"),
    *("IRSTTOP", "IRSTBOT", "ORSTTOP", "ORSTBOT", "OLOADTOP", "OLOADBOT"),
    *("ADDSUBTOP", "ADDSUBBOT", "CI", "ACCUMCI", "SIGNEXTIN"),
)


def _mode(depth: int) -> int:
    """Return the mode of blocks for `depth` words: 0 to 3 for 256, 512, 1024, 2048 of them."""
    if depth > _DEPTH_MAX:
        raise ValueError(f"depth must be at most {_DEPTH_MAX} on iCE40, not {depth}")
    return max((depth - 1).bit_length() - 8, 0)


def ram40_blocks(width: int, depth: int) -> int:
    """Return how many SB_RAM40_4K a memory of `depth` words of `width` bits takes.

    Raises
    ------
    ValueError
        If `depth` is more than a block has words.
    """
    return -(-width // (16 >> _mode(depth)))


class Ram40Memory(wiring.Component):
    """:class:`~siligrad_hdl.block_memory.BlockMemory` of SB_RAM40_4K side by side.

    The block has one register on the way of what is read: the last one. That before it is made of
    logic cells; it holds the address and not the word, which has more bits. So a word is read in
    the cycle in which it is taken over. Of one that is written then, nothing is known, as the
    block's document has it.

    Parameters
    ----------
    width : :class:`int`
        Bits of a word.
    depth : :class:`int`
        Words, at most 2048.
    init : sequence of :class:`int`
        Initial words, modulo ``2 ** width``; zero where there are none.

    Members
    -------
    read_address, read_enable, output_enable, read_data, write_enable, write_address, write_data
        As of the block memory; words have no sign.
    """

    def __init__(self, *, width: int, depth: int, init: Sequence[int] = ()) -> None:
        self.width = width
        self.depth = depth
        self.init = [word % (1 << width) for word in init]
        self._mode = _mode(depth)
        super().__init__({
            "read_address": In(range(depth)),
            "read_enable": In(1),
            "output_enable": In(1),
            "read_data": Out(width),
            "write_enable": In(1),
            "write_address": In(range(depth)),
            "write_data": In(width),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        slice_bits = 16 >> self._mode
        read = Signal(self.width)
        address = Signal.like(self.read_address, reset_less=True)
        with m.If(self.read_enable):
            m.d.sync += address.eq(self.read_address)
        m.d.comb += self.read_data.eq(read)
        for low in range(0, self.width, slice_bits):
            bits = min(slice_bits, self.width - low)
            word, answer = Signal(16), Signal(16)
            for bit in range(bits):
                m.d.comb += [
                    word[self._pin(bit)].eq(self.write_data[low + bit]),
                    read[low + bit].eq(answer[self._pin(bit)]),
                ]
            m.submodules[f"block_{low}"] = Instance(
                "SB_RAM40_4K",
                p_READ_MODE=self._mode,
                p_WRITE_MODE=self._mode,
                **self._contents(low, bits),
                i_RCLK=ClockSignal(),
                i_RCLKE=Const(1),
                i_RE=self.output_enable,
                i_RADDR=Cat(address, Const(0, 11 - len(address))),
                o_RDATA=answer,
                i_WCLK=ClockSignal(),
                i_WCLKE=Const(1),
                i_WE=self.write_enable,
                i_WADDR=Cat(self.write_address, Const(0, 11 - len(self.write_address))),
                i_MASK=Const(0, 16),
                i_WDATA=word,
            )
        return m

    def _pin(self, bit: int) -> int:
        """Return the data pin of bit `bit` of a word.

        Those in use are, by mode, all of them, the even ones, 1, 5, 9 and 13, and 3 and 11.
        """
        return (bit << self._mode) + max((1 << self._mode >> 1) - 1, 0)

    def _contents(self, low: int, bits: int) -> dict[str, Const]:
        """Return the parameters INIT_0 to INIT_F of the block of `bits` bits from `low` on.

        A block is 256 rows of 16 bits. Word `a` lies in row ``a mod 256``, bit by bit between the
        bits of the other words there, as far up as the upper bits of `a` say.
        """
        rows = [0] * 256
        for address, value in enumerate(self.init):
            for bit in range(bits):
                if value >> (low + bit) & 1:
                    rows[address % 256] |= 1 << ((bit << self._mode) + (address >> 8))
        return {
            f"p_INIT_{part:X}": Const(
                sum(rows[16 * part + row] << (16 * row) for row in range(16)), 256
            )
            for part in range(16)
        }


class Mac16Multiplier(wiring.Component):
    """:class:`~siligrad_hdl.multiplier.Multiplier` as one SB_MAC16 with all of its registers.

    The block does not give its operands' registers out, so they are made of logic cells once more.

    Parameters
    ----------
    operand_bits : :class:`int`
        Width of each operand, at most 16.

    Members
    -------
    a, b, a_registered, b_registered, product
        As of the multiplier.
    """

    def __init__(self, *, operand_bits: int) -> None:
        if operand_bits > 16:
            raise ValueError(f"operand_bits must be at most 16 on iCE40, not {operand_bits}")
        self.operand_bits = operand_bits
        super().__init__({
            "a": In(signed(operand_bits)),
            "b": In(signed(operand_bits)),
            "a_registered": Out(signed(operand_bits)),
            "b_registered": Out(signed(operand_bits)),
            "product": Out(signed(2 * operand_bits)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        wide_a, wide_b = Signal(signed(16)), Signal(signed(16))
        product = Signal(signed(32))
        operand_a = Signal(signed(self.operand_bits), reset_less=True)
        operand_b = Signal(signed(self.operand_bits), reset_less=True)
        m.d.sync += [operand_a.eq(self.a), operand_b.eq(self.b)]
        m.d.comb += [
            wide_a.eq(self.a),
            wide_b.eq(self.b),
            self.a_registered.eq(operand_a),
            self.b_registered.eq(operand_b),
            self.product.eq(product),
        ]
        m.submodules.block = Instance(
            "SB_MAC16",
            p_A_SIGNED=Const(1, 1),
            p_B_SIGNED=Const(1, 1),
            # Operands, the four products of bytes, and their sum.
            p_A_REG=Const(1, 1),
            p_B_REG=Const(1, 1),
            p_TOP_8x8_MULT_REG=Const(1, 1),
            p_BOT_8x8_MULT_REG=Const(1, 1),
            p_PIPELINE_16x16_MULT_REG1=Const(1, 1),
            p_PIPELINE_16x16_MULT_REG2=Const(1, 1),
            # Out comes the product, not the accumulator.
            p_TOPOUTPUT_SELECT=Const(3, 2),
            p_BOTOUTPUT_SELECT=Const(3, 2),
            i_CLK=ClockSignal(),
            i_CE=Const(1),
            i_A=wide_a,
            i_B=wide_b,
            i_C=Const(0, 16),
            i_D=Const(0, 16),
            **{f"i_{name}": Const(0) for name in _UNUSED},
            o_O=product,
        )
        return m


class LogicMultiplier(wiring.Component):
    """:class:`~siligrad_hdl.multiplier.Multiplier` of logic cells, for an iCE40 without SB_MAC16.

    The schoolbook's sum, a row of cells for each digit of ``b`` from the lowest on, and a register
    halfway. The carry of a logic cell is that of two of its inputs; the lookup table has one more,
    by which it puts out their sum or one of the two as it is: so a row adds ``a`` or leaves it, and
    no gate lies before it.

    The rows behind the register need the operands of the cycle before. Those are in the neighbours
    to the east and the south, if there are any, and synthesis keeps only one of two registers with
    the same inputs.

    Of 8 bits it takes 71 lookup tables, where synthesis finds a product of 176.

    Parameters
    ----------
    operand_bits : :class:`int`
        Width of each operand, at least 2.

    Members
    -------
    a, b, a_registered, b_registered, product
        As of the multiplier.
    """

    def __init__(self, *, operand_bits: int) -> None:
        self.operand_bits = operand_bits
        super().__init__({
            "a": In(signed(operand_bits)),
            "b": In(signed(operand_bits)),
            "a_registered": Out(signed(operand_bits)),
            "b_registered": Out(signed(operand_bits)),
            "product": Out(signed(2 * operand_bits)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = self.operand_bits
        half = bits // 2
        operand_a = Signal(signed(bits), reset_less=True)
        operand_b = Signal(signed(bits), reset_less=True)
        before_a = Signal(signed(bits), reset_less=True)
        before_b = Signal(signed(bits), reset_less=True)
        middle = Signal(bits + half, reset_less=True)
        output = Signal(2 * bits, reset_less=True)

        lowest = Mux(operand_b[0], operand_a, 0)
        total = Cat(lowest, lowest[-1]) ^ _flips(bits, 0)
        for number in range(1, half):
            last = number == half - 1
            total = _row(m, total, operand_a, operand_b[number], number, last=last)
        m.d.sync += middle.eq(total)
        total = middle
        for number in range(half, bits):
            last = number == bits - 1
            total = _row(m, total, before_a, before_b[number], number, last=last)
        m.d.sync += [
            operand_a.eq(self.a),
            operand_b.eq(self.b),
            before_a.eq(operand_a),
            before_b.eq(operand_b),
            output.eq(total),
        ]
        m.d.comb += [
            self.a_registered.eq(operand_a),
            self.b_registered.eq(operand_b),
            self.product.eq(output),
        ]
        return m


def _flips(bits: int, number: int) -> int:
    """Return which bits of row `number` come out as their complement.

    The last digit is the sign and counts against the others: ``rest - a`` is ``~(~rest + a)``, and
    the row before can as well put out ``~rest``, of which its lowest bit is no part.
    """
    every = (1 << bits + 1) - 1
    return {bits - 1: every, bits - 2: every - 1}.get(number, 0)


def _row(m: Module, total: Value, a: Value, digit: Value, number: int, *, last: bool) -> Value:
    """Return `total` with `a` times a digit added, `number` places up, in a row of logic cells.

    The last row before a register has a cell of its own for the sign, the others a lookup table
    behind the row, so that a row of 8 bits is the 8 cells of a tile.
    """
    bits = len(a)
    rest, flips = total[number:], _flips(bits, number)
    size = bits + 1 if last else bits
    result = Signal(size, name=f"row_{number}")
    carries = Signal(size, name=f"carries_{number}")
    for place in range(size):
        one, other = rest[min(place, bits - 1)], a[min(place, bits - 1)]
        table = [
            (i1 ^ i2 ^ i3 if i0 else i1) ^ (flips >> place & 1)
            for i3, i2, i1, i0 in itertools.product((0, 1), repeat=4)
        ]
        m.submodules[f"table_{number}_{place}"] = Instance(
            "SB_LUT4",
            p_LUT_INIT=Const(sum(value << index for index, value in enumerate(table)), 16),
            i_I0=digit,
            i_I1=one,
            i_I2=other,
            i_I3=carries[place],
            o_O=result[place],
        )
        if place + 1 < size:
            m.submodules[f"carry_{number}_{place}"] = Instance(
                "SB_CARRY", i_I0=one, i_I1=other, i_CI=carries[place], o_CO=carries[place + 1]
            )
    if last:
        return Cat(total[:number], result)
    # Addends of one sign give it to their sum; that of others is not too long for its own. What
    # nothing is added to has its sign in either.
    sign = Mux(rest[-1] == a[-1], rest[-1] ^ (flips >> bits & 1), result[-1])
    return Cat(total[:number], result, sign)
