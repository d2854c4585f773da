"""The multiplexers between the memories and what they feed."""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["OperandControl", "OperandSelect"]


class OperandControl(data.StructLayout):
    """Where the operands of a cycle come from. With no source of A, or of B, its operands are zero.

    Members
    -------
    a_x, a_e, b_w, b_e : :class:`1`
        A comes from X, from E; B comes from W, from E.
    ones : :class:`operand_bits`
        The code of the ones that are fed as A: zero when they are not.
    ones_rows : :class:`array`
        Rows of the array that are fed ones.
    aux_x, aux_w : :class:`1`
        The auxiliary operand comes from X, from W; else from E.
    """

    def __init__(self, *, array: int, operand_bits: int) -> None:
        super().__init__({
            "a_x": 1,
            "a_e": 1,
            "b_w": 1,
            "b_e": 1,
            "ones": operand_bits,
            "ones_rows": array,
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

        def gated(value: Value, enable: Value) -> Value:
            return Mux(enable, value, Const(0, self.operand_bits))

        for lane in range(self.array):
            x, w, e = self.x[lane], self.w[lane], self.e[lane]
            a = Signal(signed(self.operand_bits), name=f"a_{lane}", reset_less=True)
            b = Signal(signed(self.operand_bits), name=f"b_{lane}", reset_less=True)
            aux = Signal(signed(self.operand_bits), name=f"aux_{lane}", reset_less=True)
            m.d.sync += [
                a.eq(
                    gated(x, control.a_x)
                    | gated(e, control.a_e)
                    | gated(control.ones, control.ones_rows[lane])
                ),
                b.eq(gated(w, control.b_w) | gated(e, control.b_e)),
                aux.eq(Mux(control.aux_x, x, Mux(control.aux_w, w, e))),
            ]
            m.d.comb += [self.a[lane].eq(a), self.b[lane].eq(b), self.aux[lane].eq(aux)]
        return m
