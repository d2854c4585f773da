"""The multiplexers between the memories and what they feed."""

from __future__ import annotations

from enum import IntEnum

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from siligrad_hdl.multiplexer import multiplexer

__all__ = ["ASource", "OperandControl", "OperandSelect"]


class ASource(IntEnum):
    """Where an element of A comes from."""

    ZERO = 0
    X = 1
    E = 2
    ONE = 3


class OperandControl(data.StructLayout):
    """Where the operands of a cycle come from. Without a source they are zero.

    Members
    -------
    a : an :class:`ASource` for each lane
        Where an element of A comes from.
    one : :class:`operand_bits`
        The code of a one.
    b_w, b_e : :class:`1`
        B comes from W, from E.
    aux_x, aux_w : :class:`1`
        The auxiliary operand comes from X, from W; else from E.
    """

    def __init__(self, *, array: int, operand_bits: int) -> None:
        super().__init__({
            "a": data.ArrayLayout(2, array),
            "one": operand_bits,
            "b_w": 1,
            "b_e": 1,
            "aux_x": 1,
            "aux_w": 1,
        })


class OperandSelect(wiring.Component):
    """Chooses what the array and the epilogue are fed from what the three memories deliver.

    Where operands are narrower than words, it rounds a word to its top bits: section *Operands* of
    ``docs/spec/numerics.md``. Then a register holds the top bits of the word that was chosen and
    whether they are one too few, and the addition comes behind it: the array begins with a
    register.

    Parameters
    ----------
    array : :class:`int`
        N, the number of lanes.
    word_bits : :class:`int`
        Width of an element of a memory.
    operand_bits : :class:`int`
        Width of an operand of the array, at most that of a word.

    Members
    -------
    control : :py:`In(OperandControl)`
        What to choose in this cycle.
    x, w, e : :py:`In(signed(word_bits)).array(array)`
        What the memories deliver.
    a, b : :py:`Out(signed(operand_bits)).array(array)`
        Operands of the array, ``latency`` cycles later.
    aux : :py:`Out(signed(word_bits)).array(array)`
        Auxiliary operand of the epilogue, ``latency`` cycles later.

    Attributes
    ----------
    latency : :class:`int`
        Cycles from the memories' lanes to the operands.
    """

    latency = 1

    def __init__(self, *, array: int, word_bits: int, operand_bits: int) -> None:
        self.array = array
        self.word_bits = word_bits
        self.operand_bits = operand_bits
        words, operands = signed(word_bits), signed(operand_bits)
        super().__init__({
            "control": In(OperandControl(array=array, operand_bits=operand_bits)),
            "x": In(words).array(array),
            "w": In(words).array(array),
            "e": In(words).array(array),
            "a": Out(operands).array(array),
            "b": Out(operands).array(array),
            "aux": Out(words).array(array),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        control = self.control

        # A word that is one of the array's ones is that operand, followed by zeros.
        dropped = self.word_bits - self.operand_bits
        zero = Const(0, self.word_bits)
        one = Cat(Const(0, dropped), control.one)
        for lane in range(self.array):
            x, w, e = self.x[lane], self.w[lane], self.e[lane]
            a = multiplexer(control.a[lane], [zero, x, e, one])[: self.word_bits]
            b = (Mux(control.b_w, w, zero) | Mux(control.b_e, e, zero))[: self.word_bits]
            aux = Signal(signed(self.word_bits), name=f"aux_{lane}", reset_less=True)
            m.d.sync += aux.eq(Mux(control.aux_x, x, Mux(control.aux_w, w, e)))
            m.d.comb += [
                self.a[lane].eq(self._operand(m, a, f"a_{lane}")),
                self.b[lane].eq(self._operand(m, b, f"b_{lane}")),
                self.aux[lane].eq(aux),
            ]
        return m

    def _operand(self, m: Module, word: Value, name: str) -> Value:
        """Return the operand of `word`, behind the registers `name` and ``{name}_up``."""
        dropped = self.word_bits - self.operand_bits
        top = Signal(signed(self.operand_bits), name=name, reset_less=True)
        m.d.sync += top.eq(word[dropped:])
        if dropped == 0:
            return top
        # Up where what is dropped is a half or more, but not from the largest operand, and from
        # the one beyond the smallest in any case.
        up = Signal(name=f"{name}_up", reset_less=True)
        sign, rest = word[-1], word[dropped:-1]
        largest, beyond = ~sign & rest.all(), sign & ~rest.any()
        m.d.sync += up.eq((word[dropped - 1] & ~largest) | beyond)
        return (top + up)[: self.operand_bits].as_signed()
