"""What happens in which cycle of a run: the section *Time* of ``docs/spec/isa.md`` as Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from siligrad.isa import AuxMode, Gate, Instruction, Loop, Memory, Product, Segment
from siligrad_sim.benches.specification import Operation

__all__ = ["Feed", "Row", "Schedule"]

_PORTS = {
    Product.XW: (Memory.X, Memory.W, Memory.E),
    Product.EW: (Memory.E, Memory.W, Memory.X),
    Product.XE: (Memory.X, Memory.E, Memory.W),
}
"""Memories of A, B and aux."""


@dataclass(frozen=True)
class Row:
    """Row or column `number` of the tile at `tile`, an address modulo 2¹⁶."""

    tile: int
    number: int
    column: int


@dataclass(frozen=True)
class Feed:
    """What the operands of a term are: memories of A and B, or ones for the first `rows` rows."""

    a: Memory | None
    b: Memory
    one: int = 0
    rows: int = 0


@dataclass
class Schedule:
    """When a run of `instructions`, executed as often as `loop` says, does what.

    Cycle 0 is the first busy one; each attribute is by cycle.

    Parameters
    ----------
    array, instructions, loop
        The run.

    Attributes
    ----------
    reads
        What is issued to each memory.
    feeds, aux
        Terms, and memories of auxiliary rows, by the cycle in which they are issued.
    ends
        Cycles in which a tile ends.
    epilogues
        Rows of sums that are issued, so to say, to the epilogue: the operation of each.
    writes
        Rows that are written, and in which memory.
    counts, totals
        Rows of each instruction by the cycle of their write: instruction and whether it is the
        first row in this step; instruction and step in the cycle of the last row of a step.
    cycles
        How long the run is busy.
    """

    array: int
    instructions: Sequence[Instruction]
    loop: Loop
    reads: dict[int, dict[Memory, Row]] = field(default_factory=dict)
    feeds: dict[int, Feed] = field(default_factory=dict)
    aux: dict[int, Memory] = field(default_factory=dict)
    ends: set[int] = field(default_factory=set)
    epilogues: dict[int, Operation] = field(default_factory=dict)
    writes: dict[int, tuple[Memory, Row]] = field(default_factory=dict)
    counts: dict[int, tuple[int, bool]] = field(default_factory=dict)
    totals: dict[int, tuple[int, int]] = field(default_factory=dict)
    cycles: int = 0

    def __post_init__(self) -> None:
        n = self.array
        levels = 0  # of a binary tree over the banks
        while 1 << levels < n:
            levels += 1
        self.rotate = (levels + 1) // 2
        self.read = 4 + self.rotate
        self.drain = self.read + (n - 1) + 5
        self.write = self.drain + 6 + (n - 1) + self.rotate
        start = 6
        for step in range(self.loop.steps):
            for number, instruction in enumerate(self.instructions):
                start = self._place(number, instruction, step, start + instruction.delay)

    def _place(self, number: int, item: Instruction, step: int, start: int) -> int:
        """Place an instruction whose first segment is issued in cycle `start`.

        Returns the cycle in which the next one begins if it has no delay.
        """
        memory_a, memory_b, memory_aux = _PORTS[item.product]
        strides = (self.loop.x_stride, self.loop.w_stride, self.loop.e_stride)

        def at(base: int, moves: int, memory: Memory) -> int:
            return base + moves * step * strides[memory]

        d_base = at(item.d_base, item.d_moves, item.destination)
        aux_base = at(item.aux_base, item.aux_moves, memory_aux)
        begin = start
        for i in range(item.m_tiles):
            for j in range(item.p_tiles):
                for segment in item.segments:
                    begin = start
                    a_base = at(segment.a_base, segment.a_moves, memory_a) + i * segment.a_m
                    b_base = at(segment.b_base, segment.b_moves, memory_b) + j * segment.b_p
                    self._stream(item, segment, start, i, a_base, b_base)
                    start += segment.k + segment.pad
                end = start - 1
                self.ends.add(end)
                uses_aux = item.aux_mode != AuxMode.NONE or item.gate in {Gate.MASK, Gate.HINGE}
                for later, r in enumerate(range(self.array - 1, -1, -1)):
                    if uses_aux:
                        cycle = end + self.drain - self.read + later
                        tile = aux_base + i * item.aux_m + j * item.aux_p
                        self._issue(cycle, memory_aux, Row(tile % 2**16, r, item.aux_column))
                        self.aux[cycle] = memory_aux
                    self.epilogues[end + self.drain + later] = Operation.of(item)
                    cycle = end + self.write + later
                    tile = d_base + i * item.d_m + j * item.d_p
                    self.writes[cycle] = (item.destination, Row(tile % 2**16, r, item.d_column))
                    self.counts[cycle] = (number, i == j == 0 and r == self.array - 1)
        last = end + self.write + self.array - 1
        self.totals[last] = (number, step)
        self.cycles = last + 2
        return max(start, begin + 6)

    def _stream(
        self, item: Instruction, segment: Segment, start: int, i: int, a_base: int, b_base: int
    ) -> None:
        memory_a, memory_b, _ = _PORTS[item.product]
        partial = i == item.m_tiles - 1
        for q in range(segment.k):
            a = (a_base + q // self.array * segment.a_k) % 2**16
            b = (b_base + q // self.array * segment.b_k) % 2**16
            if segment.ones:
                rows = item.rows_last if partial else self.array
                self.feeds[start + q] = Feed(None, memory_b, 2**segment.ones_shift, rows)
            else:
                self._issue(start + q, memory_a, Row(a, q % self.array, segment.a_column))
                self.feeds[start + q] = Feed(memory_a, memory_b)
            self._issue(start + q, memory_b, Row(b, q % self.array, segment.b_column))

    def _issue(self, cycle: int, memory: Memory, row: Row) -> None:
        taken = self.reads.setdefault(cycle, {})
        assert memory not in taken, f"cycle {cycle}: {memory.name} is read twice: no legal program"
        taken[memory] = row
