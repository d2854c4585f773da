"""Calibration: the magnitude that each tensor's format must cover, from its values in examples.

Three methods, for what a run may clip:

``max``
    Nothing seen saturates.
``percentile``
    That percentage of the values seen does not saturate, zeros included; a few outliers do, for the
    sake of all the others.
``mse``
    The power of two at which rounding and clipping together make the least squared error, in the
    bits that are multiplied: with operands narrower than words, those of an operand.

Memory is bounded whatever the number of examples: a histogram for each tensor, or, for ``mse``, a
second pass over the examples with a few sums for each.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siligrad.fixed import FormatError, QFormat, narrow

__all__ = [
    "METHODS",
    "Magnitudes",
    "Range",
    "SquaredErrors",
    "as_operands",
    "check_method",
    "choose_ranges",
]

METHODS = ("max", "percentile", "mse")
"""How a range can be chosen."""

_Name = TypeVar("_Name", bound=Hashable)

_MANTISSA_BITS = 6
"""A bin of a histogram is 2**-6 of its power of two wide."""

_EXPONENTS = range(-64, 64)
"""Powers of two with bins of their own; what is smaller or larger is in the first or last bin."""

_HALVINGS = 8
"""Ranges that are compared for the least error: the largest, its half, and so on."""

_DOUBLE_MANTISSA_BITS = 52
_DOUBLE_BIAS = 1023


@dataclass(frozen=True, slots=True)
class Range:
    """What calibration found of one tensor.

    Parameters
    ----------
    seen
        The largest magnitude in any example.
    covered
        The magnitude that the format should cover; at most `seen`, or the largest value of the
        format that covers it.
    """

    seen: float
    covered: float


class Magnitudes:
    """A histogram of magnitudes: 64 bins for each power of two from ``2**-64`` to ``2**63``.

    It takes 64 KiB, however many values are added.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(len(_EXPONENTS) << _MANTISSA_BITS, np.int64)
        self.largest = 0.0

    @property
    def count(self) -> int:
        """Number of values that were added."""
        return int(self._counts.sum())

    def add(self, values: ArrayLike) -> None:
        """Count the magnitudes of `values`, which are finite."""
        magnitudes = np.abs(np.asarray(values, dtype=np.float64)).ravel()
        if magnitudes.size == 0:
            return
        self.largest = max(self.largest, float(magnitudes.max()))
        # Exponent and leading bits of the mantissa of a double are in order of magnitude.
        leading = magnitudes.view(np.int64) >> (_DOUBLE_MANTISSA_BITS - _MANTISSA_BITS)
        bins = leading - ((_DOUBLE_BIAS + _EXPONENTS.start) << _MANTISSA_BITS)
        bins = np.clip(bins, 0, len(self._counts) - 1)
        self._counts += np.bincount(bins, minlength=len(self._counts))

    @property
    def octaves(self) -> dict[int, int]:
        """Return how many magnitudes there are from ``2**e`` to below ``2**(e + 1)``, by ``e``.

        Zeros are nowhere; neither is what is less than ``2**-63``.
        """
        counts = self._counts.reshape(len(_EXPONENTS), -1).sum(axis=1)
        counts[0] = 0
        return {_EXPONENTS[at]: int(counts[at]) for at in np.flatnonzero(counts)}

    def percentile(self, percentage: float) -> float:
        """Return a magnitude that `percentage` percent of the values do not exceed.

        Zeros count. It is the least such magnitude up to 2**-6 of its value, and never more than
        the largest; 0 if there are no values.
        """
        if self.largest == 0:
            return 0.0
        needed = np.ceil(self.count * (percentage / 100))
        index = int(np.searchsorted(np.cumsum(self._counts), max(needed, 1)))
        if index == len(self._counts) - 1:
            return self.largest
        exponent, mantissa = divmod(index + 1, 1 << _MANTISSA_BITS)
        edge = np.ldexp(1 + mantissa / (1 << _MANTISSA_BITS), _EXPONENTS.start + exponent)
        return min(float(edge), self.largest)


def as_operands(values: NDArray[Any], format: QFormat, operand_bits: int) -> NDArray[np.float64]:  # noqa: A002
    """Return the values that the array multiplies in the place of `values`.

    They are encoded in words of `format`, of which an operand is the rounded top bits.
    """
    dropped = format.bits - operand_bits
    codes = narrow(format.encode(values), format.bits, operand_bits)
    return np.ldexp(codes.astype(np.float64), dropped - format.frac)


class SquaredErrors:
    """The squared error that each of several ranges would make, value by value, exactly.

    Parameters
    ----------
    word_bits, operand_bits
        Width of a word, and of what is made of it before it is multiplied.
    largest
        The largest magnitude there is: the first range covers it, each further one half as much as
        the one before.
    """

    def __init__(self, word_bits: int, operand_bits: int, largest: float) -> None:
        widest = QFormat.covering(word_bits, largest)
        self.operand_bits = operand_bits
        self.formats = tuple(
            QFormat(word_bits, widest.frac + halvings) for halvings in range(_HALVINGS)
        )
        self.sums = np.zeros(len(self.formats))

    def add(self, values: NDArray[Any]) -> None:
        """Add the squared errors of `values`."""
        for index, each in enumerate(self.formats):
            error = as_operands(values, each, self.operand_bits) - values
            self.sums[index] += np.vdot(error, error)

    @property
    def best(self) -> QFormat:
        """The format with the least error; of equals, that of the larger range."""
        return self.formats[int(np.argmin(self.sums))]


def check_method(method: str, percentile: float) -> None:
    """Check the two parameters that say how ranges are chosen.

    Raises
    ------
    FormatError
        If there is no such method, or the percentage is none.
    """
    if method not in METHODS:
        raise FormatError(f"method must be max, percentile or mse, not {method!r}")
    if not 0 < percentile <= 100:
        raise FormatError(f"percentile must be above 0 and at most 100, not {percentile}")


def choose_ranges(
    observe: Callable[[], Iterable[tuple[_Name, NDArray[Any]]]],
    widths: Mapping[_Name, tuple[int, int]],
    method: str = "max",
    percentile: float = 99.99,
) -> dict[_Name, Range]:
    """Choose a range for every tensor.

    Parameters
    ----------
    observe
        Called for each pass: goes through the examples and yields each tensor's values in each,
        finite, under any name; the same in every pass.
    widths
        For tensors that may be clipped: the width of a word, and of what it is read as by what
        multiplies it. All others get the largest magnitude.
    method, percentile
        One of :data:`METHODS`, and the percentage for ``percentile``.

    Raises
    ------
    FormatError
        If there is no such method, or the percentage is none.
    """
    check_method(method, percentile)
    seen: dict[_Name, float] = {}
    histograms = {name: Magnitudes() for name in widths} if method == "percentile" else {}
    for name, values in observe():
        seen[name] = max(seen.get(name, 0.0), float(np.abs(values).max(initial=0)))
        if name in histograms:
            histograms[name].add(values)
    covered = dict(seen)
    for name, histogram in histograms.items():
        covered[name] = histogram.percentile(percentile)
    if method == "mse":
        errors = {
            name: SquaredErrors(*each, seen[name]) for name, each in widths.items() if seen[name]
        }
        for name, values in observe():
            if name in errors:
                errors[name].add(values)
        covered |= {name: each.best.largest for name, each in errors.items()}
    return {name: Range(seen[name], covered[name]) for name in seen}
