"""tinyVision UPduino v3."""

from __future__ import annotations

from typing import Any

from siligrad_hdl.boards.board import Board
from siligrad_hdl.boards.clock import ClockSource
from siligrad_hdl.boards.icebreaker import ICEBREAKER
from siligrad_hdl.vendor import ICE40_ULTRA_PLUS

__all__ = ["UPDUINO"]


def _platform() -> Any:
    from amaranth.build import Attrs  # noqa: PLC0415  with what follows
    from amaranth_boards.resources import UARTResource  # noqa: PLC0415  optional
    from amaranth_boards.upduino_v3 import UpduinoV3Platform  # noqa: PLC0415  optional

    platform = UpduinoV3Platform()
    platform.add_resources([
        UARTResource(0, rx="28", tx="38", attrs=Attrs(IO_STANDARD="SB_LVCMOS", PULLUP=1))
    ])
    return platform


UPDUINO = Board(
    name="upduino",
    title="UPduino v3",
    device="iCE40UP5K-SG48",
    technology=ICE40_ULTRA_PLUS,
    platform=_platform,
    clock_source=ClockSource.ICE40_OSCILLATOR,
    source_mhz=48,
    clock_mhz=24,
    geometry=ICEBREAKER.geometry,
    luts=5280,
    multipliers=8,
    blocks=30,
    serial="pins gpio_28 (to the board) and gpio_38 (from it), 3.3 V",
    programmers=(("iceprog", "{}"), ("openFPGALoader", "-b", "upduino", "{}")),
    led=("rgb_led", "g"),
)
