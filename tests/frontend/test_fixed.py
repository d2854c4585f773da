from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siligrad.fixed import FormatError, QFormat, Rounding, narrow, saturate, shift_round
from siligrad.isa import DRAW_BITS, SHIFT_MAX

codes = st.integers(-(2**60), 2**60)
shifts = st.integers(0, SHIFT_MAX)


def round_one(code: int, shift: int, rounding: Rounding) -> int:
    value = Fraction(code, 1 << shift)
    low = math.floor(value)
    if rounding == Rounding.HALF_EVEN:
        return round(value)  # Python rounds fractions half to even
    if rounding == Rounding.HALF_UP:
        return low + (value - low >= Fraction(1, 2))
    return low


@given(
    code=codes,
    shift=shifts,
    rounding=st.sampled_from([r for r in Rounding if r != Rounding.STOCHASTIC]),
)
def test_rounding_is_that_of_exact_fractions(code: int, shift: int, rounding: Rounding) -> None:
    got = shift_round(np.array([code]), shift, rounding)
    assert got.tolist() == [round_one(code, shift, rounding)]


@pytest.mark.parametrize("rounding", [r for r in Rounding if r != Rounding.STOCHASTIC])
def test_every_tie_and_its_neighbours_round_as_exact_fractions(rounding: Rounding) -> None:
    for shift in range(6):  # random codes hardly ever tie: here every remainder occurs
        small = list(range(-300, 301))
        got = shift_round(np.array(small), shift, rounding)
        assert got.tolist() == [round_one(code, shift, rounding) for code in small]


@given(code=st.integers(-(2**40), 2**40), shift=shifts, draw=st.integers(0, 2**DRAW_BITS - 1))
def test_stochastic_rounding_goes_up_where_the_draw_carries(
    code: int, shift: int, draw: int
) -> None:
    got = shift_round(np.array([code]), shift, Rounding.STOCHASTIC, np.array([draw]))
    addend = draw * 2**shift // 2**DRAW_BITS
    assert got.tolist() == [math.floor(Fraction(code + addend, 1 << shift))]


def test_stochastic_rounding_is_unbiased_over_all_draws() -> None:
    draws = np.arange(2**DRAW_BITS)
    for shift in (1, 4, DRAW_BITS):
        for code in (-7, 0, 3, 12345):
            rounded = shift_round(np.full(draws.shape, code), shift, Rounding.STOCHASTIC, draws)
            assert Fraction(int(rounded.sum()), len(draws)) == Fraction(code, 1 << shift)


@given(bits=st.integers(2, 32), frac=st.integers(-20, 40), x=st.floats(-1e6, 1e6))
def test_encode_is_the_nearest_code_within_the_limits(bits: int, frac: int, x: float) -> None:
    q = QFormat(bits, frac)
    exact = Fraction(x) * Fraction(2) ** frac
    nearest = min(max(round(exact), -q.limit), q.limit)
    assert int(q.encode(x)) == nearest
    if abs(exact) <= q.limit:
        assert (
            abs(Fraction(float(q.decode(q.encode(x)))) - Fraction(x)) <= Fraction(q.resolution) / 2
        )


@given(bits=st.integers(2, 24), magnitude=st.floats(1e-9, 1e9))
def test_covering_is_the_finest_format_that_does_not_saturate(bits: int, magnitude: float) -> None:
    q = QFormat.covering(bits, magnitude)
    assert round(Fraction(magnitude) * Fraction(2) ** q.frac) <= q.limit
    assert round(Fraction(magnitude) * Fraction(2) ** (q.frac + 1)) > q.limit


def test_saturation_is_symmetric() -> None:
    assert saturate(np.array([-40000, -32768, -32767, 0, 32767, 32768]), 16).tolist() == [
        -32767,
        -32767,
        -32767,
        0,
        32767,
        32767,
    ]
    assert QFormat(16, 12).encode([np.inf, -np.inf]).tolist() == [32767, -32767]


def test_nan_has_no_code() -> None:
    with pytest.raises(
        FormatError, match=r"cannot encode NaN as 16 bits, 12 of fraction, at index \[1\]"
    ):
        QFormat(16, 12).encode([0.0, np.nan])


def test_a_format_that_does_not_exist_is_refused() -> None:
    with pytest.raises(FormatError, match="bits must be from 2 to 32, not 1"):
        QFormat(1, 0)
    with pytest.raises(FormatError, match="shift must be from 0 to 47, not 48"):
        shift_round(np.array([1]), 48, Rounding.FLOOR)
    with pytest.raises(FormatError, match="needs draws"):
        shift_round(np.array([1]), 1, Rounding.STOCHASTIC)


@pytest.mark.parametrize(
    ("bits", "magnitude", "frac"),
    [
        (16, 0.0, 15),
        (16, 1.0, 14),
        (16, 0.5, 15),
        (16, 32767.0, 0),  # the largest code itself
        (16, 32767.5, -1),  # rounds to 32768, the even one
        (16, 32767.25, 0),
        (8, 127.0, 0),
        (8, 128.0, -1),
        (2, 1.0, 0),  # codes -1, 0 and 1
        (2, 1.5, -1),
    ],
)
def test_covering_is_exact_at_the_limits(bits: int, magnitude: float, frac: int) -> None:
    assert QFormat.covering(bits, magnitude) == QFormat(bits, frac)


@pytest.mark.parametrize("magnitude", [-0.5, -1.0, -(2.0**-40), math.inf, -math.inf, math.nan])
def test_no_format_covers_what_is_no_magnitude(magnitude: float) -> None:
    message = f"magnitude must be finite and not negative, not {magnitude}"
    with pytest.raises(FormatError, match=message):
        QFormat.covering(16, magnitude)


def test_a_format_says_what_it_holds() -> None:
    q = QFormat(16, 12)
    assert (q.limit, q.largest, q.resolution) == (32767, 32767 / 4096, 1 / 4096)
    assert (QFormat(2, 0).limit, QFormat(32, -3).largest) == (1, (2**31 - 1) * 8)
    assert str(q) == "16 bits, 12 of fraction"
    assert q.decode(np.array([-32767, 1, 0])).tolist() == [-32767 / 4096, 1 / 4096, 0]
    for bits in (1, 33):
        with pytest.raises(FormatError, match=f"bits must be from 2 to 32, not {bits}"):
            QFormat(bits, 0)


@pytest.mark.parametrize(("word_bits", "operand_bits"), [(16, 8), (12, 11), (8, 4), (6, 6)])
def test_every_word_narrows_to_the_nearest_operand_ties_up(
    word_bits: int, operand_bits: int
) -> None:
    words = np.arange(1 - 2 ** (word_bits - 1), 2 ** (word_bits - 1))
    limit, unit = 2 ** (operand_bits - 1) - 1, 2 ** (word_bits - operand_bits)
    want = [
        min(max(math.floor(Fraction(word, unit) + Fraction(1, 2)), -limit), limit)
        for word in words.tolist()
    ]
    if unit == 1:
        want = words.tolist()
    assert narrow(words, word_bits, operand_bits).tolist() == want
    small = words.astype(np.int16)  # half of the largest word must not overflow it
    assert narrow(small, word_bits, operand_bits).tolist() == want
