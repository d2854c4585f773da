"""What a program is compiled for."""

from __future__ import annotations

from dataclasses import dataclass

from siligrad.compiler.place import CapacityError, Layout
from siligrad.isa import ADDRESS_BITS, Geometry, Memory, Rounding

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

    def geometry(self, layout: Layout, lines: int) -> Geometry:
        """Return the geometry for a program whose matrices lie as in `layout`.

        Parameters
        ----------
        layout
            Says how many words of each memory are needed.
        lines
            Of program.

        Raises
        ------
        CapacityError
            If it does not fit; the message says which memory, how many words over, what takes
            most, and what would fit.
        """
        depths = {}
        for memory, name in _DEPTH_NAMES.items():
            words = layout.words(memory, self.array)
            most = 1 << ADDRESS_BITS
            depth = getattr(self, name)
            if depth is None:
                depth = min(max(256, _power_of_two(words)), most)
            if words > depth:
                remedies = layout.remedies(memory, depth, self.array)
                if words <= most:
                    remedies.append(f"a target with {name}={_power_of_two(words)}")
                raise CapacityError(
                    f"memory {memory.name} is {words - depth} words a bank over: the program needs "
                    f"{words}, the target has {depth}. Most is taken by "
                    f"{layout.largest(memory, self.array)}. "
                    f"What would fit: {', or '.join(remedies)}"
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
