"""When everything happens: the exact cycle model and the hazards it rules out.

The schedule is built with :class:`Timeline` (``earliest`` says how long an instruction must wait),
a program's checker replays it, and both follow ``docs/spec/isa.md``, section *Time*.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
    "tile_addresses",
]


def tile_addresses(
    base: int, outer: int, outer_step: int, inner: int, inner_step: int
) -> NDArray[np.int64]:
    """Return the addresses of a grid of tiles, modulo the address width.

    Shape ``(outer, inner)``.
    """
    grid = base + np.arange(outer)[:, None] * outer_step + np.arange(inner)[None, :] * inner_step
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


def schedule_of(instructions: Sequence[Instruction]) -> list[Scheduled]:
    """Return when each instruction runs; its ``delay`` counts, its operands do not."""
    result = []
    ready = INSTRUCTION_CYCLES
    for instruction in instructions:
        start = ready + instruction.delay
        end = start + instruction.tiles * instruction.tile_cycles - 1
        result.append(Scheduled(start, end))
        ready = _next_start(instruction, end)
    return result


def run_cycles(instructions: Sequence[Instruction], array: int) -> int:
    """Return the busy cycles of a run: exact, whatever the data."""
    return schedule_of(instructions)[-1].end + Timing(array).tail


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
            count = -(-segment.k // n)
            issue = offset + np.arange(count) * n
            b = tile_addresses(segment.b_base, instruction.p_tiles, segment.b_p, count, segment.b_k)
            wait(instruction.product.b, b, columns.T * tile_cycles + issue, "operand")
            wait_port(instruction.product.b, offset)
            if not segment.ones:
                a = tile_addresses(
                    segment.a_base, instruction.m_tiles, segment.a_m, count, segment.a_k
                )
                wait(instruction.product.a, a, rows * row_cycles + issue, "operand")
                wait_port(instruction.product.a, offset)
        if instruction.uses_aux:
            aux = tile_addresses(
                instruction.aux_base,
                instruction.m_tiles,
                instruction.aux_m,
                instruction.p_tiles,
                instruction.aux_p,
            )
            ends = rows * row_cycles + (columns + 1) * tile_cycles - 1
            wait(instruction.product.aux, aux, ends + self._timing.aux, "auxiliary")
        return worst

    def place(self, instruction: Instruction, start: int) -> Scheduled:
        """Start `instruction` at cycle `start` and return when it runs."""
        n = self._array
        tile_cycles = instruction.tile_cycles
        end = start + instruction.tiles * tile_cycles - 1
        rows = np.arange(instruction.m_tiles)[:, None]
        columns = np.arange(instruction.p_tiles)[None, :]
        tiles = tile_addresses(
            instruction.d_base,
            instruction.m_tiles,
            instruction.d_m,
            instruction.p_tiles,
            instruction.d_p,
        )
        ends = start + (rows * instruction.p_tiles + columns + 1) * tile_cycles - 1
        self._readable[instruction.destination][tiles // n] = ends + self._timing.written
        if instruction.uses_aux:
            self._port_free[instruction.product.aux] = end + self._timing.aux + n
        self._ready = _next_start(instruction, end)
        return Scheduled(start, end)
