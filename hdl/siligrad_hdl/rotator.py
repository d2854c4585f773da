"""Rotation of lanes."""

from __future__ import annotations

from amaranth.hdl import Module, ShapeLike, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from siligrad_hdl.delay import delayed
from siligrad_hdl.multiplexer import multiplexer

__all__ = ["Rotator"]


class Rotator(wiring.Component):
    """Rotates N lanes by any amount, with a register every two levels of multiplexers.

    ``rotated[l] = data[(l + amount) mod N]``. A rotation by ``amount`` is one by ``amount mod 4``,
    then one by 4 for each four that are left, and so on, modulo N; that N is a power of two does
    not matter.

    Parameters
    ----------
    array : :class:`int`
        N, the number of lanes.
    shape : :class:`ShapeLike`
        What a lane carries.

    Members
    -------
    data : :py:`In(shape).array(array)`
        The lanes.
    amount : :py:`In(range(array))`
        How far to rotate the lanes of this cycle.
    rotated : :py:`Out(shape).array(array)`
        The rotated lanes, ``latency`` cycles later.

    Attributes
    ----------
    latency : :class:`int`
        Cycles from ``data`` to ``rotated``.
    """

    def __init__(self, *, array: int, shape: ShapeLike) -> None:
        self.array = array
        self.shape = shape
        self.latency = ((array - 1).bit_length() + 1) // 2
        super().__init__({
            "data": In(shape).array(array),
            "amount": In(range(array)),
            "rotated": Out(shape).array(array),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        n = self.array
        lanes: list[Value] = list(self.data)
        amount: Value = self.amount
        for rank in range(self.latency):
            registers = [
                Signal(self.shape, name=f"lanes_{rank}_{lane}", reset_less=True)
                for lane in range(n)
            ]
            unit = 4**rank  # what one more of the two lowest bits that are left is worth
            steps = min(4, -(-n // unit))
            for lane, register in enumerate(registers):
                choices = [lanes[(lane + step * unit) % n] for step in range(steps)]
                m.d.sync += register.eq(multiplexer(amount[:2], choices))
            lanes = list(registers)
            if rank + 1 < self.latency:
                amount = delayed(m, amount[2:], 1, name=f"amount_{rank}")
        m.d.comb += [out.eq(lane) for out, lane in zip(self.rotated, lanes, strict=True)]
        return m
