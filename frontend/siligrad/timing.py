"""When everything happens: the exact cycle model and the hazards it rules out.

The schedule is built with :class:`Timeline` (``earliest`` says how long an instruction must wait),
a program's checker replays it, and both follow ``docs/spec/isa.md``, section *Time*.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat

import numpy as np
from numpy.typing import NDArray

from siligrad.isa import (
    ADDRESS_BITS,
    INSTRUCTION_CYCLES,
    Geometry,
    Instruction,
    Memory,
    Segment,
    Timing,
)

__all__ = [
    "Hazard",
    "Scheduled",
    "Timeline",
    "run_cycles",
    "schedule_of",
    "segment_offsets",
    "a_tiles",
    "aux_tiles",
    "b_tiles",
    "destination_tiles",
]


def destination_tiles(instruction: Instruction) -> NDArray[np.int64]:
    """Return the addresses of the tiles of D, shape ``(m_tiles, p_tiles)``."""
    rows, columns = instruction.m_tiles, instruction.p_tiles
    return _grid(instruction.d_base, rows, instruction.d_m, columns, instruction.d_p)


def aux_tiles(instruction: Instruction) -> NDArray[np.int64]:
    """Return the addresses of the tiles of the auxiliary operand, shape ``(m_tiles, p_tiles)``."""
    rows, columns = instruction.m_tiles, instruction.p_tiles
    return _grid(instruction.aux_base, rows, instruction.aux_m, columns, instruction.aux_p)


def a_tiles(instruction: Instruction, segment: Segment, array: int) -> NDArray[np.int64]:
    """Return the addresses of the tiles of A in `segment`, shape ``(m_tiles, k_tiles)``."""
    terms = -(-segment.k // array)
    return _grid(segment.a_base, instruction.m_tiles, segment.a_m, terms, segment.a_k)


def b_tiles(instruction: Instruction, segment: Segment, array: int) -> NDArray[np.int64]:
    """Return the addresses of the tiles of B in `segment`, shape ``(k_tiles, p_tiles)``."""
    terms = -(-segment.k // array)
    return _grid(segment.b_base, terms, segment.b_k, instruction.p_tiles, segment.b_p)


def _grid(base: int, rows: int, down: int, columns: int, right: int) -> NDArray[np.int64]:
    grid = base + np.arange(rows)[:, None] * down + np.arange(columns)[None, :] * right
    return np.asarray(grid % (1 << ADDRESS_BITS), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Scheduled:
    """When an instruction runs.

    Parameters
    ----------
    start
        Cycle of its first issue.
    end
        Cycle in which its last tile ends.
    """

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Hazard:
    """Why an instruction cannot start earlier than ``cycle``.

    Parameters
    ----------
    cycle
        First cycle in which the instruction may be issued.
    reason
        ``"pipeline"`` (nothing but the order), ``"operand"`` (a tile of A or B is not written yet),
        ``"auxiliary"`` (a tile of aux is not written yet) or ``"port"`` (an earlier instruction
        still reads its auxiliary operand from the memory of A or B).
    memory
        Which memory it waits for.
    """

    cycle: int
    reason: str
    memory: Memory | None = None


def segment_offsets(instruction: Instruction) -> Iterator[tuple[int, Segment]]:
    """Yield each segment with the cycle, counted from the start of a tile, at which it begins."""
    offset = 0
    for segment in instruction.segments:
        yield offset, segment
        offset += segment.cycles


def _next_start(instruction: Instruction, end: int) -> int:
    """First cycle in which an instruction can be issued after `instruction`.

    The last tile of `instruction` ends at `end`.
    """
    last = instruction.segments[-1].cycles
    return end + 1 + max(INSTRUCTION_CYCLES - last, 0)


def schedule_of(instructions: Sequence[Instruction], steps: int = 1) -> list[Scheduled]:
    """Return when each instruction runs, step by step.

    Its ``delay`` counts, its operands do not.
    """
    result = []
    ready = INSTRUCTION_CYCLES
    for instruction in chain.from_iterable(repeat(instructions, steps)):
        start = ready + instruction.delay
        end = start + instruction.tiles * instruction.tile_cycles - 1
        result.append(Scheduled(start, end))
        ready = _next_start(instruction, end)
    return result


def run_cycles(instructions: Sequence[Instruction], array: int, steps: int = 1) -> int:
    """Return the busy cycles of a run of `steps` steps: exact, whatever the data."""
    first, second = (step[-1].end for step in _two_steps(instructions))
    return first + (steps - 1) * (second - first) + Timing(array).tail


def _two_steps(instructions: Sequence[Instruction]) -> tuple[list[Scheduled], list[Scheduled]]:
    """Return when the first two steps run: all others follow at the distance of these."""
    both = schedule_of(instructions, 2)
    return both[: len(instructions)], both[len(instructions) :]


class Timeline:
    """The state of the memories while a schedule is laid down, instruction by instruction.

    Parameters
    ----------
    geometry
        Size of the array and depths of the memories.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._array = geometry.array
        self._timing = Timing(geometry.array)
        # For each tile: the first cycle in which it may be issued.
        self._readable = {
            memory: np.zeros(geometry.depth(memory) // geometry.array, dtype=np.int64)
            for memory in Memory
        }
        # For each memory: the first cycle in which no auxiliary row is read from it any more.
        self._port_free = dict.fromkeys(Memory, 0)
        self._ready = INSTRUCTION_CYCLES

    @property
    def ready(self) -> int:
        """First cycle in which the sequencer could issue the next instruction."""
        return self._ready

    def earliest(self, instruction: Instruction) -> Hazard:
        """Return the first cycle in which `instruction` may start, and what it waits for."""
        n = self._array
        worst = Hazard(self._ready, "pipeline")
        tile_cycles = instruction.tile_cycles
        row_cycles = instruction.p_tiles * tile_cycles
        rows = np.arange(instruction.m_tiles)[:, None]
        columns = np.arange(instruction.p_tiles)[None, :]

        def wait(
            memory: Memory, tiles: NDArray[np.int64], cycles: NDArray[np.int64], why: str
        ) -> None:
            nonlocal worst
            start = int((self._readable[memory][tiles // n] - cycles).max())
            if start > worst.cycle:
                worst = Hazard(start, why, memory)

        def wait_port(memory: Memory, offset: int) -> None:
            nonlocal worst
            start = self._port_free[memory] - offset
            if start > worst.cycle:
                worst = Hazard(start, "port", memory)

        for offset, segment in segment_offsets(instruction):
            b = b_tiles(instruction, segment, n)
            issue = offset + np.arange(len(b)) * n
            wait(instruction.product.b, b.T, columns.T * tile_cycles + issue, "operand")
            wait_port(instruction.product.b, offset)
            if not segment.ones:
                a = a_tiles(instruction, segment, n)
                wait(instruction.product.a, a, rows * row_cycles + issue, "operand")
                wait_port(instruction.product.a, offset)
        if instruction.uses_aux:
            ends = rows * row_cycles + (columns + 1) * tile_cycles - 1
            cycles = ends + self._timing.aux
            wait(instruction.product.aux, aux_tiles(instruction), cycles, "auxiliary")
        return worst

    def place(self, instruction: Instruction, start: int) -> Scheduled:
        """Start `instruction` at cycle `start` and return when it runs."""
        n = self._array
        tile_cycles = instruction.tile_cycles
        end = start + instruction.tiles * tile_cycles - 1
        rows = np.arange(instruction.m_tiles)[:, None]
        columns = np.arange(instruction.p_tiles)[None, :]
        tiles = destination_tiles(instruction)
        ends = start + (rows * instruction.p_tiles + columns + 1) * tile_cycles - 1
        self._readable[instruction.destination][tiles // n] = ends + self._timing.written
        if instruction.uses_aux:
            self._port_free[instruction.product.aux] = end + self._timing.aux + n
        self._ready = _next_start(instruction, end)
        return Scheduled(start, end)
