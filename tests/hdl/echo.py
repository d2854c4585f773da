"""A small design that is built in the accelerator's place."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import ClockDomain, Elaboratable, Module, Signal
from amaranth.lib import io

from siligrad_hdl.block_memory import BlockMemory
from siligrad_hdl.boards import Board
from siligrad_hdl.boards.clock import ClockGenerator, ClockSetting
from siligrad_hdl.multiplier import Multiplier

__all__ = ["Echo"]


class Echo(Elaboratable):  # type: ignore[misc]  # Amaranth has no types
    """Sends back a bit of what it receives, after a memory and a multiplier."""

    def __init__(self, board: Board, geometry: object, clock: ClockSetting, **rest: object) -> None:
        self.clock = clock

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        if self.clock.source is not None:
            m.domains.sync = ClockDomain()
            m.submodules.clock = ClockGenerator(self.clock)
        uart = platform.request("uart", 0, dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.submodules.memory = memory = BlockMemory(shape=16, depth=256)
        m.submodules.multiplier = multiplier = Multiplier(operand_bits=16)
        bits = Signal(32)
        m.d.sync += bits.eq((bits << 1) | ~rx.i)
        m.d.comb += [
            *(memory.write_address.eq(bits), memory.write_data.eq(bits >> 8)),
            *(memory.write_enable.eq(bits[7]), memory.read_address.eq(bits >> 24)),
            *(multiplier.a.eq(memory.read_data), multiplier.b.eq(bits)),
            tx.o.eq(multiplier.product.xor()),
        ]
        return m
