"""1BitSquared iCEBreaker."""

from __future__ import annotations

from typing import Any

from siligrad.isa import Geometry
from siligrad_hdl.boards.board import Board
from siligrad_hdl.boards.clock import ClockSource
from siligrad_hdl.vendor import ICE40_ULTRA_PLUS

__all__ = ["ICEBREAKER"]


def _platform() -> Any:
    from amaranth_boards.icebreaker import ICEBreakerPlatform  # noqa: PLC0415  optional

    return ICEBreakerPlatform()


ICEBREAKER = Board(
    name="icebreaker",
    title="iCEBreaker",
    device="iCE40UP5K-SG48",
    technology=ICE40_ULTRA_PLUS,
    platform=_platform,
    clock_source=ClockSource.ICE40_PAD,
    source_mhz=12,
    clock_mhz=24,
    # Words of 8 bits, short memories: of more, the logic cells do not hold the addresses.
    geometry=Geometry(
        array=2,
        operand_bits=8,
        word_bits=8,
        sum_bits=22,
        x_depth=64,
        w_depth=64,
        e_depth=64,
        program_depth=128,
    ),
    luts=5280,
    multipliers=8,
    blocks=30,
    serial="USB (the second port of the FTDI chip)",
    programmers=(("iceprog", "{}"), ("openFPGALoader", "-b", "ice40_generic", "{}")),
    led=("led_g",),
)
