"""The multiplexers between the memories and what they feed."""

from __future__ import annotations

from enum import IntEnum

from amaranth.hdl import Const, Module, Mux, Signal, signed
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

    Parameters
    ----------
    array : :class:`int`
        N, the number of lanes.
    operand_bits : :class:`int`
        Width of an element.

    Members
    -------
    control : :py:`In(OperandControl)`
        What to choose in this cycle.
    x, w, e : :py:`In(signed(operand_bits)).array(array)`
        What the memories deliver.
    a, b, aux : :py:`Out(signed(operand_bits)).array(array)`
        Operands of the array, and the auxiliary operand of the epilogue, ``latency`` cycles later.

    Attributes
    ----------
    latency : :class:`int`
        Cycles from the memories' lanes to the operands.
    """

    latency = 1

    def __init__(self, *, array: int, operand_bits: int) -> None:
        self.array = array
        self.operand_bits = operand_bits
        lanes = signed(operand_bits)
        super().__init__({
            "control": In(OperandControl(array=array, operand_bits=operand_bits)),
            "x": In(lanes).array(array),
            "w": In(lanes).array(array),
            "e": In(lanes).array(array),
            "a": Out(lanes).array(array),
            "b": Out(lanes).array(array),
            "aux": Out(lanes).array(array),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        control = self.control

        zero = Const(0, self.operand_bits)
        for lane in range(self.array):
            x, w, e = self.x[lane], self.w[lane], self.e[lane]
            a = Signal(signed(self.operand_bits), name=f"a_{lane}", reset_less=True)
            b = Signal(signed(self.operand_bits), name=f"b_{lane}", reset_less=True)
            aux = Signal(signed(self.operand_bits), name=f"aux_{lane}", reset_less=True)
            m.d.sync += [
                a.eq(multiplexer(control.a[lane], [zero, x, e, control.one])),
                b.eq(Mux(control.b_w, w, zero) | Mux(control.b_e, e, zero)),
                aux.eq(Mux(control.aux_x, x, Mux(control.aux_w, w, e))),
            ]
            m.d.comb += [self.a[lane].eq(a), self.b[lane].eq(b), self.aux[lane].eq(aux)]
        return m
