"""The reference: what a program does, in numpy, word for word.

Written from ``docs/spec/numerics.md`` and ``docs/spec/isa.md``; it shares no code with the
hardware. It executes the instructions one after the other on the same memory words that the
hardware holds; that the hardware overlaps them changes nothing, which is what the program's checker
makes sure of.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from siligrad import lfsr
from siligrad.device import Device
from siligrad.fixed import Rounding, saturate, shift_round
from siligrad.isa import (
    AuxMode,
    Gate,
    Geometry,
    Instruction,
    Memory,
    Segment,
    decode_program,
)
from siligrad.timing import a_tiles, aux_tiles, b_tiles, destination_tiles, run_cycles

__all__ = ["ReferenceDevice"]

_EXACT_IN_FLOAT = 1 << 53
"""Sums of integer products below this are exact in float64, in any order."""


class ReferenceDevice(Device):
    """The numpy reference behind the device protocol; its cycles are the model's."""

    name = "reference"

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        n = geometry.array
        self._words = {memory: np.zeros((geometry.depth(memory), n), np.int32) for memory in Memory}
        self._instructions: list[Instruction] = []
        self._lfsr = (1,) * n
        self._saturations: list[int] = []

    def write_lines(self, lines: Sequence[int]) -> None:
        self._instructions = decode_program(lines)

    def write_words(self, memory: Memory, address: int, words: NDArray[np.int32]) -> None:
        self._words[memory][address : address + len(words)] = words

    def read_words(self, memory: Memory, address: int, count: int) -> NDArray[np.int32]:
        return self._words[memory][address : address + count].copy()

    def write_lfsr(self, states: Sequence[int]) -> None:
        self._lfsr = tuple(states)

    def read_lfsr(self) -> tuple[int, ...]:
        return self._lfsr

    def read_saturations(self, count: int) -> tuple[int, ...]:
        return tuple(self._saturations[:count])

    def execute(self, limit: int) -> int:
        self._saturations = [self._execute(instruction) for instruction in self._instructions]
        return run_cycles(self._instructions, self.geometry.array)

    def _execute(self, instruction: Instruction) -> int:
        """Execute one instruction and return how many elements saturated."""
        bits = self.geometry.operand_bits
        shift = instruction.shift
        total = self._sum(instruction)
        if instruction.negate:
            total = -total
        aux = np.zeros_like(total)
        if instruction.uses_aux:
            aux = self._read_grid(
                instruction.product.aux,
                aux_tiles(instruction),
                transposed=bool(instruction.aux_column),
            )
        if instruction.aux_mode == AuxMode.ADD:
            total = total + (aux << shift)
        elif instruction.aux_mode == AuxMode.SUBTRACT:
            total = total - (aux << shift)
        draws = self._draw(instruction) if instruction.rounding == Rounding.STOCHASTIC else None
        rounded = shift_round(total, shift, instruction.rounding, draws)
        clipped = saturate(rounded, bits)
        result = _gate(instruction.gate, clipped, aux)
        self._write_grid(
            instruction.destination,
            destination_tiles(instruction),
            result,
            transposed=bool(instruction.d_column),
        )
        return int(np.count_nonzero((rounded != clipped) & (result != 0)))

    def _sum(self, instruction: Instruction) -> NDArray[np.int64]:
        """Return the exact sums, shape ``(m_tiles * N, p_tiles * N)``."""
        n = self.geometry.array
        total = np.zeros((instruction.m_tiles * n, instruction.p_tiles * n), np.int64)
        for segment in instruction.segments:
            b = self._read_grid(
                instruction.product.b,
                b_tiles(instruction, segment, n),
                transposed=bool(segment.b_column),
            )[: segment.k]
            if segment.ones:
                rows = (instruction.m_tiles - 1) * n + instruction.rows_last
                total[:rows] += b.sum(axis=0) << segment.ones_shift
            else:
                total += _exact_product(self._read_a(instruction, segment), b)
        return total

    def _read_a(self, instruction: Instruction, segment: Segment) -> NDArray[np.int64]:
        addresses = a_tiles(instruction, segment, self.geometry.array)
        a = self._read_grid(instruction.product.a, addresses, transposed=not segment.a_column)
        return a[:, : segment.k]

    def _draw(self, instruction: Instruction) -> NDArray[np.int64]:
        """Return a draw for each element, in the order of the specification."""
        n = self.geometry.array
        tiles = instruction.tiles
        draws, self._lfsr = lfsr.draw(self._lfsr, tiles * n)
        # (tile row, tile column, row from the bottom, lane) to (row, column)
        grid = draws.reshape(instruction.m_tiles, instruction.p_tiles, n, n)[:, :, ::-1, :]
        return grid.transpose(0, 2, 1, 3).reshape(instruction.m_tiles * n, instruction.p_tiles * n)

    def _read_grid(
        self, memory: Memory, addresses: NDArray[np.int64], *, transposed: bool
    ) -> NDArray[np.int64]:
        """Return the matrix whose tile ``(i, j)`` is stored at ``addresses[i, j]``.

        Each tile is taken as it is or transposed.
        """
        n = self.geometry.array
        row, bank = _element_places(n, transposed=transposed)
        tiles: NDArray[np.int32] = self._words[memory][addresses[:, :, None, None] + row, bank]
        matrix = tiles.transpose(0, 2, 1, 3).reshape(addresses.shape[0] * n, addresses.shape[1] * n)
        return matrix.astype(np.int64)

    def _write_grid(
        self,
        memory: Memory,
        addresses: NDArray[np.int64],
        matrix: NDArray[np.int64],
        *,
        transposed: bool,
    ) -> None:
        n = self.geometry.array
        row, bank = _element_places(n, transposed=transposed)
        tiles = matrix.reshape(addresses.shape[0], n, addresses.shape[1], n).transpose(0, 2, 1, 3)
        self._words[memory][addresses[:, :, None, None] + row, bank] = tiles


def _element_places(n: int, *, transposed: bool) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return address in the tile and bank of element ``(r, c)``, shape ``(N, N)`` each."""
    row, column = np.indices((n, n))
    return (column if transposed else row), (row + column) % n


def _exact_product(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ``a @ b`` exactly: in float64 where no sum can reach 2**53, else in int64."""
    bound = int(np.abs(a).max(initial=0)) * int(np.abs(b).max(initial=0)) * a.shape[1]
    if bound < _EXACT_IN_FLOAT:
        return np.asarray((a.astype(np.float64) @ b.astype(np.float64)), dtype=np.int64)
    return a @ b


def _gate(gate: Gate, codes: NDArray[np.int64], aux: NDArray[np.int64]) -> NDArray[np.int64]:
    if gate == Gate.RELU:
        return np.maximum(codes, 0)
    if gate == Gate.MASK:
        return np.where(aux > 0, codes, 0)
    if gate == Gate.HINGE:
        return np.where(aux > 0, np.minimum(codes, 0), np.maximum(codes, 0))
    return codes
