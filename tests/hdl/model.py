"""A small model of the accelerator, written from docs/spec alone, one element at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from siligrad.isa import Instruction

__all__ = ["Lane", "Machine", "Schedule", "epilogue", "in_step", "operand"]

X, W, E = 0, 1, 2


class Lane:
    """The shift register of a lane."""

    def __init__(self, state: int) -> None:
        self.state = state

    def draw(self) -> int:
        for _ in range(16):
            s = self.state
            new = (s >> 31 ^ s >> 30 ^ s >> 29 ^ s >> 9) & 1
            self.state = (s * 2 + new) % 2**32
        return self.state % 2**16


def epilogue(
    total: int,
    aux: int,
    lane: Lane,
    *,
    bits: int,
    shift: int,
    rounding: int,
    aux_mode: int,
    gate: int,
    negate: int,
) -> tuple[int, bool]:
    """The result and whether it counts as saturated."""
    v = -total if negate else total
    u = v
    if aux_mode == 1:
        u = v + aux * 2**shift
    if aux_mode == 2:
        u = v - aux * 2**shift
    draw = lane.draw() if rounding == 1 else 0
    if shift == 0:
        addend = 0
    else:
        addend = [
            2 ** (shift - 1) - 1 + ((u >> shift) % 2) if shift else 0,
            draw * 2**shift // 2**16,
            0,
            2 ** (shift - 1) if shift else 0,
        ][rounding]
    r = (u + addend) >> shift
    limit = 2 ** (bits - 1) - 1
    y = min(max(r, -limit), limit)
    if gate == 0:
        result = y
    elif gate == 1:
        result = max(y, 0)
    elif gate == 2:
        result = y if aux > 0 else 0
    else:
        result = min(y, 0) if aux > 0 else max(y, 0)
    return result, r != y and result != 0


def operand(code: int, word_bits: int, operand_bits: int) -> int:
    """The operand of a code."""
    d = word_bits - operand_bits
    if d == 0:
        return code
    limit: int = 2 ** (operand_bits - 1) - 1
    nearest: int = (code + 2 ** (d - 1)) >> d
    return min(max(nearest, -limit), limit)


def in_step(item: Instruction, step: int, strides: Sequence[int] = (0, 0, 0)) -> Instruction:
    """What `item` does in a step: its operands where they are then."""
    a, b, aux = (step * strides[memory] for memory in PORTS[item.product])
    d = step * strides[item.destination]
    return replace(
        item,
        d_base=(item.d_base + item.d_moves * d) % 2**16,
        aux_base=(item.aux_base + item.aux_moves * aux) % 2**16,
        segments=tuple(
            replace(
                s,
                a_base=(s.a_base + s.a_moves * a) % 2**16,
                b_base=(s.b_base + s.b_moves * b) % 2**16,
            )
            for s in item.segments
        ),
    )


class Machine:
    """Three memories, N shift registers, and what a program does to them."""

    def __init__(
        self, array: int, word_bits: int, operand_bits: int, sum_bits: int, depths: Sequence[int]
    ) -> None:
        self.array = array
        self.word_bits = word_bits
        self.operand_bits = operand_bits
        self.sum_bits = sum_bits
        # memories[m][b][a]: word a of bank b of memory m
        self.memories = [[[0] * depth for _ in range(array)] for depth in depths]
        self.lanes = [Lane(1) for _ in range(array)]

    def place(self, tile: int, r: int, c: int) -> tuple[int, int]:
        return (r + c) % self.array, tile + r

    def read(self, memory: int, tile: int, number: int, column: int) -> list[int]:
        """A row or a column of a tile."""
        vector = []
        for lane in range(self.array):
            r, c = (lane, number) if column else (number, lane)
            bank, address = self.place(tile, r, c)
            vector.append(self.memories[memory][bank][address])
        return vector

    def run(
        self, program: Sequence[Instruction], steps: int = 1, strides: Sequence[int] = (0, 0, 0)
    ) -> list[int]:
        """Execute `program`; returns the saturated elements of each instruction."""
        saturations = [0] * len(program)
        for step in range(steps):
            for index, item in enumerate(program):
                saturations[index] += self._execute(in_step(item, step, strides))
        return [count % 2**32 for count in saturations]

    def operands(self, codes: list[int]) -> list[int]:
        return [operand(code, self.word_bits, self.operand_bits) for code in codes]

    def _execute(self, item: Instruction) -> int:
        n = self.array
        a_memory, b_memory, aux_memory = PORTS[item.product]
        saturations = 0
        for i in range(item.m_tiles):
            for j in range(item.p_tiles):
                sums = [[0] * n for _ in range(n)]
                for s in item.segments:
                    for q in range(s.k):
                        a_tile = (s.a_base + i * s.a_m + q // n * s.a_k) % 2**16
                        b_tile = (s.b_base + j * s.b_p + q // n * s.b_k) % 2**16
                        if s.ones:
                            rows = item.rows_last if i == item.m_tiles - 1 else n
                            a = [2**s.ones_shift if r < rows else 0 for r in range(n)]
                        else:
                            a = self.operands(self.read(a_memory, a_tile, q % n, s.a_column))
                        b = self.operands(self.read(b_memory, b_tile, q % n, s.b_column))
                        for r in range(n):
                            for c in range(n):
                                sums[r][c] += a[r] * b[c]
                bound = 2 ** (self.sum_bits - 1)
                assert all(-bound < x < bound for row in sums for x in row), "an illegal program"
                d_tile = (item.d_base + i * item.d_m + j * item.d_p) % 2**16
                aux_tile = (item.aux_base + i * item.aux_m + j * item.aux_p) % 2**16
                # All of aux is read before any of D is written: they may be one tile, stored both
                # ways.
                auxes = [[0] * n for _ in range(n)]
                if uses_aux(item):
                    for r in range(n):
                        auxes[r] = self.read(aux_memory, aux_tile, r, item.aux_column)
                for r in reversed(range(n)):
                    aux = auxes[r]
                    for c in range(n):
                        result, saturated = epilogue(
                            sums[r][c] * 2 ** (self.word_bits - self.operand_bits),
                            aux[c],
                            self.lanes[c],
                            bits=self.word_bits,
                            shift=item.shift,
                            rounding=item.rounding,
                            aux_mode=item.aux_mode,
                            gate=item.gate,
                            negate=item.negate,
                        )
                        saturations += saturated
                        place = self.place(d_tile, *((c, r) if item.d_column else (r, c)))
                        self.memories[item.destination][place[0]][place[1]] = result
        return saturations


PORTS = ((X, W, E), (E, W, X), (X, E, W))
"""Memories of A, B and aux of each product."""


def uses_aux(item: Instruction) -> bool:
    return item.aux_mode in (1, 2) or item.gate in (2, 3)


@dataclass(frozen=True)
class Access:
    """A row or column of a tile that is read or written in a cycle."""

    cycle: int
    memory: int
    tile: int
    number: int
    column: int


@dataclass
class TileTime:
    """When a tile does what."""

    end: int
    d: tuple[int, int]  # memory and address
    reads: list[Access]
    writes: list[Access]


class Schedule:
    """In which cycle a program does what, from the section "Time" of isa.md."""

    def __init__(self, array: int) -> None:
        n = self.array = array
        rotate = -(-math.ceil(math.log2(n)) // 2)
        read = 4 + rotate
        drain = read + (n - 1) + 5
        self.rotate = rotate
        self.read = read
        self.aux = drain - read
        self.write = drain + 6 + (n - 1) + rotate
        self.tail = self.write + (n - 1) + 2
        self.tiles: list[TileTime] = []
        self._next = 6  # where the next instruction would begin without a delay

    @property
    def cycles(self) -> int:
        return self.tiles[-1].end + self.tail

    def place(self, item: Instruction) -> list[TileTime]:
        """The times of the tiles of `item` if it comes next."""
        n = self.array
        a_memory, b_memory, aux_memory = PORTS[item.product]
        start = self._next + item.delay
        tiles = []
        for i in range(item.m_tiles):
            for j in range(item.p_tiles):
                reads = []
                for s in item.segments:
                    for q in range(s.k):
                        cycle, number = start + q, q % n
                        a = (s.a_base + i * s.a_m + q // n * s.a_k) % 2**16
                        b = (s.b_base + j * s.b_p + q // n * s.b_k) % 2**16
                        if not s.ones:
                            reads.append(Access(cycle, a_memory, a, number, s.a_column))
                        reads.append(Access(cycle, b_memory, b, number, s.b_column))
                    start += s.k + s.pad
                end = start - 1
                d = (item.d_base + i * item.d_m + j * item.d_p) % 2**16
                aux = (item.aux_base + i * item.aux_m + j * item.aux_p) % 2**16
                writes = []
                for cycle, r in enumerate(reversed(range(n)), end):
                    if uses_aux(item):
                        at = cycle + self.aux
                        reads.append(Access(at, aux_memory, aux, r, item.aux_column))
                    at = cycle + self.write
                    writes.append(Access(at, item.destination, d, r, item.d_column))
                tiles.append(TileTime(end, (item.destination, d), reads, writes))
        return tiles

    def legal(self, tiles: Sequence[TileTime]) -> bool:
        """Rules 3 and 4: one read of a memory in a cycle, nothing is read before it is written."""
        earlier = list(self.tiles)
        taken = {(read.cycle, read.memory) for tile in earlier for read in tile.reads}
        for tile in tiles:
            for read in tile.reads:
                if (read.cycle, read.memory) in taken:
                    return False
                for other in earlier:
                    same = other.d[0] == read.memory and abs(other.d[1] - read.tile) < self.array
                    if same and read.cycle < other.end + self.write + self.array - 1:
                        return False
            taken |= {(read.cycle, read.memory) for read in tile.reads}
            earlier.append(tile)
        return True

    def take(self, program: Sequence[Instruction], steps: int = 1) -> None:
        """Append `program` as often as it has steps, where none of its operands moves."""
        for item in [*program] * steps:
            self.append(item, self.place(item))

    def append(self, item: Instruction, tiles: Sequence[TileTime]) -> None:
        last = item.segments[-1]
        start = tiles[-1].end - (last.k + last.pad) + 1
        self.tiles += tiles
        self._next = start + max(last.k + last.pad, 6)
