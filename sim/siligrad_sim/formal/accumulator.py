"""Check that the bound of a sum is one, and the least: docs/design/0008-proofs.md has the proof.

At small widths everything is tried: all operands, all sets of terms (so every partial sum in every
order), all limits. The largest magnitude that is found must be what
:func:`siligrad.checker.accumulator_bound` says, no more (then a sum could wrap) and no less (then
the compiler would refuse what is right).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations_with_replacement, product

import numpy as np
from numpy.typing import NDArray

from siligrad.checker import accumulator_bound, operand_limit
from siligrad_sim.benches.specification import operand
from siligrad_sim.formal.proof import Proof, Verdict

__all__ = ["ACCUMULATOR", "check_bound", "check_operands"]

Bound = Callable[[Sequence[tuple[int, int, int]]], int]
Limit = Callable[[int, int, int], int]

_SEGMENTS = ((1,), (2,), (3,), (1, 1), (2, 1))
"""Terms of each segment."""

_WIDTHS = ((4, 4), (6, 4), (8, 4), (8, 5), (8, 7), (8, 8), (12, 8), (16, 8))
"""Bits of a word and of an operand."""


def check_bound(bound: Bound = accumulator_bound) -> Verdict:
    """Compare the bound with the largest partial sum, for operands of 3 and 4 bits."""
    tried = 0
    for bits, segments in product((3, 4), _SEGMENTS):
        if bits == 4 and sum(segments) > 2:
            continue
        largest = (1 << (bits - 1)) - 1
        for limits in combinations_with_replacement(range(1, largest + 1), 2):
            terms = [(k, *limits) for k in segments]
            found = max(_partial_sums(terms))
            tried += 1
            if found != bound(terms):
                return Verdict(
                    False,
                    f"terms, limits of A and B {terms}: the largest partial sum is {found}, the "
                    f"bound {bound(terms)}",
                )
            # In an accumulator just wide enough for the bound, nothing wraps.
            half = 1 << bound(terms).bit_length()
            if any((part + half) % (2 * half) - half != part for part in (found, -found)):
                return Verdict(False, f"{terms}: {found} wraps")
    return Verdict(True, f"{tried} sums of operands of 3 and 4 bits")


def _partial_sums(terms: Sequence[tuple[int, int, int]]) -> Iterator[int]:
    """Yield the largest magnitude of each set of terms, over all operands within their limits."""
    products = [_products(a, b) for k, a, b in terms for _ in range(k)]
    for chosen in product((False, True), repeat=len(products)):
        sums = np.zeros(1, dtype=np.int64)
        for values, counts in zip(products, chosen, strict=True):
            if counts:
                sums = np.unique(sums[:, None] + values)
        yield int(np.abs(sums).max())


def _products(limit_a: int, limit_b: int) -> NDArray[np.int64]:
    a = np.arange(-limit_a, limit_a + 1)
    b = np.arange(-limit_b, limit_b + 1)
    return np.unique(a[:, None] * b)


def check_operands(limit_of: Limit = operand_limit) -> Verdict:
    """Compare the limit of operands with the largest one, for all limits of codes."""
    tried = 0
    for word_bits, operand_bits in _WIDTHS:
        largest = 0
        for code in range(1 << (word_bits - 1)):
            for signed in (code, -code):
                largest = max(largest, abs(operand(signed, word_bits, operand_bits)))
            if code == 0 or (word_bits > 12 and code % 16 not in {0, 1, 8, 15}):
                continue  # the largest operand so far counts on; of 16 bits a quarter is compared
            tried += 1
            if limit_of(code, word_bits, operand_bits) != largest:
                return Verdict(
                    False,
                    f"codes up to {code} of {word_bits} bits give operands up to {largest} of "
                    f"{operand_bits} bits, not {limit_of(code, word_bits, operand_bits)}",
                )
    return Verdict(True, f"{tried} limits of codes")


def _check(array: int) -> Verdict:
    del array
    verdicts = [check_bound(), check_operands()]
    failed = next((verdict for verdict in verdicts if not verdict.holds), None)
    return failed or Verdict(True, "; ".join(verdict.reason for verdict in verdicts))


def _one_term_short(terms: Sequence[tuple[int, int, int]]) -> int:
    return accumulator_bound([(k - (number == 0), a, b) for number, (k, a, b) in enumerate(terms)])


def _cut_off(limit: int, word_bits: int, operand_bits: int) -> int:
    return limit >> (word_bits - operand_bits)


ACCUMULATOR = Proof(
    name="accumulator",
    scope=(
        "the bound that the compiler compares with the accumulator is the largest magnitude of any "
        "partial sum in any order, reached by some data: proved in docs/design/0008-proofs.md, and "
        "tried for all operands of 3 bits and up to 3 terms, of 4 bits and up to 2, in 1 and 2 "
        "segments; the limit of an operand is that of the codes it is rounded from, tried for all "
        "limits of words of 4 to 12 bits and a quarter of those of 16"
    ),
    check=_check,
    controls={
        "the bound has a term too few": lambda array: check_bound(_one_term_short),
        "operands are thought to be cut off, not rounded": lambda array: check_operands(_cut_off),
    },
)
"""The accumulator's bound is sound, and no larger than it must be."""
