"""What a board is: a few facts, from which everything else about it follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from siligrad.errors import SiligradError
from siligrad.frames import WORDS_MAX
from siligrad.isa import ARRAY_SIZES, LINE_BITS, SEGMENTS_MAX, Geometry, Memory
from siligrad.registers import WORDS_PER_LINE
from siligrad_hdl.boards.clock import ClockSetting, ClockSource, clock_setting
from siligrad_hdl.epilogue import AUX_ROWS_KEPT
from siligrad_hdl.sequencer import instructions_max
from siligrad_hdl.vendor import Technology

__all__ = ["Board", "BoardError"]


class BoardError(SiligradError):
    """A board that there is not, or that cannot do what is asked of it."""


@dataclass(frozen=True, slots=True)
class Board:
    """A board with an FPGA.

    Parameters
    ----------
    name, title
        What it is called by commands, and by its maker.
    device
        The FPGA, with its package and speed where it has one.
    technology
        What the FPGA's family has blocks for.
    platform
        Makes Amaranth's platform of the board, with the resource ``uart`` 0 and, if the board has
        an LED to spare, one that `led` names. Needs the package amaranth-boards.
    clock_source, source_mhz
        What makes clocks, and the one that it makes them of, in MHz.
    clock_mhz
        Clock of the accelerator unless another is asked for, in MHz.
    geometry
        What is built unless something else is asked for.
    luts, multipliers, blocks
        What the FPGA has of lookup tables, multipliers and block RAMs.
    serial
        Where the serial line is, for people.
    programmers
        Programs that load a bitstream, the first that is found, each with its arguments; ``{}`` is
        the bitstream.
    led
        Resource, and subsignal if any, of an LED that is on while a program runs.
    others
        What is built instead if an array and operands of their sizes are asked for: the usual
        memories and sums would be too much.
    """

    name: str
    title: str
    device: str
    technology: Technology
    platform: Callable[[], Any]
    clock_source: ClockSource
    source_mhz: float
    clock_mhz: float
    geometry: Geometry
    luts: int
    multipliers: int
    blocks: int
    serial: str
    programmers: tuple[tuple[str, ...], ...]
    led: tuple[str, ...] = ()
    others: tuple[Geometry, ...] = ()

    def sized(self, array: int | None, operand_bits: int | None) -> Geometry:
        """Return the geometry of the board with another array or narrower operands."""
        geometry = self.geometry
        size = geometry.array if array is None else array
        bits = geometry.operand_bits if operand_bits is None else operand_bits
        for other in self.others:
            if (other.array, other.operand_bits) == (size, bits):
                return other
        word_bits = max(bits, geometry.word_bits)
        return replace(
            geometry,
            array=size,
            operand_bits=bits,
            word_bits=word_bits,
            sum_bits=min(max(geometry.sum_bits, 2 * bits), 48 - (word_bits - bits)),
        )

    def clock(self, mhz: float | None) -> ClockSetting:
        """Return the clock next to `mhz`, or the board's usual one.

        Raises
        ------
        BoardError
            If there is none near it.
        """
        try:
            return clock_setting(
                self.clock_source, self.source_mhz, self.clock_mhz if mhz is None else mhz
            )
        except ValueError as error:
            raise BoardError(f"{self.title}: {error}") from None

    def multipliers_of(self, geometry: Geometry) -> int:
        """Return how many multiplier blocks an accelerator takes."""
        return geometry.array**2 * self.technology.multipliers(geometry.operand_bits)

    def blocks_of(self, geometry: Geometry) -> int:
        """Return how many block RAMs an accelerator takes, with its link."""
        blocks = self.technology.blocks
        banks = sum(blocks(geometry.word_bits, geometry.depth(memory)) for memory in Memory)
        program = WORDS_PER_LINE * blocks(LINE_BITS // WORDS_PER_LINE, geometry.program_depth)
        counters = blocks(32, instructions_max(geometry.program_depth))
        address_bits = max((geometry.depth(memory) - 1).bit_length() for memory in Memory)
        running = blocks(2 * address_bits, SEGMENTS_MAX)
        link = blocks(32, 2 * WORDS_MAX) + blocks(8, 8 * WORDS_MAX)  # words, and an encoded frame
        inferred = self.technology.inferred_blocks
        rows = geometry.array * geometry.word_bits
        aux = blocks(rows, AUX_ROWS_KEPT) if self.technology.lean else 0
        return geometry.array * banks + program + counters + running + link + aux + inferred

    def largest_array(self) -> int:
        """Return the largest array that multipliers and block RAMs do for.

        Its memories are those of the usual geometry. Without multipliers it is the largest that is
        named in the board's file: lookup tables are not counted here.
        """
        largest = max(geometry.array for geometry in (self.geometry, *self.others))
        for array in ARRAY_SIZES if self.multipliers else ():
            try:
                self.check(replace(self.geometry, array=array))
            except BoardError:
                continue
            largest = max(largest, array)
        return largest

    def check(self, geometry: Geometry) -> None:
        """Check, as far as can be counted beforehand, that the board is large enough.

        Raises
        ------
        BoardError
            If it has too few multipliers or block RAMs.
        """
        try:
            blocks = self.blocks_of(geometry)
        except ValueError as error:  # deeper than a block
            raise BoardError(f"{self.title} is too small: {error}") from None
        for what, needed, available in (
            ("multipliers", self.multipliers_of(geometry), self.multipliers),
            ("block RAMs", blocks, self.blocks),
        ):
            if needed > available:
                raise BoardError(
                    f"{self.title} is too small: an array of {geometry.array} x {geometry.array} "
                    f"with banks of {geometry.x_depth}, {geometry.w_depth} and {geometry.e_depth} "
                    f"words and {geometry.program_depth} lines of program takes {needed} {what}, "
                    f"and the {self.device} has {available}"
                )
