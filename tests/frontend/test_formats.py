"""Fractions and shifts of hand-made kernels, against sums done by hand.

The range of a matrix is given as the fraction bits that it leaves a 16-bit word: the largest
magnitude of ``frac`` bits is ``(2**15 - 1) * 2**-frac``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from siligrad.compiler import LoweringError, Target
from siligrad.compiler.formats import Formats, choose_formats
from siligrad.compiler.ir import Matrix, Operation
from siligrad.fixed import QFormat
from siligrad.isa import AuxMode
from tests.frontend.kernels import kernel, matrix, operation, product, row


def chosen(
    *operations: Operation,
    fractions: Mapping[Matrix, int],
    fixed: Mapping[Matrix, int] | None = None,
    target: Target | None = None,
    round_factors: bool = False,
) -> Formats:
    target = target or Target()
    return choose_formats(
        kernel(*operations),
        {m: QFormat(target.word_bits, frac).largest for m, frac in fractions.items()},
        fixed or {},
        target,
        round_factors=round_factors,
    )


A, B, C, D, F, G = (matrix(name) for name in "ABCDFG")
OUT = matrix("out")
EYE = matrix("eye", identity=True)


@pytest.mark.parametrize(
    ("coefficient", "shift"), [(1.0, 15), (0.25, 17), (-0.25, 17), (8.0, 12), (-1.0, 15)]
)
def test_a_product_has_the_fractions_of_both_and_its_factor_is_in_the_shift(
    coefficient: float, shift: int
) -> None:
    # 13 + 12 bits, and as many more as the factor divides by; 10 of them are kept.
    op = operation(OUT, product(A, B, coefficient))
    formats = chosen(op, fractions={A: 13, B: 12, OUT: 10})
    assert formats.fractions == {A: 13, B: 12, OUT: 10}
    assert formats.shifts == {op: shift}
    assert (formats.ones, formats.notes) == ({}, ())


def test_a_result_has_no_more_bits_than_its_sum() -> None:
    op = operation(OUT, product(A, B))
    formats = chosen(op, fractions={A: 13, B: 12, OUT: 40})
    assert (formats.fractions[OUT], formats.shifts[op]) == (25, 0)


def test_what_the_caller_fixes_is_the_most_and_nothing_else() -> None:
    op = operation(OUT, product(A, B))
    formats = chosen(op, fractions={A: 13, B: 12, OUT: 10}, fixed={A: 11, B: 14})
    assert formats.fractions == {A: 11, B: 12, OUT: 10}


def test_narrow_operands_have_dropped_bits_before_they_are_multiplied() -> None:
    op = operation(OUT, product(A, B))
    formats = chosen(
        op, fractions={A: 13, B: 12, OUT: 10}, target=Target(operand_bits=8, sum_bits=32)
    )
    assert formats.shifts[op] == 13 + 12 - 8 - 10  # each lost 8 bits; the epilogue adds 8 zeros


@pytest.mark.parametrize(("aux", "out"), [(9, 12), (12, 9)])
def test_what_is_added_to_the_sum_has_the_format_of_the_result(aux: int, out: int) -> None:
    op = operation(OUT, product(A, B), aux=C, aux_mode=AuxMode.SUBTRACT)
    formats = chosen(op, fractions={A: 13, B: 12, C: aux, OUT: out})
    assert (formats.fractions[C], formats.fractions[OUT]) == (9, 9)
    assert formats.shifts[op] == 25 - 9


def test_a_mask_may_have_any_format() -> None:
    op = operation(OUT, product(A, B), aux=C)
    formats = chosen(op, fractions={A: 13, B: 12, C: 3, OUT: 10})
    assert (formats.fractions[C], formats.fractions[OUT]) == (3, 10)


def test_products_that_are_added_have_the_fraction_of_the_least() -> None:
    # 14 + 13 = 27 is the least, so A @ B has three too many: A gives down to 14, B gives the rest.
    op = operation(OUT, product(A, B), product(C, D))
    formats = chosen(op, fractions={A: 15, B: 15, C: 14, D: 13, OUT: 10})
    assert formats.fractions == {A: 14, B: 13, C: 14, D: 13, OUT: 10}
    assert formats.shifts[op] == 17


def test_factors_count_where_products_are_compared() -> None:
    # A @ B / 4 has 30 + 2 bits and C @ D 30: A counts as 17 bits there and gives two.
    op = operation(OUT, product(A, B, 0.25), product(C, D))
    formats = chosen(op, fractions={A: 15, B: 15, C: 15, D: 15, OUT: 10})
    assert formats.fractions == {A: 13, B: 15, C: 15, D: 15, OUT: 10}
    assert formats.shifts[op] == 20


def test_a_matrix_that_is_both_operands_gives_way_once() -> None:
    # A @ A has 30 bits, C @ D 28: A gives one bit, which is two of the product.
    op = operation(OUT, product(A, A), product(C, D))
    formats = chosen(op, fractions={A: 15, C: 14, D: 14, OUT: 10})
    assert formats.fractions == {A: 14, C: 14, D: 14, OUT: 10}


def test_a_row_is_multiplied_by_the_one_that_brings_it_to_the_sum() -> None:
    op = operation(OUT, product(A, B), row(C))
    formats = chosen(op, fractions={A: 13, B: 12, C: 14, OUT: 10})
    assert formats.ones == {(op, 1): 25 - 14}
    op = operation(OUT, product(A, B, 0.5), row(C, 4.0))
    formats = chosen(op, fractions={A: 13, B: 12, C: 14, OUT: 10})
    assert formats.ones == {(op, 1): 26 - 14 + 2}


def test_a_row_of_too_many_bits_gives_way() -> None:
    op = operation(OUT, product(A, B), row(C))
    formats = chosen(op, fractions={A: 13, B: 12, C: 28, OUT: 10})
    assert (formats.fractions[C], formats.ones[op, 1]) == (25, 0)


@pytest.mark.parametrize(
    ("row_bits", "b_bits", "one"), [(13, 14, 14), (12, 13, 14), (10, 11, 14), (14, 14, 13)]
)
def test_a_one_is_an_operand_of_the_array(row_bits: int, b_bits: int, one: int) -> None:
    # 13 + 14 bits; 2**14 is the largest power of two in 16 bits, so B, the finer, gives the rest.
    op = operation(OUT, product(A, B), row(C))
    formats = chosen(op, fractions={A: 13, B: 14, C: row_bits, OUT: 2})
    assert formats.fractions == {A: 13, B: b_bits, C: row_bits, OUT: 2}
    assert formats.ones == {(op, 1): one}
    assert formats.shifts == {op: 13 + b_bits - 2}


def test_a_result_has_no_more_bits_than_a_sum_with_the_largest_one() -> None:
    op = operation(OUT, product(A, B), row(C))
    formats = chosen(op, fractions={A: 13, B: 14, C: 13, OUT: 40})
    assert formats.fractions == {A: 13, B: 14, C: 13, OUT: 27}
    assert (formats.ones, formats.shifts) == ({(op, 1): 14}, {op: 0})


def test_a_one_of_eight_bits_is_smaller() -> None:
    # 2**6 is the largest power of two in 8 bits: 13 + 12 - 8 = 17 bits must come down to 16.
    op = operation(OUT, product(A, B), row(C))
    target = Target(operand_bits=8, sum_bits=32)
    formats = chosen(op, fractions={A: 13, B: 12, C: 10, OUT: 2}, target=target)
    assert formats.fractions == {A: 12, B: 12, C: 10, OUT: 2}
    assert (formats.ones[op, 1], formats.shifts[op]) == (6, 14)


def test_the_finer_operand_of_each_product_gives_way_and_a_shared_one_once() -> None:
    # All three products have 30 bits, one more than 15 + 14. F is in two of them, finer in both.
    op = operation(OUT, row(A), product(B, F), product(C, F), product(D, G))
    formats = chosen(op, fractions={A: 15, B: 10, C: 10, F: 20, D: 12, G: 18, OUT: 2})
    assert formats.fractions == {A: 15, B: 10, C: 10, F: 19, D: 12, G: 17, OUT: 2}
    assert formats.ones == {(op, 0): 14}
    assert formats.shifts == {op: 27}


def test_of_operands_alike_the_second_gives_way() -> None:
    op = operation(OUT, row(C), product(A, B))
    formats = chosen(op, fractions={A: 15, B: 15, C: 15, OUT: 2})
    assert (formats.fractions[A], formats.fractions[B]) == (15, 14)


def test_a_copy_is_a_product_with_an_identity_whose_one_is_chosen() -> None:
    op = operation(OUT, product(A, B), product(C, EYE))
    formats = chosen(op, fractions={A: 13, B: 12, C: 14, OUT: 10})
    assert formats.ones == {(op, 1): 11}
    assert formats.fractions[EYE] == 11  # code 1 * 2**11 is 1.0
    target = Target(operand_bits=8, sum_bits=32)
    formats = chosen(op, fractions={A: 13, B: 12, C: 14, OUT: 10}, target=target)
    assert formats.ones == {(op, 1): 17 - 14}
    assert formats.fractions[EYE] == 3 + 8  # so its word is 2**3 after eight bits are dropped


@pytest.mark.parametrize(
    ("row_bits", "out_bits", "one", "out", "shift"),
    [
        (12, 5, 0, 5, 7),  # the row is fine enough
        (12, 20, 8, 20, 0),  # the result is finer: the one makes up for it
        (12, 30, 14, 26, 0),  # no one is larger than 2**14, so the result gives way
    ],
)
def test_rows_alone_may_have_any_one(
    row_bits: int, out_bits: int, one: int, out: int, shift: int
) -> None:
    op = operation(OUT, row(A))
    formats = chosen(op, fractions={A: row_bits, OUT: out_bits})
    assert formats.ones == {(op, 0): one}
    assert formats.fractions == {A: row_bits, OUT: out}
    assert formats.shifts == {op: shift}


def test_the_finest_of_rows_alone_decides() -> None:
    op = operation(OUT, row(A), row(B, 0.5), product(C, EYE, 2.0))
    formats = chosen(op, fractions={A: 10, B: 11, C: 9, OUT: 4})
    # A has 10 bits, B 11 and one more by its factor, C 9 less one.
    assert formats.ones == {(op, 0): 2, (op, 1): 0, (op, 2): 4}
    assert formats.shifts == {op: 8}


def test_what_an_operation_gives_away_the_next_one_knows() -> None:
    # OUT is added to the second sum, so both have 6 bits, and the first one shifts further.
    last = matrix("last")
    first = operation(OUT, product(A, B))
    second = operation(last, product(A, B), aux=OUT, aux_mode=AuxMode.ADD)
    formats = chosen(first, second, fractions={A: 13, B: 12, OUT: 10, last: 6})
    assert (formats.fractions[OUT], formats.fractions[last]) == (6, 6)
    assert formats.shifts == {first: 19, second: 19}


@pytest.mark.parametrize(("exponent", "fits"), [(-32, True), (-33, False)])
def test_a_shift_has_its_limit(exponent: int, fits: bool) -> None:
    op = operation(OUT, product(A, B, 2.0**exponent))
    fractions = {A: 13, B: 12, OUT: 10}
    if fits:
        assert chosen(op, fractions=fractions).shifts[op] == 47
        return
    message = "here: out would need a shift of 48 bits, but 47 is the most"
    with pytest.raises(LoweringError, match=message):
        chosen(op, fractions=fractions)


@pytest.mark.parametrize(
    ("distance", "meant"), [(0.9, True), (-0.9, True), (1.1, False), (-1.1, False)]
)
def test_a_factor_within_a_millionth_of_a_power_of_two_is_meant_to_be_it(
    distance: float, meant: bool
) -> None:
    op = operation(OUT, product(A, B, 0.125 * (1 + distance * 2.0**-20)))
    fractions = {A: 13, B: 12, OUT: 10}
    if meant:
        formats = chosen(op, fractions=fractions)
        assert (formats.shifts[op], formats.notes) == (18, ())
        return
    with pytest.raises(LoweringError, match=r"by 0\.125 times a product, which is no power of two"):
        chosen(op, fractions=fractions)


@pytest.mark.parametrize(
    ("factor", "power", "one", "other"),
    [
        (0.3, -2, "0.833333", "1.66667"),
        (-0.2, -2, "1.25", "0.625"),
        (3.0, 2, "1.33333", "0.666667"),
    ],
)
def test_a_factor_is_refused_with_both_that_would_do_or_rounded_and_noted(
    factor: float, power: int, one: str, other: str
) -> None:
    ops = [operation(out, product(A, B, factor)) for out in (OUT, OUT, C)]
    fractions = {A: 13, B: 12, OUT: 10, C: 10}
    message = (
        f"here: out is changed by {abs(factor):g} times a product, which is no power of two; "
        rf"multiply the learning rate by {one} \(or by {other}\), or compile with "
        "round_factors=True"
    )
    with pytest.raises(LoweringError, match=message):
        chosen(ops[0], fractions={A: 13, B: 12, OUT: 10})
    formats = chosen(*ops, fractions=fractions, round_factors=True)
    notes = [note.partition("changed by ")[2] for note in formats.notes]  # each once
    assert notes == [f"{abs(factor):g} times a product; rounded to 2**{power}"] * 2
    assert formats.notes[0].startswith("here: out is")
    assert formats.shifts[ops[0]] == 15 - power


def test_rules_that_contradict_each_other_are_refused() -> None:
    # C has 20 bits less than A @ A at most, so no one of up to 2**14 brings it to A @ A: whatever
    # A gives away, C loses twice.
    large = operation(C, product(A, A, 2.0**20))
    both = operation(OUT, product(A, A), row(C))
    message = "here: no formats satisfy C and what is added to it at once; use wider operands"
    with pytest.raises(LoweringError, match=message):
        chosen(large, both, fractions={A: 15, C: 15, OUT: 2})
    less = operation(C, product(A, A, 2.0**14))
    formats = chosen(less, both, fractions={A: 15, C: 30, OUT: 2})
    assert formats.fractions == {A: 15, C: 16, OUT: 2}


def test_the_kernel_is_left_alone() -> None:
    op = operation(OUT, product(A, B))
    before = replace(kernel(op))
    chosen(op, fractions={A: 13, B: 12, OUT: 40})
    assert kernel(op) == before
