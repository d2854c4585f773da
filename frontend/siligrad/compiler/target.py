"""What a program is compiled for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from siligrad.compiler.place import CapacityError
from siligrad.isa import Geometry, Memory, Rounding

__all__ = ["Target"]

_DEPTH_NAMES = {Memory.X: "x_depth", Memory.W: "w_depth", Memory.E: "e_depth"}


@dataclass(frozen=True, slots=True)
class Target:
    """An accelerator to compile for, and how it is to round.

    Parameters
    ----------
    array
        N, from 2 to 16: the array is N x N.
    operand_bits, sum_bits
        Widths of an operand of the array and of an accumulator.
    word_bits
        Width of what the memories hold. With narrower operands the array multiplies the rounded top
        bits, and an update still adds to all of them.
    x_depth, w_depth, e_depth
        Words in each bank of X, W and E. Left out, the next power of two that the program needs.
    program_depth
        Lines of program memory; likewise.
    rounding, update_rounding
        Of forward and backward results, and of what an update writes.
    """

    array: int = 8
    operand_bits: int = 16
    sum_bits: int = 40
    x_depth: int | None = None
    w_depth: int | None = None
    e_depth: int | None = None
    program_depth: int | None = None
    word_bits: int = 16
    rounding: Rounding = Rounding.HALF_EVEN
    update_rounding: Rounding = Rounding.STOCHASTIC

    def __post_init__(self) -> None:
        Geometry(
            array=self.array,
            operand_bits=self.operand_bits,
            sum_bits=self.sum_bits,
            word_bits=self.word_bits,
        )

    @property
    def dropped_bits(self) -> int:
        """Low bits of a word that an operand of the array is rounded by."""
        return self.word_bits - self.operand_bits

    def geometry(self, words: Mapping[Memory, int], lines: int) -> Geometry:
        """Return the geometry for a program of `words` in each bank and `lines` of program.

        Raises
        ------
        CapacityError
            If it does not fit; the message says which memory, and how many words over.
        """
        depths = {}
        for memory, name in _DEPTH_NAMES.items():
            depth = getattr(self, name)
            if depth is None:
                depth = max(256, _power_of_two(words[memory]))
            if words[memory] > depth:
                raise CapacityError(
                    f"memory {memory.name} is {words[memory] - depth} words a bank over: the "
                    f"program needs {words[memory]}, the target has {depth}. Use a smaller batch "
                    f"or fewer channels, or a target with {name}={_power_of_two(words[memory])}"
                )
            depths[name] = depth
        program_depth = self.program_depth or max(64, _power_of_two(lines))
        return Geometry(
            array=self.array,
            operand_bits=self.operand_bits,
            sum_bits=self.sum_bits,
            program_depth=program_depth,
            word_bits=self.word_bits,
            **depths,
        )


def _power_of_two(count: int) -> int:
    return 1 << max(count - 1, 1).bit_length()
