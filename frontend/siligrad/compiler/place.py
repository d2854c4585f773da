"""Give every matrix its words: static allocation with liveness, in each memory by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from siligrad.compiler.ir import Kernel, Matrix, Operation
from siligrad.errors import SiligradError
from siligrad.isa import ADDRESS_BITS, ONE_STEP, Loop, Memory
from siligrad.program import Role

__all__ = ["CapacityError", "Layout", "place", "words_of"]


class CapacityError(SiligradError, ValueError):
    """A program does not fit its target's memories."""


def words_of(matrix: Matrix, array: int) -> int:
    """Words that `matrix` takes in each bank."""
    return -(-matrix.rows // array) * -(-matrix.columns // array) * array


@dataclass(frozen=True, slots=True)
class Layout:
    """Where every matrix is.

    Parameters
    ----------
    memories
        The memory of each matrix.
    bases
        Its first word in each bank.
    moving
        The matrices of which there is one for each step of a run.
    loop
        The steps, and the words from those matrices in one step to those in the next.
    """

    memories: Mapping[Matrix, Memory]
    bases: Mapping[Matrix, int]
    moving: frozenset[Matrix] = frozenset()
    loop: Loop = ONE_STEP

    def words(self, memory: Memory, array: int) -> int:
        """Words in each bank of `memory` up to the last that is used in any step."""
        last = (self.loop.steps - 1) * self.loop.stride(memory)
        return max(
            (
                base + words_of(matrix, array) + (last if matrix in self.moving else 0)
                for matrix, base in self.bases.items()
                if self.memories[matrix] == memory
            ),
            default=array,
        )

    def largest(self, memory: Memory, array: int) -> str:
        """Return the names and words of the matrices that take most of `memory`."""
        here = [matrix for matrix in self.bases if self.memories[matrix] == memory]
        here.sort(key=lambda matrix: -self._words_in_all(matrix, array))
        return ", ".join(
            f"{matrix.name} ({matrix.rows} x {matrix.columns}, {self._words_in_all(matrix, array)} "
            "words)"
            for matrix in here[:3]
        )

    def remedies(self, memory: Memory, depth: int, array: int) -> list[str]:
        """Return what would let the matrices fit `depth` words of `memory`, as far as is known."""
        result = []
        here = [matrix for matrix in self.bases if self.memories[matrix] == memory]
        moving = sum(words_of(matrix, array) for matrix in here if matrix in self.moving)
        others = self.words(memory, array) - self.loop.steps * moving
        steps = (depth - others) // moving if moving else 0
        if steps >= 1:
            result.append(f"{steps} steps instead of {self.loop.steps}")
        batch = next((m.rows for m in self.bases if m.role == Role.INPUT and m.rows > array), None)
        fixed = sum(words_of(matrix, array) for matrix in here if matrix.rows != batch)
        scaled = self.words(memory, array) - fixed
        if batch is not None and scaled > 0:
            rows = (depth - fixed) * -(-batch // array) // scaled
            if rows >= 1:
                result.append(f"a batch of {rows * array} instead of {batch}")
        return result or ["fewer channels"]

    def _words_in_all(self, matrix: Matrix, array: int) -> int:
        return words_of(matrix, array) * (self.loop.steps if matrix in self.moving else 1)


def place(
    kernel: Kernel,
    order: Sequence[Operation],
    memories: Mapping[Matrix, Memory],
    array: int,
    steps: int = 1,
) -> Layout:
    """Give every matrix its words.

    What a host writes or reads keeps its words for the whole program. A temporary takes the first
    gap that is free from its first write to its last read, in the order in which the operations
    run. (Words may be reused at once: an operation's reads are over before the next one writes.)

    Where a run has several steps, what a host writes or reads for each of them moves: in each
    memory these matrices of one step lie side by side, those of the next step follow, and nothing
    else lies between.
    """
    moving = kernel.streamed if steps > 1 else frozenset()
    lifetime: dict[Matrix, tuple[int, int]] = {}
    for index, operation in enumerate(order):
        for matrix in (*operation.reads, operation.destination):
            first, _ = lifetime.get(matrix, (index, index))
            lifetime[matrix] = (first, index)
    bases: dict[Matrix, int] = {}
    strides = dict.fromkeys(Memory, 0)
    for matrix in kernel.matrices:
        if matrix in moving:
            memory = memories[matrix]
            bases[matrix] = strides[memory]
            strides[memory] += words_of(matrix, array)
    tops = {memory: steps * stride for memory, stride in strides.items()}
    for matrix in kernel.matrices:
        if matrix not in moving and (matrix.role != Role.TEMPORARY or matrix in kernel.results):
            memory = memories[matrix]
            bases[matrix] = tops[memory]
            tops[memory] += words_of(matrix, array)
    placed: dict[Memory, list[tuple[int, int, int]]] = {memory: [] for memory in Memory}
    temporary = [m for m in kernel.matrices if m in lifetime and m not in bases]
    for matrix in sorted(temporary, key=lambda m: lifetime[m][0]):
        first, final = lifetime[matrix]
        memory, size = memories[matrix], words_of(matrix, array)
        base = tops[memory]
        for low, high, last in sorted(placed[memory]):  # all were written before
            if first <= last and low < base + size and base < high:
                base = high
        bases[matrix] = base
        placed[memory].append((base, base + size, final))
    if any(stride >= 1 << ADDRESS_BITS for stride in strides.values()):
        raise CapacityError(
            f"the data of one step takes {max(strides.values())} words a bank of a memory, and "
            f"{(1 << ADDRESS_BITS) - 1} are the most; use a smaller batch"
        )
    loop = Loop(steps, strides[Memory.X], strides[Memory.W], strides[Memory.E])
    return Layout(memories, bases, moving, loop)
