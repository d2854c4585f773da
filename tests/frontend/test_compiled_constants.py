"""Constants, factors and products that no user's network of the other tests happens to have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest

import siligrad as sg
import siligrad.numpy as np
from siligrad import tree
from siligrad.compiler import LoweringError
from siligrad_sim.reference import ReferenceDevice

RNG = numpy.random.default_rng(0)
W = RNG.normal(0, 0.5, (5, 4))
X = RNG.random((3, 5))
TABLE = RNG.normal(0, 0.5, (3, 4))
ROW = numpy.arange(4) / 4
PARTLY_ZERO = numpy.where(numpy.arange(12).reshape(3, 4) % 3 == 0, 0.0, 0.5)


@pytest.mark.parametrize(
    "function",
    [
        lambda w, x: x @ w + TABLE,
        lambda w, x: x @ w + ROW,
        lambda w, x: x @ w + PARTLY_ZERO,
        lambda w, x: -(x @ w),
        lambda w, x: np.maximum(-(x @ w), 0),
        lambda w, x: np.maximum(x @ w + TABLE, 0),
        lambda w, x: (x @ w) * numpy.full((3, 4), 0.5),
        lambda w, x: (x @ w) ** 1,
        lambda w, x: x @ w * -0.25,
    ],
)
def test_a_function_with_constants_has_the_value_of_floating_point(
    function: Callable[[Any, Any], Any],
) -> None:
    program = sg.compile(function, W, X)
    device = ReferenceDevice(program.geometry)
    device.load(program)
    device.run(*(each for each, a in zip((W, X), program.arguments, strict=True) if not a.resident))
    (output,) = (program.tensors[index] for index in program.result.tensors)
    tolerance = 12 * output.format.resolution * abs(output.scale)
    want = function(W, X)
    assert numpy.abs(want).max() > 100 * tolerance
    (got,) = tree.flatten(device.read())[0]
    numpy.testing.assert_allclose(got, want, atol=tolerance, rtol=0)


def step(rate: float) -> Callable[[Any, Any], Any]:
    def function(w: Any, x: Any) -> Any:
        return w - rate * (x.T @ (x @ w))

    return function


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        (0.01, r"by 0\.01 times a product.*by 0\.78125 \(or by 1\.5625\)"),
        (0.014, r"by 0\.014 times a product.*by 1\.11607 \(or by 0\.558036\)"),
    ],
)
def test_a_factor_that_is_no_power_of_two_is_told_the_nearest_on_either_side(
    rate: float, message: str
) -> None:
    with pytest.raises(LoweringError, match=message):
        sg.compile(step(rate), W, X, donate=0)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda w, x: (x @ w) ** 2, "power has no lowering here"),
        (lambda w, x: (x @ w) * (x @ w), "mul has no lowering here|power has no lowering here"),
        (lambda w, x: x @ w - TABLE, "adds some products and subtracts others"),
        (lambda w, x: TABLE - x @ w, "adds some products and subtracts others"),
        (lambda w, x: np.maximum(np.maximum(x @ w, 0) - 1, 0), "only be added to sign"),
    ],
)
def test_what_has_no_instruction_is_refused_by_its_name(
    function: Callable[[Any, Any], Any], message: str
) -> None:
    with pytest.raises(LoweringError, match=message):
        sg.compile(function, W, X)
