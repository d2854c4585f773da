"""OrangeCrab r0.2."""

from __future__ import annotations

from typing import Any

from siligrad.isa import Geometry
from siligrad_hdl.boards.board import Board
from siligrad_hdl.boards.clock import ClockSource
from siligrad_hdl.vendor import ECP5

__all__ = ["ORANGECRAB"]


def _platform() -> Any:
    from amaranth.build import Attrs  # noqa: PLC0415  with what follows
    from amaranth_boards.orangecrab_r0_2 import OrangeCrabR0_2Platform  # noqa: PLC0415  optional
    from amaranth_boards.resources import UARTResource  # noqa: PLC0415  optional

    platform = OrangeCrabR0_2Platform()
    platform.add_resources([
        UARTResource(0, rx="0", tx="1", conn=("io", 0), attrs=Attrs(IO_TYPE="LVCMOS33"))
    ])
    return platform


ORANGECRAB = Board(
    name="orangecrab",
    title="OrangeCrab r0.2",
    device="LFE5U-25F-8MG285",
    technology=ECP5,
    platform=_platform,
    clock_source=ClockSource.ECP5,
    source_mhz=48,
    clock_mhz=96,
    geometry=Geometry(array=4, x_depth=2048, w_depth=2048),
    luts=24288,
    multipliers=28,
    blocks=56,
    serial="pins 0 (to the board) and 1 (from it) of the header, 3.3 V",
    programmers=(("dfu-util", "-a", "0", "-D", "{}"),),
    led=("rgb_led", "g"),
)
