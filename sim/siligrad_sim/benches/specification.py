"""A second reference, for the benches: ``docs/spec/numerics.md`` and ``isa.md`` read as Python.

It is written from the two pages alone, one integer at a time and as slowly as they read, and shares
no arithmetic with the library, so that a slip in one of them does not hide in the other.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from siligrad.isa import (
    ONE_STEP,
    AuxMode,
    Gate,
    Geometry,
    Instruction,
    Loop,
    Memory,
    Rounding,
    Segment,
    Timing,
)

__all__ = ["Lane", "Machine", "Operation", "busy_cycles", "epilogue", "operand", "round_off"]

_BANK_ADDRESSES = 1 << 16


class Lane:
    """The shift register of one epilogue lane: section *Draws* of numerics.md."""

    def __init__(self, state: int) -> None:
        self.state = state

    def step(self) -> None:
        """Shift by one bit."""
        s = self.state
        new = (s >> 31 ^ s >> 30 ^ s >> 29 ^ s >> 9) & 1
        self.state = (s * 2 + new) % 2**32

    def draw(self) -> int:
        """Return the next 16 random bits."""
        for _ in range(16):
            self.step()
        return self.state % 2**16


def round_off(u: int, shift: int, rounding: Rounding, draw: int = 0) -> int:
    """Return ``(u + addend) >> shift``; `draw` is what stochastic rounding drew."""
    if shift == 0 or rounding == Rounding.FLOOR:
        addend = 0
    elif rounding == Rounding.HALF_EVEN:
        addend = (1 << shift - 1) - 1 + (u >> shift) % 2
    elif rounding == Rounding.STOCHASTIC:
        addend = (draw << shift) // 2**16
    else:
        addend = 1 << shift - 1
    return (u + addend) >> shift


@dataclass(frozen=True)
class Operation:
    """What the epilogue does with each element: fields of the instruction."""

    shift: int
    rounding: Rounding = Rounding.HALF_EVEN
    aux_mode: AuxMode = AuxMode.NONE
    gate: Gate = Gate.NONE
    negate: int = 0

    @classmethod
    def of(cls, instruction: Instruction) -> Operation:
        """Return that of `instruction`."""
        return cls(**{item.name: getattr(instruction, item.name) for item in fields(cls)})


def epilogue(
    operation: Operation, bits: int, total: int, aux: int, draw: int = 0
) -> tuple[int, bool]:
    """Return the code that an exact sum `total` becomes, and whether it counts as saturated."""
    u = -total if operation.negate else total
    if operation.aux_mode == AuxMode.ADD:
        u += aux * 2**operation.shift
    elif operation.aux_mode == AuxMode.SUBTRACT:
        u -= aux * 2**operation.shift
    r = round_off(u, operation.shift, operation.rounding, draw)
    limit = 2 ** (bits - 1) - 1
    y = min(max(r, -limit), limit)
    result = {
        Gate.NONE: y,
        Gate.RELU: max(y, 0),
        Gate.MASK: y if aux > 0 else 0,
        Gate.HINGE: min(y, 0) if aux > 0 else max(y, 0),
    }[operation.gate]
    return result, r != y and result != 0


def operand(code: int, word_bits: int, operand_bits: int) -> int:
    """Return what the array multiplies for a code: section *Operands* of numerics.md."""
    dropped = word_bits - operand_bits
    if dropped == 0:
        return code
    limit = (1 << operand_bits - 1) - 1
    # The nearest multiple of 2**dropped; of two, the greater one.
    return max(-limit, min(limit, (2 * code + (1 << dropped)) // (2 << dropped)))


def busy_cycles(instructions: Sequence[Instruction], array: int, steps: int = 1) -> int:
    """Return how long a run takes: section *Time* of isa.md."""
    timing = Timing(array)
    at = 6 + instructions[0].delay  # the first issue of the first segment
    end = last_start = 0
    executed = list(instructions) * steps
    for index, instruction in enumerate(executed):
        if index > 0:
            last = executed[index - 1].segments[-1]
            at = last_start + max(last.k + last.pad, 6) + instruction.delay
        for _ in range(instruction.m_tiles * instruction.p_tiles):
            for segment in instruction.segments:
                last_start = at
                at += segment.k + segment.pad
                end = at - 1
    rotate = ((array - 1).bit_length() + 1) // 2
    drain = 4 + rotate + (array - 1) + 5
    write = drain + 6 + (array - 1) + rotate
    assert (drain, write) == (timing.drain, timing.write), "isa.md and isa.py disagree"
    return end + write + (array - 1) + 2


class Machine:
    """The state of an accelerator, and what one instruction after the other does to it.

    Memory words are ``words[memory][address, bank]``. A program that touches a word outside a
    memory is not legal.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.words: dict[Memory, NDArray[np.int64]] = {
            memory: np.zeros((geometry.depth(memory), geometry.array), np.int64)
            for memory in Memory
        }
        self.lanes = [Lane(1) for _ in range(geometry.array)]
        self.saturations: list[int] = []
        self._offsets = dict.fromkeys(Memory, 0)

    def copy(self) -> Machine:
        """Return a machine in the same state."""
        return copy.deepcopy(self)

    def run(self, instructions: Sequence[Instruction], loop: Loop = ONE_STEP) -> None:
        """Run a program."""
        self.saturations = [0] * len(instructions)
        self._offsets = dict.fromkeys(Memory, 0)
        for _ in range(loop.steps):
            for index, instruction in enumerate(instructions):
                self.saturations[index] += self._execute(instruction)
                self.saturations[index] %= 2**32
            for memory, stride in zip(
                Memory, (loop.x_stride, loop.w_stride, loop.e_stride), strict=True
            ):
                self._offsets[memory] += stride

    def _execute(self, instruction: Instruction) -> int:
        """Execute one instruction and return how many elements saturated."""
        n = self.geometry.array
        operation = Operation.of(instruction)
        saturated = 0
        for i in range(instruction.m_tiles):
            for j in range(instruction.p_tiles):
                sums = self._sums(instruction, i, j)
                d = self._address(
                    instruction.d_base + i * instruction.d_m + j * instruction.d_p,
                    instruction.destination if instruction.d_moves else None,
                )
                aux = self._address(
                    instruction.aux_base + i * instruction.aux_m + j * instruction.aux_p,
                    instruction.product.aux if instruction.aux_moves else None,
                )
                for r in reversed(range(n)):
                    for lane in range(n):
                        other = 0
                        if instruction.uses_aux:
                            other = self._element(
                                instruction.product.aux, aux, r, lane, instruction.aux_column
                            )
                        draw = 0
                        if instruction.rounding == Rounding.STOCHASTIC:
                            draw = self.lanes[lane].draw()
                        total = sums[r][lane] << self.geometry.dropped_bits
                        code, counted = epilogue(
                            operation, self.geometry.word_bits, total, other, draw
                        )
                        saturated += counted
                        self._store(instruction.destination, d, r, lane, instruction.d_column, code)
        return saturated

    def _sums(self, instruction: Instruction, i: int, j: int) -> list[list[int]]:
        n = self.geometry.array
        sums = [[0] * n for _ in range(n)]
        for segment in instruction.segments:
            for q in range(segment.k):
                a = self._a(instruction, segment, i, q)
                tile = self._address(
                    segment.b_base + j * segment.b_p + q // n * segment.b_k,
                    instruction.product.b if segment.b_moves else None,
                )
                b = self._vector(instruction.product.b, tile, q % n, segment.b_column)
                for r in range(n):
                    for c in range(n):
                        sums[r][c] += a[r] * b[c]
        limit = 2 ** (self.geometry.sum_bits - 1)
        for row in sums:
            for total in row:
                assert -limit <= total < limit, "a sum does not fit the accumulator"
        return sums

    def _a(self, instruction: Instruction, segment: Segment, i: int, q: int) -> list[int]:
        n = self.geometry.array
        if segment.ones:
            rows = instruction.rows_last if i == instruction.m_tiles - 1 else n
            return [2**segment.ones_shift if r < rows else 0 for r in range(n)]
        tile = self._address(
            segment.a_base + i * segment.a_m + q // n * segment.a_k,
            instruction.product.a if segment.a_moves else None,
        )
        return self._vector(instruction.product.a, tile, q % n, segment.a_column)

    def _vector(self, memory: Memory, tile: int, number: int, column: int) -> list[int]:
        """Return column or row `number` of the tile at address `tile`, as operands."""
        geometry = self.geometry
        # Element (number, lane) is in row `number`; with the tile transposed, in the column.
        codes = [self._element(memory, tile, number, c, column) for c in range(geometry.array)]
        return [operand(code, geometry.word_bits, geometry.operand_bits) for code in codes]

    def _element(self, memory: Memory, tile: int, r: int, c: int, transposed: int) -> int:
        if transposed:
            r, c = c, r
        return int(self.words[memory][tile + r, (r + c) % self.geometry.array])

    def _store(self, memory: Memory, tile: int, r: int, c: int, transposed: int, code: int) -> None:
        if transposed:
            r, c = c, r
        self.words[memory][tile + r, (r + c) % self.geometry.array] = code

    def _address(self, address: int, moves_in: Memory | None) -> int:
        """Return `address`, further by the offset of the memory that it moves in."""
        offset = 0 if moves_in is None else self._offsets[moves_in]
        return (address + offset) % _BANK_ADDRESSES
