"""Lattice ECP5 Versa."""

from __future__ import annotations

from typing import Any

from siligrad.isa import Geometry
from siligrad_hdl.boards.board import Board
from siligrad_hdl.boards.clock import ClockSource
from siligrad_hdl.vendor import ECP5

__all__ = ["VERSA"]


def _platform() -> Any:
    from amaranth_boards.versa_ecp5 import VersaECP5Platform  # noqa: PLC0415  optional

    return VersaECP5Platform()


VERSA = Board(
    name="versa-ecp5",
    title="Versa ECP5",
    device="LFE5UM-45F-8BG381",
    technology=ECP5,
    platform=_platform,
    clock_source=ClockSource.ECP5,
    source_mhz=100,
    clock_mhz=100,
    geometry=Geometry(array=4, x_depth=4096, w_depth=8192, e_depth=2048),
    luts=43848,
    multipliers=72,
    blocks=108,
    serial="USB (the second port of the FTDI chip)",
    programmers=(("openFPGALoader", "-c", "ft2232", "-m", "{}"),),
    led=("led",),
)
