"""Which primitives a family of FPGAs has, and how many of them a part of the design takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from amaranth.vendor import LatticePlatform, SiliconBluePlatform

from siligrad_hdl.vendor import ice40

__all__ = [
    "ECP5",
    "ICE40",
    "ICE40_ULTRA_PLUS",
    "Technology",
    "technology_of",
]


def _narrowest(width: int, depth: int, shapes: tuple[tuple[int, int], ...]) -> int:
    """Return how many blocks of the shapes (words, bits) hold `depth` words of `width` bits."""
    for words, bits in shapes:
        if depth <= words:
            return -(-width // bits)
    words, bits = shapes[-1]
    return -(-width // bits) * -(-depth // words)


_BLOCKS_18K = ((1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))


def _ecp5_blocks(width: int, depth: int) -> int:
    return _narrowest(width, depth, ((512, 36), *_BLOCKS_18K))


@dataclass(frozen=True, slots=True)
class Technology:
    """What a family has blocks for.

    Parameters
    ----------
    name
        Of the family.
    multiplier
        Makes the primitive of :class:`~siligrad_hdl.multiplier.Multiplier` from its parameters;
        None where synthesis is left to find one.
    multipliers
        Multiplier blocks that a product of so many bits takes.
    block_memory
        Makes the primitive of :class:`~siligrad_hdl.block_memory.BlockMemory` from width, depth and
        initial words; None as above.
    blocks
        Blocks that a memory of so many bits and words takes.
    small_blocks
        Blocks that synthesis takes for the small memories of sequencer and link together.
    synthesis
        Options of Yosys' synthesis for the family.
    """

    name: str
    multiplier: Callable[..., Any] | None
    multipliers: Callable[[int], int]
    block_memory: Callable[..., Any] | None
    blocks: Callable[[int, int], int]
    small_blocks: int
    synthesis: tuple[str, ...] = ()


ICE40 = Technology(
    name="iCE40",
    multiplier=None,
    multipliers=lambda operand_bits: 0,
    block_memory=ice40.Ram40Memory,
    blocks=ice40.ram40_blocks,
    small_blocks=7,
)
"""iCE40 LP and HX, which have no multipliers: products are made of lookup tables."""

ICE40_ULTRA_PLUS = Technology(
    name="iCE40 UltraPlus",
    multiplier=ice40.Mac16Multiplier,
    multipliers=lambda operand_bits: 1,
    block_memory=ice40.Ram40Memory,
    blocks=ice40.ram40_blocks,
    small_blocks=7,
)

ECP5 = Technology(
    name="ECP5",
    multiplier=None,
    multipliers=lambda operand_bits: 1,
    block_memory=None,
    blocks=_ecp5_blocks,
    small_blocks=0,
)


def technology_of(platform: object) -> Technology | None:
    """Return the technology of what `platform` builds for; None of a platform that is not known.

    So for None, which simulators and Verilog for others are made with.
    """
    if isinstance(platform, SiliconBluePlatform):
        return ICE40_ULTRA_PLUS if platform.device.startswith("iCE40UP") else ICE40
    if isinstance(platform, LatticePlatform) and platform.family == "ecp5":
        return ECP5
    return None
