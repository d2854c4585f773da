"""Choose the fraction bits of every matrix, and the shift of every operation.

Each matrix starts with the most fraction bits that its calibrated range allows. Then the rules of
the hardware are applied until none is broken: an auxiliary operand has the format of the result,
all products that an operation sums have the same fraction, and a shift never goes left. Every rule
is mended by taking fraction bits away, which never makes anything saturate, so this ends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from siligrad.compiler.ir import Kernel, Matrix, Operation, Term
from siligrad.compiler.lower import LoweringError
from siligrad.compiler.target import Target
from siligrad.fixed import QFormat
from siligrad.isa import SHIFT_MAX

__all__ = ["Formats", "choose_formats"]

_TOLERANCE = 2.0**-20
"""Relative distance at which a factor is taken for the power of two that it was meant to be."""

_MOST_GIVEN_WAY = 64
"""Fraction bits below the coarsest matrix at which rules contradict each other: no format has
them."""


@dataclass(frozen=True, slots=True)
class Formats:
    """What :func:`choose_formats` decided.

    Parameters
    ----------
    fractions
        Fraction bits of each matrix.
    shifts
        Right shift of each operation.
    ones
        Exponent of the one in each term that is only added (with ones, or the identity), by
        operation and position.
    notes
        Factors that were rounded to a power of two, as sentences.
    """

    fractions: Mapping[Matrix, int]
    shifts: Mapping[Operation, int]
    ones: Mapping[tuple[Operation, int], int]
    notes: tuple[str, ...]


def choose_formats(
    kernel: Kernel,
    ranges: Mapping[Matrix, float],
    fixed: Mapping[Matrix, int],
    target: Target,
    *,
    round_factors: bool,
) -> Formats:
    """Choose formats for `kernel`.

    Parameters
    ----------
    kernel
        The operations, and the matrices between them.
    ranges
        Largest magnitude of each matrix that must not saturate; of identities, none.
    fixed
        Fraction bits that the caller wants at most, for some matrices.
    target
        Widths of a word and of an operand.
    round_factors
        Whether a factor that is no power of two is rounded to one instead of refused.

    Raises
    ------
    LoweringError
        If a factor is no power of two, or no shift reaches the result's format.
    """
    notes: list[str] = []
    exponents: dict[Term, int] = {}
    for operation in kernel.operations:
        for term in operation.terms:
            exponents[term] = _exponent(operation, term, round_factors, notes)
    fractions: dict[Matrix, int] = {}
    for matrix in kernel.matrices:
        if not matrix.identity:  # that has as many as its one needs
            most = QFormat.covering(target.word_bits, ranges[matrix]).frac
            fractions[matrix] = min(most, fixed.get(matrix, most))
    lowest = min(fractions.values(), default=0) - _MOST_GIVEN_WAY
    changed = True
    while changed:
        before = dict(fractions)
        for operation in kernel.operations:
            _apply_rules(operation, exponents, fractions, target)
            if fractions[operation.destination] < lowest:
                raise LoweringError(
                    f"{operation.source}: no formats satisfy {operation.destination.name} and what "
                    "is added to it at once; use wider operands"
                )
        changed = fractions != before

    shifts = {}
    ones = {}
    for operation in kernel.operations:
        fraction = _sum_fraction(operation, exponents, fractions, target)
        shift = fraction - fractions[operation.destination]
        if shift > SHIFT_MAX:
            raise LoweringError(
                f"{operation.source}: {operation.destination.name} would need a shift of {shift} "
                f"bits, but {SHIFT_MAX} is the most; its factor is too small to have an effect "
                "(learning rate?)"
            )
        shifts[operation] = shift
        for index, term in enumerate(operation.terms):
            if term.copied is not None:
                one = _exponent_of_one(term, fraction, exponents, fractions)
                ones[operation, index] = one
                if term.a is not None:
                    fractions[term.b.matrix] = one + target.dropped_bits
    return Formats(fractions, shifts, ones, tuple(dict.fromkeys(notes)))


def _exponent(operation: Operation, term: Term, round_factors: bool, notes: list[str]) -> int:
    """Return the exponent of two that a term's coefficient is."""
    magnitude = abs(term.coefficient)
    exponent = round(math.log2(magnitude))
    if abs(magnitude / 2.0**exponent - 1) > _TOLERANCE:
        ratio = 2.0**exponent / magnitude
        what = (
            f"{operation.source}: {operation.destination.name} is changed by {magnitude:.6g} "
            "times a product"
        )
        if not round_factors:
            raise LoweringError(
                f"{what}, which is no power of two; multiply the learning rate by {ratio:.6g} "
                f"(or by {ratio * (2 if ratio < 1 else 0.5):.6g}), or compile with "
                "round_factors=True"
            )
        notes.append(f"{what}; rounded to 2**{exponent}")
    return exponent


