"""Primitives of the ECP5.

After Lattice Semiconductor, *ECP5 and ECP5-5G Memory Usage Guide* (TN1264, later FPGA-TN-02204) and
*ECP5 and ECP5-5G sysDSP Usage Guide* (TN1267, later FPGA-TN-02205).
"""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import ClockSignal, Const, Instance, Signal, Value

from siligrad_hdl.vendor.block_16k import Block16Memory
from siligrad_hdl.vendor.block_18x18 import Block18Multiplier

__all__ = ["Dp16Memory", "Mult18Multiplier"]

_INITIAL_BYTES = 32  # of 9 bits, in each of the parameters INITVAL_00 to INITVAL_3F


def _pins(prefix: str, value: Value, count: int) -> dict[str, Value]:
    """Return `count` ports, ``{prefix}0`` and on, with the bits of `value` and then zeros."""
    return {
        f"{prefix}{pin}": value[pin] if pin < len(value) else Const(0, 1) for pin in range(count)
    }


class Dp16Memory(Block16Memory):
    """:class:`~siligrad_hdl.block_memory.BlockMemory` of DP16KD side by side.

    They are written through port A and read through port B, whose output register is the memory's.
    """

    family = "ECP5"
    output_register = True

    def block(self, answer: Signal, data: Value, contents: Sequence[int]) -> Instance:
        """Return a DP16KD: the pins below an address of 18 bits enable its bytes."""
        return Instance(
            "DP16KD",
            p_DATA_WIDTH_A=self.block_bits,
            p_DATA_WIDTH_B=self.block_bits,
            p_REGMODE_A="NOREG",
            p_REGMODE_B="OUTREG",
            p_WRITEMODE_A="NORMAL",
            p_WRITEMODE_B="NORMAL",
            p_CSDECODE_A="0b000",
            p_CSDECODE_B="0b000",
            p_RESETMODE="SYNC",
            p_GSR="DISABLED",
            **{
                f"p_INITVAL_{part:02X}": self._initial(contents, _INITIAL_BYTES * part)
                for part in range(len(contents) // _INITIAL_BYTES)
            },
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
            **_pins("i_ADA", self._address(self.write_address), 14),
            **_pins("i_ADB", self._address(self.read_address), 14),
            **_pins("i_DIA", data, 18),
            **_pins("i_DIB", Const(0, 18), 18),
            **{f"o_DOB{pin}": answer[pin] for pin in range(len(answer))},
        )

    def _address(self, address: Value) -> Value:
        return self.address(address, -1 if self.block_bits == 18 else 0)

    @staticmethod
    def _initial(contents: Sequence[int], first: int) -> Const:
        """Return a parameter: words of 18 bits, 20 bits apart."""
        value = 0
        for i in range(0, _INITIAL_BYTES, 2):
            low, high = contents[first + i : first + i + 2]
            value |= (low | high << 9) << 10 * i
        return Const(value, 320)


class Mult18Multiplier(Block18Multiplier):
    """:class:`~siligrad_hdl.multiplier.Multiplier` as one MULT18X18D."""

    family = "ECP5"
    pipeline_register = True

    def block(self, a: Signal, b: Signal, product: Signal) -> Instance:
        """Return a MULT18X18D."""
        registers = ("INPUTA", "INPUTB", "PIPELINE", "OUTPUT")
        return Instance(
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
            **_pins("i_A", a, 18),
            **_pins("i_B", b, 18),
            **_pins("i_C", Const(0, 18), 18),
            **{f"o_P{pin}": product[pin] for pin in range(36)},
        )
