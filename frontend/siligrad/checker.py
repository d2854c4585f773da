"""Check a program against the rules of ``docs/spec/isa.md``; the hardware tests none of them.

Every program passes here: when it is compiled, and again when an image is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from siligrad.errors import SiligradError
from siligrad.fixed import narrow
from siligrad.isa import (
    ONE_STEP,
    SEGMENT_CYCLES,
    SEGMENTS_MAX,
    SHIFT_MAX,
    Geometry,
    Instruction,
    Loop,
    Memory,
    encode_program,
)
from siligrad.timing import Timeline, a_tiles, aux_tiles, b_tiles, destination_tiles

__all__ = ["CheckError", "accumulator_bound", "check_instructions", "operand_limit"]


class CheckError(SiligradError, ValueError):
    """A program breaks a rule of the machine."""


def accumulator_bound(terms: Sequence[tuple[int, int, int]]) -> int:
    """Return a bound of any partial sum.

    It is the sum of ``k * limit_a * limit_b`` over `terms`, each a ``(k, limit_a, limit_b)``.
    """
    return sum(k * a * b for k, a, b in terms)


def operand_limit(limit: int, word_bits: int, operand_bits: int) -> int:
    """Return the largest magnitude of an operand that is read from codes of up to `limit`."""
    codes = np.array([limit, -limit])
    return int(np.abs(narrow(codes, word_bits, operand_bits)).max())


def check_instructions(
    instructions: Sequence[Instruction], geometry: Geometry, loop: Loop = ONE_STEP
) -> None:
    """Check rules 1 to 5 and 7 of the instruction, for a run of `loop` (of one step without it).

    What does not move is at the same distance, in cycles, from the start of each step, and what
    moves is another tile in each: so all steps from the second on are alike, and two are replayed.

    Raises
    ------
    CheckError
        With the instruction's index and what it breaks.
    EncodingError
        If a field does not fit.
    """
    lines = encode_program(instructions)
    if len(lines) > geometry.program_depth:
        raise CheckError(
            f"the program takes {len(lines)} lines, but the program memory has "
            f"{geometry.program_depth}; build the target with a larger program_depth"
        )
    timeline = Timeline(geometry)
    for step in range(min(loop.steps, 2)):
        for index, instruction in enumerate(instructions):
            try:
                if step == 0:
                    _check_instruction(instruction, geometry)
                _check_start(instruction.in_step(loop, step), timeline)
            except CheckError as error:
                in_step = "" if step == 0 else ", in the next step"
                raise CheckError(f"instruction {index}{in_step}: {error}") from None
        if step == 0 and loop.steps > 1:
            _check_windows(instructions, geometry, loop)


def _check_start(instruction: Instruction, timeline: Timeline) -> None:
    """Check rules 3 and 4 for an instruction that follows those which `timeline` has seen."""
    start = timeline.ready + instruction.delay
    hazard = timeline.earliest(instruction)
    if start < hazard.cycle:
        raise CheckError(
            f"starts in cycle {start}, but its {hazard.reason} hazard on "
            f"{hazard.memory.name if hazard.memory is not None else 'the sequencer'} "
            f"lasts until cycle {hazard.cycle}"
        )
    timeline.place(instruction, start)


def _check_windows(instructions: Sequence[Instruction], geometry: Geometry, loop: Loop) -> None:
    """Check rule 7: what moves stays in windows that nothing else touches."""
    n = geometry.array
    moving: dict[Memory, list[NDArray[np.int64]]] = {memory: [] for memory in Memory}
    staying: dict[Memory, list[NDArray[np.int64]]] = {memory: [] for memory in Memory}
    for instruction in instructions:
        for memory, moves, tiles in _operands(instruction, n):
            (moving if moves else staying)[memory].append(tiles.ravel())
    for memory, parts in moving.items():
        if not parts:
            continue
        stride, depth = loop.stride(memory), geometry.depth(memory)
        low = min(int(part.min()) for part in parts)
        high = max(int(part.max()) for part in parts) + n
        if stride % n or high - low > stride:
            raise CheckError(
                f"operands that move take words {low} to {high - 1} of {memory.name}, but go on by "
                f"{stride} words a step; the stride must hold them all, in whole tiles of {n} words"
            )
        if high + (loop.steps - 1) * stride > depth:
            raise CheckError(
                f"in step {loop.steps - 1} operands that move reach word "
                f"{high + (loop.steps - 1) * stride - 1} of {memory.name}, which has {depth} words "
                "a bank"
            )
        for part in staying[memory]:
            inside = part[(part >= low) & (part < low + loop.steps * stride)]
            if inside.size:
                raise CheckError(
                    f"word {int(inside[0])} of {memory.name} is used as one that does not move, "
                    f"between those that do ({low} to {low + loop.steps * stride - 1})"
                )


def _operands(
    instruction: Instruction, array: int
) -> Iterator[tuple[Memory, int, NDArray[np.int64]]]:
    """Yield memory, whether it moves, and the tiles, of each operand and of D."""
    product = instruction.product
    yield instruction.destination, instruction.d_moves, destination_tiles(instruction)
    if instruction.uses_aux:
        yield product.aux, instruction.aux_moves, aux_tiles(instruction)
    for segment in instruction.segments:
        yield product.b, segment.b_moves, b_tiles(instruction, segment, array)
        if not segment.ones:
            yield product.a, segment.a_moves, a_tiles(instruction, segment, array)


def _check_instruction(instruction: Instruction, geometry: Geometry) -> None:
    n = geometry.array
    if instruction.m_tiles < 1 or instruction.p_tiles < 1:
        raise CheckError(f"D has {instruction.m_tiles} x {instruction.p_tiles} tiles")
    if not 1 <= instruction.rows_last <= n:
        raise CheckError(f"rows_last must be from 1 to {n}, not {instruction.rows_last}")
    if instruction.shift > SHIFT_MAX:
        raise CheckError(f"shift must be from 0 to {SHIFT_MAX}, not {instruction.shift}")
    if not 1 <= len(instruction.segments) <= SEGMENTS_MAX:
        raise CheckError(f"{len(instruction.segments)} segments; 1 to {SEGMENTS_MAX} are possible")
    if instruction.tile_cycles < n:
        raise CheckError(
            f"a tile takes {instruction.tile_cycles} cycles; at least {n} are needed to drain"
        )

    written = _footprint("D", instruction.destination, destination_tiles(instruction), geometry)
    if len(np.unique(written)) < written.size:
        raise CheckError("two tiles of D have the same address")
    for number, segment in enumerate(instruction.segments):
        if segment.k < 1 or segment.cycles < SEGMENT_CYCLES:
            raise CheckError(
                f"segment {number} has {segment.k} terms in {segment.cycles} cycles; "
                f"at least one term and {SEGMENT_CYCLES} cycles are needed"
            )
        if segment.ones and segment.ones_shift > geometry.operand_bits - 2:
            raise CheckError(
                f"segment {number}: a one of 2**{segment.ones_shift} does not fit "
                f"{geometry.operand_bits} bits"
            )
        operands = [("B", instruction.product.b, b_tiles(instruction, segment, n))]
        if not segment.ones:
            operands.append(("A", instruction.product.a, a_tiles(instruction, segment, n)))
        for name, memory, tiles in operands:
            read = _footprint(f"{name} of segment {number}", memory, tiles, geometry)
            if memory == instruction.destination and np.intersect1d(read, written).size:
                raise CheckError(
                    f"D overlaps {name} of segment {number}, which is still to be read"
                )
    if instruction.uses_aux:
        aux = _footprint("aux", instruction.product.aux, aux_tiles(instruction), geometry)
        in_place = instruction.aux_column == instruction.d_column and np.array_equal(aux, written)
        if (
            instruction.product.aux == instruction.destination
            and not in_place
            and np.intersect1d(aux, written).size
        ):
            raise CheckError("D overlaps aux, but not tile by tile")


def _footprint(
    name: str, memory: Memory, tiles: NDArray[np.int64], geometry: Geometry
) -> NDArray[np.int64]:
    """Check that the tiles lie in `memory`, tile by tile, and return their addresses."""
    depth = geometry.depth(memory)
    if (tiles % geometry.array).any():
        raise CheckError(f"{name} is not at a multiple of {geometry.array} words")
    if (tiles + geometry.array > depth).any():
        raise CheckError(
            f"{name} reaches word {int(tiles.max()) + geometry.array - 1} of {memory.name}, "
            f"which has {depth} words a bank"
        )
    return tiles
