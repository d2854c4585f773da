"""Sipeed Tang Primer 20K, on its dock."""

from __future__ import annotations

from typing import Any

from siligrad.isa import Geometry
from siligrad_hdl.boards.board import Board
from siligrad_hdl.boards.clock import ClockSource
from siligrad_hdl.vendor import GOWIN

__all__ = ["TANG_PRIMER_20K"]


def _platform() -> Any:
    from amaranth_boards.tang_primer_20k import (  # noqa: PLC0415  optional
        TangPrimer20kDockPlatform,
    )

    return TangPrimer20kDockPlatform()


TANG_PRIMER_20K = Board(
    name="tang-primer-20k",
    title="Tang Primer 20K",
    device="GW2A-LV18PG256C8/I7",
    technology=GOWIN,
    platform=_platform,
    clock_source=ClockSource.GOWIN,
    source_mhz=27,
    clock_mhz=54,
    geometry=Geometry(array=4, x_depth=2048, w_depth=2048),
    luts=20736,
    multipliers=48,
    blocks=46,
    serial="USB of the dock (the second port of the BL616)",
    programmers=(("openFPGALoader", "-b", "tangprimer20k", "-m", "{}"),),
    led=("led",),
)
