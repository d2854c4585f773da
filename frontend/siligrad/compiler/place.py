"""Give every matrix its words: static allocation with liveness, in each memory by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from siligrad.compiler.ir import Kernel, Matrix, Operation
from siligrad.errors import SiligradError
from siligrad.isa import Memory
from siligrad.program import Role

__all__ = ["CapacityError", "place", "words_of"]


class CapacityError(SiligradError, ValueError):
    """A program does not fit its target's memories."""


def words_of(matrix: Matrix, array: int) -> int:
    """Words that `matrix` takes in each bank."""
    return -(-matrix.rows // array) * -(-matrix.columns // array) * array


def place(
    kernel: Kernel, order: Sequence[Operation], memories: Mapping[Matrix, Memory], array: int
) -> dict[Matrix, int]:
    """Return the first word of each matrix.

    What a host writes or reads keeps its words for the whole program. A temporary takes the first
    gap that is free from its first write to its last read, in the order in which the operations
    run. (Words may be reused at once: an operation's reads are over before the next one writes.)
    """
    last = len(order)
    lifetime: dict[Matrix, tuple[int, int]] = {}
    for index, operation in enumerate(order):
        for matrix in (*operation.reads, operation.destination):
            first, _ = lifetime.get(matrix, (index, index))
            lifetime[matrix] = (first, index)
    bases: dict[Matrix, int] = {}
    placed: dict[Memory, list[tuple[int, int, int, int]]] = {memory: [] for memory in Memory}
    kept = [m for m in kernel.matrices if m.role != Role.TEMPORARY or m in kernel.results]
    temporary = [m for m in kernel.matrices if m in lifetime and m not in kept]
    for matrix in kept + sorted(temporary, key=lambda m: lifetime[m][0]):
        first, final = lifetime[matrix] if matrix in temporary else (-1, last)
        size = words_of(matrix, array)
        base = 0
        for low, high, from_, to in sorted(placed[memories[matrix]]):
            if from_ <= final and first <= to and low < base + size and base < high:
                base = high
        bases[matrix] = base
        placed[memories[matrix]].append((base, base + size, first, final))
    return bases
