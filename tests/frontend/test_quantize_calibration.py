from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import siligrad as sg
import siligrad.numpy as np
from siligrad.errors import DataError
from siligrad.fixed import FormatError, QFormat
from siligrad.quantize.calibration import (
    METHODS,
    Magnitudes,
    SquaredErrors,
    as_operands,
    choose_ranges,
)

values_in_float = st.lists(
    st.floats(-(2.0**70), 2.0**70, allow_nan=False).filter(lambda x: x == 0 or abs(x) > 2.0**-60),
    min_size=1,
    max_size=60,
)
percentages = st.floats(0.5, 100)


def chosen(arrays: list[Any], method: str, width: tuple[int, int] = (16, 8), **options: Any) -> Any:
    """Return the range of a single tensor that takes these values, array by array."""
    found = choose_ranges(
        lambda: (("t", numpy.asarray(a)) for a in arrays), {"t": width}, method, **options
    )
    return found["t"]


# The histogram


@given(values=values_in_float, percentage=percentages)
def test_a_percentile_covers_its_percentage_and_hardly_more(
    values: list[float], percentage: float
) -> None:
    histogram = Magnitudes()
    histogram.add(values[: len(values) // 2])
    histogram.add(values[len(values) // 2 :])
    found = histogram.percentile(percentage)
    magnitudes = sorted(map(abs, values))
    needed = max(math.ceil(Fraction(percentage) / 100 * len(values)), 1)
    assert found <= magnitudes[-1]
    # ceil of a product in floating point may be one more than that of the fraction
    exact = magnitudes[needed - 1], magnitudes[min(needed, len(values) - 1)]
    assert found >= exact[0] or math.isclose(found, exact[0], rel_tol=1e-12)
    assert found <= max(exact[1] * (1 + 2.0**-6), 2.0**-63) or exact[1] >= 2.0**63


@given(values=values_in_float)
def test_percentiles_are_in_order(values: list[float]) -> None:
    histogram = Magnitudes()
    histogram.add(values)
    found = [histogram.percentile(p) for p in (1, 50, 90, 99.99, 100)]
    assert found == sorted(found)
    assert found[-1] == max(map(abs, values)) == histogram.largest
    assert histogram.count == len(values)


def test_known_percentiles() -> None:
    histogram = Magnitudes()
    histogram.add(-numpy.arange(1000.0))
    assert histogram.percentile(50) == 500.0  # 499 is in the bin from 496 to 500
    assert histogram.percentile(0.1) == 2.0**-64 * (1 + 2.0**-6)  # the zero
    assert histogram.percentile(100) == 999.0
    assert Magnitudes().percentile(99) == 0.0


def test_octaves_count_magnitudes_by_power_of_two() -> None:
    histogram = Magnitudes()
    histogram.add([0.0, 1.0, -1.99, 2.0, 0.25, -0.4999, 0.5, 2.0**40])
    assert histogram.octaves == {-2: 2, -1: 1, 0: 2, 1: 1, 40: 1}
    assert Magnitudes().octaves == {}


def test_a_histogram_does_not_grow() -> None:
    histogram = Magnitudes()
    before = histogram._counts.nbytes
    for seed in range(3):
        histogram.add(numpy.random.default_rng(seed).standard_normal(10_000))
    assert histogram._counts.nbytes == before <= 1 << 16
    assert histogram.count == 30_000


# The least squared error


def rounded(value: float, bits: int, step: Fraction) -> Fraction:
    """The nearest multiple of `step` with a code of `bits` bits, one value at a time."""
    limit = 2 ** (bits - 1) - 1
    code: int = max(-limit, min(limit, round(Fraction(value) / step)))
    return code * step


@given(
    values=st.lists(st.floats(-8, 8).map(lambda x: round(x, 3)), min_size=1, max_size=20),
    bits=st.integers(2, 8),
)
def test_mse_chooses_the_power_of_two_of_least_error(values: list[float], bits: int) -> None:
    found = chosen([values], "mse", (bits, bits))
    if not any(values):
        assert found.covered == 0
        return
    errors = {}
    widest = QFormat.covering(bits, max(map(abs, values))).frac
    for frac in range(widest, widest + 8):
        step = Fraction(2) ** -frac
        errors[frac] = sum((Fraction(v) - rounded(v, bits, step)) ** 2 for v in values)
    frac = QFormat.covering(bits, found.covered).frac
    assert float(errors[frac]) <= float(min(errors.values())) * (1 + 1e-9)


@given(seed=st.integers(0, 2**32 - 1), operand_bits=st.integers(2, 16), outlier=st.floats(0, 100))
def test_mse_is_never_worse_than_max(seed: int, operand_bits: int, outlier: float) -> None:
    rng = numpy.random.default_rng(seed)
    values = numpy.append(rng.standard_normal(50), outlier)

    def error(magnitude: float) -> float:
        read = as_operands(values, QFormat.covering(16, magnitude), operand_bits)
        return float(numpy.sum((read - values) ** 2))

    width = (16, operand_bits)
    assert error(chosen([values], "mse", width).covered) <= error(
        chosen([values], "max", width).covered
    )


def test_mse_clips_an_outlier_where_bits_are_few_and_keeps_it_where_they_are_many() -> None:
    values = numpy.append(numpy.random.default_rng(0).uniform(-1, 1, 10_000), 3.0)
    assert QFormat.covering(4, chosen([values], "mse", (4, 4)).covered).frac == 3
    assert QFormat.covering(4, chosen([values], "max", (4, 4)).covered).frac == 1
    assert QFormat.covering(16, chosen([values], "mse", (16, 16)).covered).frac == 13
    # narrow operands: the words have 16 bits, the error is that of their top four
    assert QFormat.covering(16, chosen([values], "mse", (16, 4)).covered).frac == 15


def test_what_an_operand_is_worth() -> None:
    word = QFormat(16, 15)  # an operand of 4 bits is worth multiples of 1/8, up to 7/8
    values = numpy.array([0.0624, 0.0626, -0.0626, 0.99, -0.99, 2.0])
    assert as_operands(values, word, 4).tolist() == [0.0, 0.125, -0.125, 0.875, -0.875, 0.875]


def test_the_sums_of_squares_are_over_all_examples() -> None:
    parts = numpy.random.default_rng(1).standard_normal((4, 25))
    errors = SquaredErrors(16, 4, float(numpy.abs(parts).max()))
    for part in parts:
        errors.add(part)
    for found, each in zip(errors.sums, errors.formats, strict=True):
        assert found == pytest.approx(numpy.sum((as_operands(parts, each, 4) - parts) ** 2))


# All tensors


@pytest.mark.parametrize("method", METHODS)
def test_what_may_not_be_clipped_gets_its_largest_magnitude(method: str) -> None:
    arrays = {"free": numpy.append(numpy.full(9999, 0.1), -7.0), "kept": numpy.array([0.5, -7.0])}

    def observe() -> Iterator[tuple[str, NDArray[Any]]]:
        yield from arrays.items()
        yield "kept", numpy.array([1.0])

    found = choose_ranges(observe, {"free": (16, 4)}, method, 99.9)
    assert found["kept"].seen == found["kept"].covered == 7.0
    assert found["free"].seen == 7.0
    assert (found["free"].covered == 7.0) == (method == "max")


def test_a_tensor_that_is_always_zero_has_no_range() -> None:
    for method in METHODS:
        assert chosen([[0.0, 0.0]], method).covered == 0.0


def test_methods_and_percentages_that_do_not_exist_are_refused() -> None:
    with pytest.raises(FormatError, match="method must be max, percentile or mse, not 'best'"):
        chosen([[1.0]], "best")
    for wrong in (0.0, 100.1, math.nan):
        with pytest.raises(FormatError, match="percentile must be above 0 and at most 100, not "):
            chosen([[1.0]], "percentile", percentile=wrong)


# sg.compile


def layer(W: Any, x: Any) -> Any:
    return np.maximum(x @ W, 0)


def outliers() -> tuple[Any, Any]:
    rng = numpy.random.default_rng(3)
    W, x = rng.uniform(-0.2, 0.2, (40, 30)), rng.uniform(-0.4, 0.4, (20, 40))
    W[0, 0], x[0, 0] = 3.0, 3.0
    return W, x


def compiled(method: str, **options: Any) -> dict[str, int]:
    program = sg.compile(
        layer,
        *outliers(),
        resident=0,
        headroom=0,
        method=method,
        target=sg.Target(operand_bits=4, sum_bits=32),
        **options,
    )
    return {tensor.name.split()[0]: tensor.format.frac for tensor in program.tensors}


def test_compile_chooses_formats_by_the_method() -> None:
    assert compiled("max") == {"W": 13, "x": 13, "relu": 11}
    assert compiled("percentile", percentile=99.9)["W"] == 17  # of 1200 weights one is clipped
    assert compiled("mse")["W"] > 13


@pytest.mark.parametrize("method", METHODS)
def test_no_method_clips_an_input(method: str) -> None:
    W, x = outliers()
    assert compiled(method)["x"] == 13
    program = sg.compile(layer, W, x, resident=0, method=method, percentile=90)
    tensor = next(tensor for tensor in program.tensors if tensor.name == "x")
    numpy.testing.assert_allclose(tensor.decode(tensor.encode(x)), x, atol=2.0**-14)
    with pytest.raises(
        DataError, match=r"x reaches 9, but was calibrated for magnitudes up to 3\.99988"
    ):
        tensor.encode(3 * x)


def test_calibration_examples_count_like_the_first() -> None:
    W, x = outliers()
    small = numpy.where(numpy.abs(x) > 1, 0, x)
    alone = sg.compile(layer, W, small, resident=0)
    more = sg.compile(layer, W, small, resident=0, calibration=[(W, small / 2), (W, x)])
    assert (alone.formats["x"].frac, more.formats["x"].frac) == (16, 13)


def step(W: Any, x: Any) -> Any:
    return W - 2.0**-8 * (x.T @ np.maximum(x @ W, 0))


@pytest.mark.parametrize(
    ("operand_bits", "start", "frac"),
    [
        (16, 0.1, 14),  # a bit of a word is cheap: what is updated may grow to 1
        (8, 0.1, 17),  # narrow operands: twice what was seen
        (8, 0.01, 14),  # about zero says nothing
        (8, 0.0, 14),
    ],
)
def test_what_is_updated_gets_room_to_grow_where_it_says_nothing(
    operand_bits: int, start: float, frac: int
) -> None:
    x = numpy.full((4, 4), 0.25)
    program = sg.compile(
        step, numpy.full((4, 4), start), x, donate=0, target=sg.Target(operand_bits=operand_bits)
    )
    assert program.formats["W"].frac == frac
