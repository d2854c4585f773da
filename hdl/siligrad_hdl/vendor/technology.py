"""Which primitives a family of FPGAs has, and how many of them a part of the design takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from amaranth.vendor import GowinPlatform, LatticePlatform, SiliconBluePlatform

from siligrad_hdl.vendor import ecp5, gowin, ice40, nexus

__all__ = [
    "ECP5",
    "GOWIN",
    "ICE40",
    "ICE40_ULTRA_PLUS",
    "NEXUS",
    "Technology",
    "is_lean",
    "technology_of",
]


@dataclass(frozen=True, slots=True)
class Technology:
    """What a family has blocks for.

    Parameters
    ----------
    name
        Of the family.
    multiplier
        Makes :class:`~siligrad_hdl.multiplier.Multiplier` of what the family has, from its
        parameters; None where synthesis is left to find it.
    multipliers
        Multiplier blocks that a product of so many bits takes.
    block_memory
        Makes the primitive of :class:`~siligrad_hdl.block_memory.BlockMemory` from width, depth and
        initial words; None as above.
    blocks
        Blocks that a memory of so many bits and words takes.
    inferred_blocks
        Blocks that synthesis takes for the queue of tiles; lookup tables elsewhere.
    tools
        Programs of a build, by their names in :mod:`siligrad_hdl.boards.tools`.
    synthesis, routing
        Options of Yosys' command for the family, and of nextpnr.
    unread
        Types of cells, each with an output, that place and route takes room for although nobody
        reads it; :func:`siligrad_hdl.boards.netlist.cut_unread` cuts it off.
    lean
        Whether components take the form of few logic cells. On iCE40 a register that has no lookup
        table before it takes the place of one, so those that only divide long ways are left out;
        and a bit of an adder has an input to spare, by which it chooses between sum and addend.
    """

    name: str
    multiplier: Callable[..., Any] | None
    multipliers: Callable[[int], int]
    block_memory: Callable[..., Any] | None
    blocks: Callable[[int, int], int]
    inferred_blocks: int
    tools: tuple[str, ...]
    synthesis: tuple[str, ...] = ()
    routing: tuple[str, ...] = ()
    unread: tuple[tuple[str, str], ...] = ()
    lean: bool = False


ICE40 = Technology(
    name="iCE40",
    multiplier=ice40.LogicMultiplier,
    multipliers=lambda operand_bits: 0,
    block_memory=ice40.Ram40Memory,
    blocks=ice40.ram40_blocks,
    inferred_blocks=3,
    tools=("yosys", "nextpnr-ice40", "icepack"),
    # Registers of a tile share what enables them: where few do, a lookup table is as good.
    synthesis=("-dffe_min_ce_use", "6"),
    lean=True,
)
"""iCE40 LP and HX, which have no multiplier blocks: products are made of logic cells."""

ICE40_ULTRA_PLUS = Technology(
    name="iCE40 UltraPlus",
    multiplier=ice40.Mac16Multiplier,
    multipliers=lambda operand_bits: 1,
    block_memory=ice40.Ram40Memory,
    blocks=ice40.ram40_blocks,
    inferred_blocks=3,
    tools=("yosys", "nextpnr-ice40", "icepack"),
    # Registers of a tile share what enables them: where few do, a lookup table is as good.
    synthesis=("-dffe_min_ce_use", "8"),
    # As below: where a device is almost full, one register far from the rest takes half a clock.
    # What is late after that is moved once more.
    routing=("--placer-heap-timingweight", "30", "--opt-timing"),
    lean=True,
)

ECP5 = Technology(
    name="ECP5",
    multiplier=ecp5.Mult18Multiplier,
    multipliers=lambda operand_bits: 1,
    block_memory=ecp5.Dp16Memory,
    blocks=ecp5.Dp16Memory.blocks,
    inferred_blocks=0,
    tools=("yosys", "nextpnr-ecp5", "ecppack"),
    # Of lookup tables of four inputs alone: a rotator takes a third fewer of them, and is faster.
    synthesis=("-nowidelut",),
    # Time counts for more than the length of wires: an array of 8 x 8 is a tenth faster.
    routing=("--placer-heap-timingweight", "30"),
    # The last carry of an adder is led out of its chain, which takes a slice.
    unread=(("CCU2C", "COUT"),),
)

NEXUS = Technology(
    name="Nexus",
    multiplier=nexus.NexusMultiplier,
    multipliers=lambda operand_bits: 1,
    block_memory=nexus.PdpMemory,
    blocks=nexus.PdpMemory.blocks,
    inferred_blocks=0,
    tools=("yosys", "nextpnr-nexus", "prjoxide"),
    # Yosys ties the carry into a chain to a constant, where nextpnr wants nothing: no chains then.
    synthesis=("-noccu2",),
    # The usual router does not find the way from the PLL to the buffer of its clock.
    routing=("--router", "router1"),
)

GOWIN = Technology(
    name="Gowin",
    multiplier=gowin.GowinMultiplier,
    multipliers=lambda operand_bits: 1,
    block_memory=gowin.SdpMemory,
    blocks=gowin.SdpMemory.blocks,
    inferred_blocks=0,
    tools=("yosys", "nextpnr-himbaechel", "gowin_pack"),
)


def technology_of(platform: object) -> Technology | None:
    """Return the technology of what `platform` builds for; None of a platform that is not known.

    So for None, which simulators and Verilog for others are made with.
    """
    if isinstance(platform, SiliconBluePlatform):
        return ICE40_ULTRA_PLUS if platform.device.startswith("iCE40UP") else ICE40
    if isinstance(platform, LatticePlatform):
        return {"ecp5": ECP5, "nexus": NEXUS}.get(platform.family)
    return GOWIN if isinstance(platform, GowinPlatform) else None


def is_lean(platform: object) -> bool:
    """Return whether components for `platform` take the form of few logic cells."""
    technology = technology_of(platform)
    return technology is not None and technology.lean
