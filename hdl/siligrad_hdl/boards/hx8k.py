"""Lattice iCE40-HX8K-B-EVN."""

from __future__ import annotations

from typing import Any

from siligrad.isa import Geometry
from siligrad_hdl.boards.board import Board
from siligrad_hdl.boards.clock import ClockSource
from siligrad_hdl.vendor import ICE40

__all__ = ["HX8K"]


def _platform() -> Any:
    from amaranth_boards.ice40_hx8k_b_evn import ICE40HX8KBEVNPlatform  # noqa: PLC0415  optional

    return ICE40HX8KBEVNPlatform()


HX8K = Board(
    name="hx8k",
    title="iCE40-HX8K-B-EVN",
    device="iCE40HX8K-CT256",
    technology=ICE40,
    platform=_platform,
    clock_source=ClockSource.ICE40_CORE,
    source_mhz=12,
    clock_mhz=48,
    # Operands of 8 bits, whose products take few lookup tables.
    geometry=Geometry(
        array=2,
        operand_bits=8,
        sum_bits=32,
        x_depth=256,
        w_depth=256,
        e_depth=256,
        program_depth=256,
    ),
    # All that logic cells hold.
    others=(
        Geometry(
            array=4,
            operand_bits=8,
            word_bits=8,
            sum_bits=20,
            x_depth=64,
            w_depth=64,
            e_depth=64,
            program_depth=64,
        ),
    ),
    luts=7680,
    multipliers=0,
    blocks=32,
    serial="USB (the second port of the FTDI chip)",
    programmers=(("iceprog", "-S", "{}"), ("openFPGALoader", "-b", "ice40_generic", "{}")),
    led=("led",),
)
