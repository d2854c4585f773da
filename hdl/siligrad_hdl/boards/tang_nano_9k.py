"""Sipeed Tang Nano 9K."""

from __future__ import annotations

from typing import Any

from siligrad.isa import Geometry
from siligrad_hdl.boards.board import Board
from siligrad_hdl.boards.clock import ClockSource
from siligrad_hdl.vendor import GOWIN

__all__ = ["TANG_NANO_9K"]


def _platform() -> Any:
    from amaranth_boards.tang_nano_9k import TangNano9kPlatform  # noqa: PLC0415  optional

    return TangNano9kPlatform()


TANG_NANO_9K = Board(
    name="tang-nano-9k",
    title="Tang Nano 9K",
    device="GW1NR-LV9QN88PC6/I5",
    technology=GOWIN,
    platform=_platform,
    clock_source=ClockSource.GOWIN,
    source_mhz=27,
    clock_mhz=54,
    geometry=Geometry(array=2),
    luts=8640,
    multipliers=20,
    blocks=26,
    serial="USB (the second port of the BL702)",
    programmers=(("openFPGALoader", "-b", "tangnano9k", "-m", "{}"),),
    led=("led",),
)
