"""Bytes on a wire: 8 bits, no parity, one stop bit."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

__all__ = ["UartReceiver", "UartTransmitter", "bit_cycles"]

_FRAME_BITS = 10
"""Start bit, eight bits of data from the lowest on, stop bit."""

_TOLERANCE = 0.02
"""Relative error of the rate at which the last bit is still sampled safely inside itself."""


def bit_cycles(clock_hz: float, baud: int) -> int:
    """Return the clock cycles of a bit.

    Raises
    ------
    ValueError
        If the clock cannot be divided to within 2 % of `baud`, or has fewer than four cycles a bit.
    """
    cycles = round(clock_hz / baud)
    if cycles < 4:
        raise ValueError(
            f"a bit at {baud} baud takes {clock_hz / baud:.2f} cycles of {clock_hz / 1e6:g} MHz; "
            f"at least 4 are needed: at most {int(clock_hz) // 4} baud"
        )
    error = abs(clock_hz / cycles / baud - 1)
    if error > _TOLERANCE:
        raise ValueError(
            f"{clock_hz / 1e6:g} MHz divided by {cycles} is {error:.1%} off {baud} baud; at most "
            f"{_TOLERANCE:.0%} is allowed: choose a rate that divides the clock"
        )
    return cycles


class UartReceiver(wiring.Component):
    """Receives bytes. One whose stop bit is not high is dropped.

    Parameters
    ----------
    bit_cycles : :class:`int`
        Clock cycles of a bit, at least four.

    Members
    -------
    wire : :py:`In(1)`
        The line, high when idle; not synchronous to anything.
    bytes : :py:`Out(stream.Signature(8, always_ready=True))`
        What was received.
    """

    def __init__(self, *, bit_cycles: int) -> None:
        self.bit_cycles = bit_cycles
        super().__init__({
            "wire": In(1, init=1),
            "bytes": Out(stream.Signature(8, always_ready=True)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        wire = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.wire, wire, init=1)

        bits = Signal(_FRAME_BITS - 1)  # the newest on top; the start bit is not kept
        left = Signal(range(_FRAME_BITS + 1))
        wait = Signal(range(-1, self.bit_cycles))  # cycles that are left, less one
        m.d.sync += self.bytes.valid.eq(0)
        m.d.comb += self.bytes.payload.eq(bits[:8])
        with m.If(left == 0):
            # Halfway into the start bit; from there on, every bit is looked at in its middle.
            m.d.sync += wait.eq(self.bit_cycles // 2 - 2)
            with m.If(~wire):
                m.d.sync += left.eq(_FRAME_BITS)
        with m.Elif(~wait[-1]):
            m.d.sync += wait.eq(wait - 1)
        with m.Else():
            m.d.sync += [
                wait.eq(self.bit_cycles - 2),
                left.eq(left - 1),
                bits.eq(Cat(bits[1:], wire)),
            ]
            with m.If((left == _FRAME_BITS) & wire):
                m.d.sync += left.eq(0)  # a disturbance, no start bit
            with m.If(left == 1):
                m.d.sync += self.bytes.valid.eq(wire)
        return m


class UartTransmitter(wiring.Component):
    """Sends bytes.

    Parameters
    ----------
    bit_cycles : :class:`int`
        Clock cycles of a bit.

    Members
    -------
    bytes : :py:`In(stream.Signature(8))`
        What to send.
    wire : :py:`Out(1, init=1)`
        The line.
    """

    def __init__(self, *, bit_cycles: int) -> None:
        self.bit_cycles = bit_cycles
        super().__init__({"bytes": In(stream.Signature(8)), "wire": Out(1, init=1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = Signal(_FRAME_BITS, init=-1)
        left = Signal(range(_FRAME_BITS + 1))
        wait = Signal(range(-1, self.bit_cycles))  # cycles that are left, less one
        m.d.comb += [self.bytes.ready.eq(left == 0), self.wire.eq(bits[0])]
        with m.If(left == 0), m.If(self.bytes.valid):
            m.d.sync += [
                bits.eq(Cat(Const(0, 1), self.bytes.payload, Const(1, 1))),
                left.eq(_FRAME_BITS),
                wait.eq(self.bit_cycles - 2),
            ]
        with m.Elif(~wait[-1]):
            m.d.sync += wait.eq(wait - 1)
        with m.Else():
            m.d.sync += [
                bits.eq(Cat(bits[1:], Const(1, 1))),
                left.eq(left - 1),
                wait.eq(self.bit_cycles - 2),
            ]
        return m
