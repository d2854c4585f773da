"""What is built for a board: clock, link and accelerator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import ClockDomain, Elaboratable, Module, Value
from amaranth.lib import io, wiring

from siligrad.baked import Baked
from siligrad.isa import Geometry
from siligrad_hdl.accelerator import Accelerator
from siligrad_hdl.boards.board import Board
from siligrad_hdl.boards.clock import ClockGenerator, ClockSetting
from siligrad_hdl.link import SerialLink
from siligrad_hdl.link.uart import bit_cycles

__all__ = ["BAUDS", "BoardTop", "BoardWires", "baud_of"]

BAUDS = (1_000_000, 921_600, 500_000, 460_800, 230_400, 115_200)
"""Rates of the link, the first of which a clock divides to is taken."""


def baud_of(clock_mhz: float) -> int:
    """Return the rate of the link of an accelerator at a clock.

    Raises
    ------
    ValueError
        If the clock does not divide to any of :data:`BAUDS`.
    """
    for baud in BAUDS:
        try:
            bit_cycles(clock_mhz * 1e6, baud)
        except ValueError:
            continue
        return baud
    raise ValueError(
        f"no rate of the link, {BAUDS[-1]} to {BAUDS[0]} baud, divides {clock_mhz:g} MHz"
    )


@dataclass(frozen=True, slots=True)
class BoardWires:
    """What goes to the pins of a board.

    Parameters
    ----------
    rx, tx
        The serial line.
    led
        The LED, if there is one.
    """

    rx: Value
    tx: Value
    led: Value


class BoardTop(Elaboratable):
    """The accelerator on a board, behind its serial line, its LED on while a program runs.

    Parameters
    ----------
    board : :class:`~siligrad_hdl.boards.board.Board`
        For which board.
    geometry : :class:`siligrad.isa.Geometry`
        What to build.
    clock : :class:`~siligrad_hdl.boards.clock.ClockSetting`
        Its clock.
    baked : :class:`siligrad.baked.Baked`
        What memories and registers are configured with; None for memories of zeros.
    locked : :class:`bool`
        Keep the host from the program and from W.
    """

    def __init__(
        self,
        board: Board,
        geometry: Geometry,
        clock: ClockSetting,
        *,
        baked: Baked | None = None,
        locked: bool = False,
    ) -> None:
        self.board = board
        self.geometry = geometry
        self.clock = clock
        self.baked = baked
        self.locked = locked

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        if self.clock.source is not None:
            m.domains.sync = ClockDomain()
            m.submodules.clock = ClockGenerator(self.clock)
        bit = bit_cycles(self.clock.mhz * 1e6, baud_of(self.clock.mhz))
        wires = self.core(m, bit)
        uart = platform.request("uart", 0, dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.d.comb += [wires.rx.eq(rx.i), tx.o.eq(wires.tx)]
        if self.board.led:
            name, *member = self.board.led
            port = platform.request(name, 0, dir="-")
            for part in member:
                port = getattr(port, part)
            m.submodules.led = led = io.Buffer("o", port)
            m.d.comb += led.o.eq(wires.led)
        return m

    def core(self, m: Module, bit: int) -> BoardWires:
        """Add to `m` what is not about the board, with `bit` cycles a bit, and return its wires."""
        m.submodules.link = link = SerialLink(bit_cycles=bit)
        m.submodules.accelerator = accelerator = Accelerator(
            self.geometry, baked=self.baked, locked=self.locked
        )
        wiring.connect(m, link.host, accelerator.host)
        return BoardWires(link.rx, link.tx, accelerator.busy)
