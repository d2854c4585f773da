"""Lattice CrossLink-NX VIP Sensor Input Board, with an LIFCL-40.

Amaranth's collection of boards has none of this family, so the platform is here too, with pins as
in LiteX's collection. Lattice's evaluation board (LIFCL-40-EVN) would be better known, but has no
clock for this: its 12 MHz are less than a PLL of a Nexus takes, and the device's own oscillator may
be 7 % off, more than a serial line takes.
"""

from __future__ import annotations

from typing import ClassVar

from amaranth.build import Attrs, Clock, Connector, Pins, Resource, Subsignal
from amaranth.vendor import LatticePlatform

from siligrad.isa import Geometry
from siligrad_hdl.boards.board import Board
from siligrad_hdl.boards.clock import ClockSource
from siligrad_hdl.vendor import NEXUS

__all__ = ["CROSSLINK_NX_VIP"]


class _CrosslinkNxVipPlatform(LatticePlatform):
    device = "LIFCL-40"
    package = "BG400"
    speed = "9"
    default_clk = "clk27"
    resources: ClassVar[list[Resource]] = [
        Resource("clk27", 0, Pins("L5", dir="i"), Clock(27e6), Attrs(IO_TYPE="LVCMOS18")),
        Resource(
            "uart",
            0,
            Subsignal("rx", Pins("D7", dir="i")),
            Subsignal("tx", Pins("D9", dir="o")),
            Attrs(IO_TYPE="LVCMOS33"),
        ),
        Resource("led", 0, Pins("G14", dir="o"), Attrs(IO_TYPE="LVCMOS33")),
    ]
    connectors: ClassVar[list[Connector]] = []


CROSSLINK_NX_VIP = Board(
    name="crosslink-nx-vip",
    title="CrossLink-NX VIP",
    device="LIFCL-40-9BG400C",
    technology=NEXUS,
    platform=_CrosslinkNxVipPlatform,
    clock_source=ClockSource.NEXUS,
    source_mhz=27,
    clock_mhz=108,
    geometry=Geometry(array=4, x_depth=2048, w_depth=2048),
    luts=32256,
    multipliers=56,
    blocks=84,
    serial="header PMOD0: pin 3 (to the board) and pin 2 (from it), 3.3 V",
    programmers=(("openFPGALoader", "-c", "ft2232", "-m", "{}"),),
    led=("led",),
)
