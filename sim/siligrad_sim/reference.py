"""The reference: what a program does, in numpy, word for word.

Written from ``docs/spec/numerics.md`` and ``docs/spec/isa.md``; it shares no code with the
hardware. It executes the instructions one after the other on the same memory words that the
hardware holds; that the hardware overlaps them changes nothing, which is what the program's checker
makes sure of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siligrad import lfsr
from siligrad.device import Device, OverrunError
from siligrad.fixed import Rounding, narrow, saturate, shift_round
from siligrad.isa import (
    AuxMode,
    Gate,
    Geometry,
    Instruction,
    Loop,
    Memory,
    Segment,
    decode_program,
)
from siligrad.timing import a_tiles, aux_tiles, b_tiles, destination_tiles, run_cycles

__all__ = ["ReferenceDevice"]

_BLOCK_ELEMENTS = 1 << 14
"""Elements that go through the epilogue at a time."""

_EXACT_IN_FLOAT32 = 1 << 24
"""A sum of integers whose magnitudes add up to less is exact in float32, in any order: no partial
sum needs more significant bits than there are. Likewise in float64 below ``2**53``, which no
instruction reaches (a test)."""


class ReferenceDevice(Device):
    """The numpy reference behind the device protocol; its cycles are the model's.

    Inside, a memory is an array of codes without the skew: element ``(r, c)`` of the tile at `t` is
    ``codes[t + r, c]``, so that tiles are blocks that can be copied.
    """

    name = "reference"

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        n = geometry.array
        self._codes = {
            memory: np.zeros((-(-geometry.depth(memory) // n) * n, n), np.int16)
            for memory in Memory
        }
        self._instructions: list[_Decoded] = []
        self._lfsr = (1,) * n
        self._saturations: list[int] = []

    def write_lines(self, lines: Sequence[int]) -> None:
        self._instructions = [_decode(i, self.geometry) for i in decode_program(lines)]

    def write_words(self, memory: Memory, address: int, words: NDArray[np.int32]) -> None:
        n = self.geometry.array
        for row in range(min(n, len(words))):  # of the tile: the skew is the same for all such
            skew = (address + row) % n
            self._codes[memory][address + row : address + len(words) : n] = np.roll(
                words[row::n], -skew, axis=1
            )

    def read_words(self, memory: Memory, address: int, count: int) -> NDArray[np.int32]:
        n = self.geometry.array
        words = np.empty((count, n), np.int32)
        for row in range(min(n, count)):
            skew = (address + row) % n
            words[row::n] = np.roll(
                self._codes[memory][address + row : address + count : n], skew, axis=1
            )
        return words

    def write_lfsr(self, states: Sequence[int]) -> None:
        self._lfsr = tuple(states)

    def read_lfsr(self) -> tuple[int, ...]:
        return self._lfsr

    def read_saturations(self, count: int) -> tuple[int, ...]:
        return tuple(self._saturations[:count])

    def execute(self, loop: Loop, limit: int) -> int:
        n = self.geometry.array
        cycles = run_cycles([item.instruction for item in self._instructions], n, loop.steps)
        if cycles > limit:
            raise OverrunError(
                f"{self.name}: the program takes {cycles} cycles, its limit is {limit}", cycles
            )
        self._saturations = [0] * len(self._instructions)
        for step in range(loop.steps):
            offsets = {memory: step * loop.stride(memory) // n for memory in Memory}
            for index, decoded in enumerate(self._instructions):
                self._saturations[index] += self._execute(decoded, offsets)
        return cycles

    def _execute(self, decoded: _Decoded, offsets: dict[Memory, int]) -> int:
        """Execute one instruction and return how many elements saturated."""
        instruction = decoded.instruction
        sums = self._sum(decoded, offsets)
        draws = self._draw(instruction) if instruction.rounding == Rounding.STOCHASTIC else None
        # Some rows of tiles at a time, so that what is in work stays in the processor's cache.
        n = self.geometry.array
        rows = max(_BLOCK_ELEMENTS // (instruction.p_tiles * n * n), 1)
        saturated = 0
        for first in range(0, instruction.m_tiles, rows):
            part = slice(first, first + rows)
            saturated += self._finish(
                decoded,
                offsets,
                part,
                sums[part],
                None if draws is None else draws[part],
            )
        return saturated

    def _finish(
        self,
        decoded: _Decoded,
        offsets: dict[Memory, int],
        rows: slice,
        sums: NDArray[np.floating[Any]],
        draws: NDArray[np.uint16] | None,
    ) -> int:
        """Write some rows of tiles through the epilogue and return how many elements saturated.

        Sums and draws have the shape ``(rows, p_tiles, N, N)``: tile by tile.
        """
        instruction = decoded.instruction
        total = sums.astype(np.int64, order="C")
        total <<= self.geometry.dropped_bits
        if instruction.negate:
            np.negative(total, out=total)
        aux: NDArray[np.int16] | None = None
        if instruction.uses_aux:
            moved = offsets if instruction.aux_moves else None
            aux = self._read(instruction.product.aux, decoded.aux[rows], moved)
            if instruction.aux_column:
                aux = aux.swapaxes(2, 3)
        if instruction.aux_mode != AuxMode.NONE:
            assert aux is not None
            shifted = aux.astype(np.int64)
            shifted <<= instruction.shift
            if instruction.aux_mode == AuxMode.ADD:
                total += shifted
            else:
                total -= shifted
        rounded = shift_round(total, instruction.shift, instruction.rounding, draws)
        clipped = saturate(rounded, self.geometry.word_bits)
        result = _gate(instruction.gate, clipped, aux)
        stored = result.swapaxes(2, 3) if instruction.d_column else result
        moved = offsets if instruction.d_moves else None
        self._write(instruction.destination, decoded.destination[rows], moved, stored)
        beyond = rounded != clipped
        return int(np.count_nonzero(beyond & (result != 0))) if beyond.any() else 0

    def _sum(self, decoded: _Decoded, offsets: dict[Memory, int]) -> NDArray[np.floating[Any]]:
        """Return the exact sums, tile by tile: shape ``(m_tiles, p_tiles, N, N)``."""
        n = self.geometry.array
        instruction = decoded.instruction
        product = instruction.product
        total: NDArray[np.floating[Any]] | None = None
        ones: list[NDArray[np.floating[Any]]] = []
        for segment, a_at, b_at in zip(instruction.segments, decoded.a, decoded.b, strict=True):
            b = self._operand(
                product.b,
                b_at,
                offsets if segment.b_moves else None,
                transposed=bool(segment.b_column),
                exact=decoded.exact,
            )[: segment.k]
            if segment.ones:
                ones.append(b.sum(axis=0) * (1 << segment.ones_shift))
                continue
            a = self._operand(
                product.a,
                a_at,
                offsets if segment.a_moves else None,
                transposed=not segment.a_column,
                exact=decoded.exact,
            )[:, : segment.k]
            if total is None:
                total = a @ b
            else:
                total += a @ b
        if total is None:
            total = np.zeros((instruction.m_tiles * n, instruction.p_tiles * n), decoded.exact)
        filled = (instruction.m_tiles - 1) * n + instruction.rows_last
        for row in ones:
            total[:filled] += row
        return total.reshape(instruction.m_tiles, n, instruction.p_tiles, n).transpose(0, 2, 1, 3)

    def _operand(
        self,
        memory: Memory,
        tiles: NDArray[np.intp],
        offsets: dict[Memory, int] | None,
        *,
        transposed: bool,
        exact: type[np.floating[Any]],
    ) -> NDArray[np.floating[Any]]:
        """Return a matrix as the array is given it, each of its tiles as stored or transposed."""
        n = self.geometry.array
        codes = self._read(memory, tiles, offsets)
        codes = narrow(codes, self.geometry.word_bits, self.geometry.operand_bits)
        matrix = np.empty((tiles.shape[0], n, tiles.shape[1], n), exact)
        matrix[...] = codes.transpose((0, 3, 1, 2) if transposed else (0, 2, 1, 3))
        return matrix.reshape(tiles.shape[0] * n, tiles.shape[1] * n)

    def _draw(self, instruction: Instruction) -> NDArray[np.uint16]:
        """Return a draw for each element, tile by tile, in the order of the specification."""
        n = self.geometry.array
        draws, self._lfsr = lfsr.draw(self._lfsr, instruction.tiles * n)
        # (tile row, tile column, row from the bottom, lane) to (..., row, lane)
        return draws.reshape(instruction.m_tiles, instruction.p_tiles, n, n)[:, :, ::-1, :]

    def _read(
        self, memory: Memory, tiles: NDArray[np.intp], offsets: dict[Memory, int] | None
    ) -> NDArray[np.int16]:
        """Return the tiles of these numbers, further by the offset of their memory if there is."""
        if offsets is not None:
            tiles = tiles + offsets[memory]
        return self._tiles(memory)[tiles]

    def _write(
        self,
        memory: Memory,
        tiles: NDArray[np.intp],
        offsets: dict[Memory, int] | None,
        codes: NDArray[np.int64],
    ) -> None:
        if offsets is not None:
            tiles = tiles + offsets[memory]
        self._tiles(memory)[tiles] = codes

    def _tiles(self, memory: Memory) -> NDArray[np.int16]:
        """Return a memory as tiles, shape ``(tiles, N, N)``."""
        n = self.geometry.array
        codes = self._codes[memory]
        return codes.reshape(len(codes) // n, n, n)


@dataclass(frozen=True)
class _Decoded:
    """An instruction, and the numbers of the tiles that it reads and writes in the first step.

    `exact` is the floating-point type in which its sums are exact.
    """

    instruction: Instruction
    a: tuple[NDArray[np.intp], ...]
    b: tuple[NDArray[np.intp], ...]
    aux: NDArray[np.intp]
    destination: NDArray[np.intp]
    exact: type[np.floating[Any]]


def _decode(instruction: Instruction, geometry: Geometry) -> _Decoded:
    n = geometry.array

    def numbers(addresses: NDArray[np.int64]) -> NDArray[np.intp]:
        return (addresses // n).astype(np.intp)

    most = 1 << (geometry.operand_bits - 1)

    def magnitude(segment: Segment) -> int:
        return segment.k * most * (1 << segment.ones_shift if segment.ones else most)

    bound = sum(magnitude(segment) for segment in instruction.segments)
    return _Decoded(
        instruction,
        tuple(numbers(a_tiles(instruction, segment, n)) for segment in instruction.segments),
        tuple(numbers(b_tiles(instruction, segment, n)) for segment in instruction.segments),
        numbers(aux_tiles(instruction)),
        numbers(destination_tiles(instruction)),
        np.float32 if bound < _EXACT_IN_FLOAT32 else np.float64,
    )


def _gate(gate: Gate, codes: NDArray[np.int64], aux: NDArray[np.int16] | None) -> NDArray[np.int64]:
    if gate == Gate.RELU:
        return np.maximum(codes, 0)
    if gate == Gate.MASK:
        assert aux is not None
        return np.where(aux > 0, codes, 0)
    if gate == Gate.HINGE:
        assert aux is not None
        return np.where(aux > 0, np.minimum(codes, 0), np.maximum(codes, 0))
    return codes
