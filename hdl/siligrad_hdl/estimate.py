"""What an accelerator will take of a device, and its clock, before anything is synthesised.

Multipliers and block RAMs are counted from the geometry. Lookup tables and flip-flops are sums over
what the accelerator consists of (:func:`parts`), each times a coefficient of the family; clocks are
those of a device's builds, by the size of the array. Coefficients and clocks are fitted to builds
(``python -m benchmarks.estimate``), and lie with them in ``estimate.json``.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import log2
from pathlib import Path
from typing import Any

from siligrad.isa import Geometry, Memory
from siligrad_hdl.boards import Board
from siligrad_hdl.vendor import Technology

__all__ = ["DATA", "Estimate", "device_series", "estimate", "interpolated", "parts"]

DATA = Path(__file__).with_name("estimate.json")
"""Builds that were measured, and what was fitted to them."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an accelerator will take, with its link.

    Parameters
    ----------
    lut, ff, dsp, bram
        Lookup tables (on iCE40 logic cells), flip-flops, multiplier blocks and block RAMs, as
        :class:`~siligrad_hdl.boards.routed.Routed` counts them.
    clock_mhz
        What place and route will reach, by builds for devices of the series and speed grade, else
        of the family; None where there are none.
    """

    lut: int
    ff: int
    dsp: int
    bram: int
    clock_mhz: float | None


def estimate(board: Board, geometry: Geometry) -> Estimate:
    """Return what an accelerator will take on a board, whether that has so much or not.

    Raises
    ------
    ValueError
        If a memory is deeper than a block RAM of the board.
    """
    fitted = _fitted()
    counted = parts(geometry, board.technology)

    def total(what: str) -> int:
        coefficients = fitted[what][board.technology.name]
        return round(sum(coefficients.get(name, 0) * size for name, size in counted.items()))

    of_series = fitted["clock_mhz"].get(device_series(board))
    clocks = of_series or fitted["clock_mhz"].get(board.technology.name)
    blocks = board.blocks_of(geometry)
    slower = 1 + fitted["slower_per_block"].get(board.technology.name, 0) * blocks
    return Estimate(
        lut=total("lut"),
        ff=total("ff"),
        dsp=board.multipliers_of(geometry),
        bram=blocks,
        clock_mhz=None
        if clocks is None
        else interpolated({int(n): mhz for n, mhz in clocks.items()}, geometry.array) / slower,
    )


def parts(geometry: Geometry, technology: Technology) -> dict[str, float]:
    """Return the sizes of what an accelerator consists of, by name.

    fixed
        Link, host port, sequencer: one.
    addresses
        Bits of the addresses that they count.
    lanes, words
        Bits of sums in the epilogue's lanes, and of words in lanes and banks.
    rotators
        Bits of a word in each bank and level of a rotator.
    cells, operands, sums
        Cells of the array, and their bits of operands and sums.
    products
        Bits of products that are made of lookup tables.
    """
    n, sums = geometry.array, geometry.sum_bits
    deepest = max(geometry.depth(memory) for memory in Memory)
    made = technology.multipliers(geometry.operand_bits) == 0
    return {
        "fixed": 1,
        "addresses": (deepest - 1).bit_length() + (geometry.program_depth - 1).bit_length(),
        "lanes": n * sums,
        "words": n * geometry.word_bits,
        "rotators": n * geometry.word_bits * (n - 1).bit_length(),
        "cells": n**2,
        "operands": n**2 * geometry.operand_bits,
        "sums": n**2 * sums,
        "products": n**2 * geometry.operand_bits**2 if made else 0,
    }


def device_series(board: Board) -> str:
    """Return a name for the devices that are as fast as the board's: series and speed grade."""
    name, *rest = board.device.split("-")
    # Lattice's ECP5: LFE5U-85F-6BG381 has a speed grade of 6.
    return f"{name}-{rest[1][0]}" if name.startswith("LFE5") else name


def interpolated(clocks: Mapping[int, float], array: int) -> float:
    """Return the clock of an array from those of others, by their sizes.

    A period is a straight line over the logarithm of the size from one to the next, and the nearest
    one's beyond them.
    """
    sizes = sorted(clocks)
    at = bisect_left(sizes, array)
    if at == len(sizes) or sizes[at] == array or at == 0:
        return clocks[sizes[min(at, len(sizes) - 1)]]
    low, high = sizes[at - 1], sizes[at]
    share = log2(array / low) / log2(high / low)
    return 1 / ((1 - share) / clocks[low] + share / clocks[high])


@cache
def _fitted() -> Mapping[str, Any]:
    fitted: Mapping[str, Any] = json.loads(DATA.read_text(encoding="utf-8"))["fitted"]
    return fitted