def _sum_fraction(
    operation: Operation,
    exponents: Mapping[Term, int],
    fractions: Mapping[Matrix, int],
    target: Target,
) -> int:
    """Return the fraction bits of the sum: the least of its products; ones follow."""
    # Each operand has dropped so many bits, and the epilogue is given the sum with as many zeros.
    dropped = target.dropped_bits
    products = [
        fractions[term.a.matrix] + fractions[term.b.matrix] - dropped - exponents[term]
        for term in operation.terms
        if term.a is not None and not term.copied
    ]
    if products:
        return min(products)
    # Ones alone may be any power of two: the least that needs no shift to the left.
    finest = max(
        fractions[term.copied] - exponents[term] for term in operation.terms if term.copied
    )
    return max(finest, fractions[operation.destination])


def _exponent_of_one(
    term: Term,
    fraction: int,
    exponents: Mapping[Term, int],
    fractions: Mapping[Matrix, int],
) -> int:
    """Return the exponent of the one that brings a copied operand to the sum's fraction bits."""
    assert term.copied is not None
    return fraction - fractions[term.copied] + exponents[term]


def _apply_rules(
    operation: Operation,
    exponents: Mapping[Term, int],
    fractions: dict[Matrix, int],
    target: Target,
) -> None:
    destination = operation.destination
    if operation.aux is not None and operation.aux_mode:
        common = min(fractions[operation.aux.matrix], fractions[destination])
        fractions[operation.aux.matrix] = fractions[destination] = common
    _equalise_products(operation, exponents, fractions)
    fraction = _sum_fraction(operation, exponents, fractions, target)
    most = target.operand_bits - 2
    for term in operation.terms:
        if term.copied is not None:
            one = _exponent_of_one(term, fraction, exponents, fractions)
            if one < 0:
                fractions[term.copied] += one
            elif one > most:
                _lower_products(operation, fractions, one - most)
                return
    fractions[destination] = min(fractions[destination], fraction)


def _equalise_products(
    operation: Operation, exponents: Mapping[Term, int], fractions: dict[Matrix, int]
) -> None:
    """Give all products of `operation` the fraction of the least.

    Of a product with too many bits, each operand gives way only down to what its counterpart in the
    least product has. So no matrix ever falls below all others, however the sums of a network are
    entangled (a recurrent one's are), and this ends.
    """
    products = [term for term in operation.terms if not term.copied]
    if len(products) < 2:
        return

    def parts(term: Term) -> tuple[int, int]:
        assert term.a is not None
        return fractions[term.a.matrix] - exponents[term], fractions[term.b.matrix]

    least_a, least_b = min((parts(term) for term in products), key=sum)
    for term in products:
        a, b = parts(term)
        excess = a + b - least_a - least_b
        assert term.a is not None
        from_a = min(excess, max(a - least_a, 0))
        fractions[term.a.matrix] -= from_a
        a, b = parts(term)  # the same matrix may be both operands
        fractions[term.b.matrix] -= max(a + b - least_a - least_b, 0)


def _lower_products(operation: Operation, fractions: dict[Matrix, int], excess: int) -> None:
    """Take `excess` bits from the sum of `operation`: from the finer operand of each product.

    Where there is none, the sum's fraction is the result's, which gives way.
    """
    taken: set[Matrix] = set()
    if all(term.copied for term in operation.terms):
        fractions[operation.destination] -= excess
    for term in operation.terms:
        if term.a is None or term.copied:
            continue
        a, b = term.a.matrix, term.b.matrix
        if a in taken or b in taken:
            continue
        finer = a if fractions[a] > fractions[b] else b
        fractions[finer] -= excess
        taken.add(finer)
