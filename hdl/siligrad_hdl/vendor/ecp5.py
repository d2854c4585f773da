"""Primitives of the ECP5.

After Lattice Semiconductor, *ECP5 and ECP5-5G Memory Usage Guide* (TN1264, later FPGA-TN-02204) and
*ECP5 and ECP5-5G sysDSP Usage Guide* (TN1267, later FPGA-TN-02205).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import ClockSignal, Const, Instance, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Dp16Memory", "Mult18Multiplier", "dp16_blocks"]

_SHAPES = ((1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
"""Words of a block, and their bits, by depth."""

_ADDRESS_PINS = 14
_INITIAL_WORDS = 16  # of 18 bits, in each of the parameters INITVAL_00 to INITVAL_3F


def _shape(depth: int) -> tuple[int, int]:
    for words, bits in _SHAPES:
        if depth <= words:
            return words, bits
    raise ValueError(f"depth must be at most {_SHAPES[-1][0]} on ECP5, not {depth}")


def dp16_blocks(width: int, depth: int) -> int:
    """Return how many DP16KD a memory of `depth` words of `width` bits takes.

    Raises
    ------
    ValueError
        If `depth` is more than a block has words.
    """
    return -(-width // _shape(depth)[1])


def _pins(prefix: str, value: Value, count: int) -> dict[str, Value]:
    """Return `count` ports, ``{prefix}0`` and on, with the bits of `value` and then zeros."""
    return {
        f"{prefix}{pin}": value[pin] if pin < len(value) else Const(0, 1) for pin in range(count)
    }


class Dp16Memory(wiring.Component):
    """:class:`~siligrad_hdl.block_memory.BlockMemory` of DP16KD side by side.

    They are written through port A and read through port B, whose output register is the memory's.
    Of a word that is read while it is written, nothing is known.

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
    """

    def __init__(self, *, width: int, depth: int, init: Sequence[int] = ()) -> None:
        self.width = width
        self.depth = depth
        self.init = [word % (1 << width) for word in init]
        self._bits = _shape(depth)[1]
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
        for low in range(0, self.width, self._bits):
            bits = min(self._bits, self.width - low)
            answer = Signal(18, name=f"answer_{low}")
            m.d.comb += self.read_data[low : low + bits].eq(answer)
            m.submodules[f"block_{low}"] = Instance(
                "DP16KD",
                p_DATA_WIDTH_A=self._bits,
                p_DATA_WIDTH_B=self._bits,
                p_REGMODE_A="NOREG",
                p_REGMODE_B="OUTREG",
                p_WRITEMODE_A="NORMAL",
                p_WRITEMODE_B="NORMAL",
                p_CSDECODE_A="0b000",
                p_CSDECODE_B="0b000",
                p_RESETMODE="SYNC",
                p_GSR="DISABLED",
                **self._contents(low, bits),
                i_CLKA=ClockSignal(),
                i_CEA=Const(1),
                i_OCEA=Const(0),
                i_WEA=self.write_enable,
                i_RSTA=Const(0),
                i_CLKB=ClockSignal(),
                i_CEB=self.read_enable,
                i_OCEB=self.output_enable,
                i_WEB=Const(0),
                i_RSTB=Const(0),
                **_pins("i_CSA", Const(0, 3), 3),
                **_pins("i_CSB", Const(0, 3), 3),
                **self._address("i_ADA", self.write_address),
                **self._address("i_ADB", self.read_address),
                **_pins("i_DIA", self.write_data[low : low + bits], 18),
                **_pins("i_DIB", Const(0, 18), 18),
                **{f"o_DOB{pin}": answer[pin] for pin in range(18)},
            )
        return m

    def _address(self, prefix: str, address: Value) -> dict[str, Value]:
        """Return the pins of an address: those below it choose bytes of the widest words, both."""
        first = (self._bits - 1).bit_length() - (self._bits == 9) if self._bits < 18 else 4
        pins = {f"{prefix}{pin}": Const(int(self._bits == 18), 1) for pin in range(first)}
        used = _pins("", address, _ADDRESS_PINS - first)
        return pins | {f"{prefix}{first + int(pin)}": value for pin, value in used.items()}

    def _contents(self, low: int, bits: int) -> dict[str, Any]:
        """Return the parameters INITVAL_00 and on of the block of `bits` bits from `low` on.

        A block is 1024 words of two bytes of 9 bits; narrower words lie in a byte one above the
        other, and of those of 4, 2 and 1 bits the ninth bit of a byte has none.
        """
        words = [0] * 1024
        for address, value in enumerate(self.init):
            bit = address * self._bits
            if self._bits < 9:
                bit += address // (8 // self._bits)
            words[bit // 18] |= (value >> low & (1 << bits) - 1) << bit % 18
        return {
            f"p_INITVAL_{part:02X}": Const(
                sum(words[_INITIAL_WORDS * part + i] << 20 * i for i in range(_INITIAL_WORDS)), 320
            )
            for part in range(1024 // _INITIAL_WORDS)
        }


class Mult18Multiplier(wiring.Component):
    """:class:`~siligrad_hdl.multiplier.Multiplier` as one MULT18X18D with all of its registers.

    The operands' registers are made of flip-flops once more: wires between blocks are few and go
    to the next block only.

    Parameters
    ----------
    operand_bits : :class:`int`
        Width of each operand, at most 18.

    Members
    -------
    a, b, a_registered, b_registered, product
        As of the multiplier.
    """

    def __init__(self, *, operand_bits: int) -> None:
        if operand_bits > 18:
            raise ValueError(f"operand_bits must be at most 18 on ECP5, not {operand_bits}")
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
        wide_a, wide_b = Signal(signed(18)), Signal(signed(18))
        product = Signal(signed(36))
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
        registers = ("INPUTA", "INPUTB", "PIPELINE", "OUTPUT")
        m.submodules.block = Instance(
            "MULT18X18D",
            **{f"p_REG_{name}_CLK": "CLK0" for name in registers},
            **{f"p_REG_{name}_CE": "CE0" for name in registers},
            **{f"p_REG_{name}_RST": "RST0" for name in registers},
            p_SOURCEB_MODE="B_SHIFT",
            p_RESETMODE="SYNC",
            p_GSR="DISABLED",
            i_CLK0=ClockSignal(),
            i_CE0=Const(1),
            i_RST0=Const(0),
            i_SIGNEDA=Const(1),
            i_SIGNEDB=Const(1),
            i_SOURCEA=Const(0),
            i_SOURCEB=Const(0),
            **_pins("i_A", wide_a, 18),
            **_pins("i_B", wide_b, 18),
            **_pins("i_C", Const(0, 18), 18),
            **{f"o_P{pin}": product[pin] for pin in range(36)},
        )
        return m
