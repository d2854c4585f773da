"""ColorLight 5A-75B, version 7.0."""

from __future__ import annotations

from typing import Any

from siligrad.isa import Geometry
from siligrad_hdl.boards.board import Board
from siligrad_hdl.boards.clock import ClockSource
from siligrad_hdl.vendor import ECP5

__all__ = ["COLORLIGHT"]


def _platform() -> Any:
    from amaranth_boards.colorlight_5a75b_r7_0 import (  # noqa: PLC0415  optional
        Colorlight_5A75B_R70Platform,
    )

    return Colorlight_5A75B_R70Platform()


COLORLIGHT = Board(
    name="colorlight-5a-75b",
    title="ColorLight 5A-75B",
    device="LFE5U-25F-6BG256",
    technology=ECP5,
    platform=_platform,
    clock_source=ClockSource.ECP5,
    source_mhz=25,
    clock_mhz=100,
    geometry=Geometry(array=4, x_depth=2048, w_depth=2048),
    luts=24288,
    multipliers=28,
    blocks=56,
    # The line takes the only LED.
    serial="header J19: KEY+ (to the board) and DATA_LED- (from it), 3.3 V",
    programmers=(("openFPGALoader", "-c", "ft232", "-m", "{}"),),
)
