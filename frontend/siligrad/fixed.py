"""Fixed-point numbers: formats, rounding, saturation. The one definition of the arithmetic.

Trainer, compiler, reference and tests use these functions; the hardware is compared with them. The
rules, with every formula, are in ``docs/spec/numerics.md``.

>>> q = QFormat(bits=16, frac=12)
>>> q.encode([0.5, -9.0]).tolist()
[2048, -32767]
>>> q.decode([2048]).tolist()
[0.5]
>>> shift_round(np.array([5, 6, 7, 10]), 2, Rounding.HALF_EVEN).tolist()  # 1.25, 1.5, 1.75, 2.5
[1, 2, 2, 2]
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siligrad.errors import SiligradError
from siligrad.isa import DRAW_BITS, SHIFT_MAX, Rounding

__all__ = ["FormatError", "QFormat", "Rounding", "narrow", "saturate", "shift_round"]


_Integer = TypeVar("_Integer", bound=np.signedinteger[Any])


class FormatError(SiligradError, ValueError):
    """A number format does not exist, or a value has no code in it."""


@dataclass(frozen=True, slots=True)
class QFormat:
    """Signed, symmetric two's-complement format holding ``code * 2**-frac``.

    Parameters
    ----------
    bits
        Width of a code, 2 to 32.
    frac
        Fraction bits; negative, or more than `bits`, where values are large or small.
    """

    bits: int
    frac: int

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 32:
            raise FormatError(f"bits must be from 2 to 32, not {self.bits}")

    @classmethod
    def covering(cls, bits: int, magnitude: float) -> QFormat:
        """Return the format of most fraction bits in which ``+-magnitude`` does not saturate.

        A magnitude of zero gives ``frac = bits - 1``.

        >>> QFormat.covering(16, 1.0)
        QFormat(bits=16, frac=14)
        """
        if not (math.isfinite(magnitude) and magnitude >= 0):
            raise FormatError(f"magnitude must be finite and not negative, not {magnitude}")
        if magnitude == 0:
            return cls(bits, bits - 1)
        largest = (1 << (bits - 1)) - 1
        frac = bits - 1 - math.frexp(magnitude)[1]
        if np.rint(math.ldexp(magnitude, frac)) > largest:
            frac -= 1
        return cls(bits, frac)

    @property
    def limit(self) -> int:
        """The largest code; the smallest is its negative."""
        return (1 << (self.bits - 1)) - 1

    @property
    def largest(self) -> float:
        """The largest value."""
        return math.ldexp(self.limit, -self.frac)

    @property
    def resolution(self) -> float:
        """The value of one code step (LSB)."""
        return math.ldexp(1.0, -self.frac)

    def encode(self, x: ArrayLike) -> NDArray[np.int32]:
        """Round `x` to the nearest code, ties to even, and saturate at :attr:`limit`.

        Raises
        ------
        FormatError
            If an element is NaN; saturation has no answer for it.
        """
        with np.errstate(over="ignore", under="ignore"):  # what overflows saturates like infinity
            scaled = np.ldexp(np.asarray(x, dtype=np.float64), self.frac)
        if np.isnan(scaled).any():
            where = np.argwhere(np.isnan(scaled))[0].tolist()
            raise FormatError(f"cannot encode NaN as {self}, at index {where}")
        return np.clip(np.rint(scaled), -self.limit, self.limit).astype(np.int32)

    def decode(self, codes: ArrayLike) -> NDArray[np.float64]:
        """Return the values that `codes` stand for; exact."""
        return np.ldexp(np.asarray(codes).astype(np.float64), -self.frac)

    def __str__(self) -> str:
        return f"{self.bits} bits, {self.frac} of fraction"


def shift_round(
    codes: NDArray[np.int64],
    shift: int,
    rounding: Rounding,
    draws: NDArray[np.unsignedinteger[Any]] | None = None,
) -> NDArray[np.int64]:
    """Return ``(codes + addend) >> shift``; the addend selects the rounding.

    Parameters
    ----------
    codes
        Exact sums, magnitude below ``2**62``.
    shift
        0 to :data:`siligrad.isa.SHIFT_MAX`.
    rounding
        Which addend.
    draws
        For stochastic rounding, one draw of :data:`siligrad.isa.DRAW_BITS` bits for each code.
    """
    if not 0 <= shift <= SHIFT_MAX:
        raise FormatError(f"shift must be from 0 to {SHIFT_MAX}, not {shift}")
    codes = np.asarray(codes, dtype=np.int64)
    if shift == 0:
        return codes
    addend: NDArray[np.int64] | np.int64
    if rounding == Rounding.HALF_EVEN:
        addend = (1 << (shift - 1)) - 1 + ((codes >> shift) & 1)
    elif rounding == Rounding.STOCHASTIC:
        if draws is None:
            raise FormatError("stochastic rounding needs draws")
        # floor(draw * 2**shift / 2**DRAW_BITS)
        if shift < DRAW_BITS:
            addend = (draws >> (DRAW_BITS - shift)).astype(np.int64)
        else:
            addend = draws.astype(np.int64) << (shift - DRAW_BITS)
    elif rounding == Rounding.FLOOR:
        addend = np.int64(0)
    else:
        addend = np.int64(1 << (shift - 1))
    rounded = codes + addend
    rounded >>= shift
    return rounded


def narrow(codes: NDArray[_Integer], word_bits: int, operand_bits: int) -> NDArray[_Integer]:
    """Return the operands of the array that words of `word_bits` become: their top bits, rounded.

    Ties go up. An operand stands for ``2**(word_bits - operand_bits)`` times as much as a code.

    >>> narrow(np.array([128, 127, -128, -129, 32767, -32767]), 16, 8).tolist()
    [1, 0, 0, -1, 127, -127]
    """
    dropped = word_bits - operand_bits
    if dropped == 0:
        return codes
    limit = (1 << (operand_bits - 1)) - 1
    # (codes + half) >> dropped, in as many bits as the codes have
    return np.clip((codes >> dropped) + (codes >> (dropped - 1) & 1), -limit, limit)


def saturate(codes: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """Clip `codes` to the symmetric range of `bits`-bit codes."""
    limit = (1 << (bits - 1)) - 1
    return np.clip(codes, -limit, limit)
