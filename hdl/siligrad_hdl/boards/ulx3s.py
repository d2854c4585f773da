"""Radiona ULX3S, with each of its FPGAs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from siligrad.isa import Geometry
from siligrad_hdl.boards.board import Board
from siligrad_hdl.boards.clock import ClockSource
from siligrad_hdl.vendor import ECP5

__all__ = ["ULX3S"]


def _platform(size: str) -> Callable[[], Any]:
    def make() -> Any:
        from amaranth_boards import ulx3s  # noqa: PLC0415  optional

        return getattr(ulx3s, f"ULX3S_{size}_Platform")()

    return make


def _board(size: str, geometry: Geometry, luts: int, multipliers: int, blocks: int) -> Board:
    return Board(
        name=f"ulx3s-{size.lower()}",
        title=f"ULX3S {size}",
        device=f"LFE5U-{size}-6BG381",
        technology=ECP5,
        platform=_platform(size),
        clock_source=ClockSource.ECP5,
        source_mhz=25,
        clock_mhz=100,
        geometry=geometry,
        luts=luts,
        multipliers=multipliers,
        blocks=blocks,
        serial="USB (port US1)",
        programmers=(("openFPGALoader", "-b", "ulx3s", "-m", "{}"),),
        led=("led",),
    )


_SMALL = Geometry(array=4)

ULX3S = (
    _board("12F", _SMALL, 12096, 28, 32),
    _board("25F", Geometry(array=4, x_depth=2048, w_depth=2048), 24288, 28, 56),
    _board("45F", Geometry(array=4, x_depth=4096, w_depth=8192, e_depth=2048), 43848, 72, 108),
    _board("85F", Geometry(array=8, x_depth=4096, w_depth=8192, e_depth=4096), 83640, 156, 208),
)
