"""What few networks do, and the compiler must do rightly nevertheless: values against numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest

import siligrad as sg
import siligrad.numpy as np
from siligrad_sim.reference import ReferenceDevice

X = numpy.random.default_rng(0).uniform(-1, 1, (4, 3))
W = numpy.random.default_rng(1).uniform(-1, 1, (3, 3))
OFFSET = numpy.array([0.5, -0.25, 0.125])


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w: np.maximum(-(x @ w), 0),
        lambda x, w: np.maximum(x @ w, 0),
        lambda x, w: x @ w + OFFSET,
        lambda x, w: np.maximum(x @ w + OFFSET, 0),
        lambda x, w: (x @ w) ** 1,
        lambda x, w: (x @ w) * 2.0**3,
        lambda x, w: x @ w + 0.5 * x,
        lambda x, w: 2 * x + x @ w,
    ],
    ids=[
        "relu of the negative",
        "relu",
        "constant vector",
        "relu over a constant vector",
        "first power",
        "times eight",
        "half a stored array",
        "a stored array twice",
    ],
)
def test_it_has_the_value_that_numpy_gives(function: Callable[..., Any]) -> None:
    program = sg.compile(function, X, W, resident=1)
    device = ReferenceDevice(program.geometry)
    device.load(program)
    device.run(X)
    (got,) = device.read()
    numpy.testing.assert_allclose(got, function(X, W), atol=2e-3)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x, w: x @ w - x, "adds some products and subtracts others"),
        (lambda x, w: x @ w - OFFSET, "adds some products and subtracts others"),
        (lambda x, w: (x @ w) ** -1, "powers are taken in losses only"),
        (lambda x, w: (x @ w) ** 2, "powers are taken in losses only"),
    ],
)
def test_what_it_cannot_do_is_refused(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(sg.LoweringError, match=message):
        sg.compile(function, X, W, resident=1)


@pytest.mark.parametrize(
    ("rate", "one", "other"),
    [(0.375, "1.33333", "0.666667"), (0.3125, "0.8", "1.6")],
)
def test_a_rate_is_told_both_powers_of_two_beside_it(rate: float, one: str, other: str) -> None:
    def step(w: Any, x: Any, y: Any) -> Any:
        return w - rate * sg.grad(lambda w: np.sum((x @ w - y) ** 2))(w)

    message = rf"multiply the learning rate by {one} \(or by {other}\)"
    with pytest.raises(sg.LoweringError, match=message):
        sg.compile(step, W, X, numpy.ones((4, 3)), donate=0)


def test_an_input_gives_way_though_another_sum_before_it_fits() -> None:
    def products(x: Any, z: Any, w: Any, v: Any) -> Any:
        return z @ v, x @ w

    # As in test_compiler: 784 products of codes of full scale need 41 bits.
    x, w = numpy.full((2, 784), 0.9999), numpy.full((784, 2), 0.9)
    target = sg.Target(array=2)
    program = sg.compile(products, x, X[:2], w, W, resident=(2, 3), headroom=0, target=target)
    assert (program.formats["x"].frac, program.formats["z"].frac) == (14, 15)


@pytest.mark.parametrize(("depth", "fits"), [(8, 1), (12, 1), (16, 2), (23, 2)])
def test_as_many_steps_as_fit_are_proposed(depth: int, fits: int) -> None:
    def margins(w: Any, x: Any) -> Any:
        return np.maximum(x @ w, 0) @ w

    def compiled(steps: int) -> sg.Program:
        target = sg.Target(array=2, x_depth=depth + 8, w_depth=64, e_depth=64, program_depth=64)
        return sg.compile(margins, W, X, resident=0, target=target, steps=steps)

    with pytest.raises(sg.CapacityError, match=rf"What would fit: {fits} steps instead of 5"):
        compiled(5)
    assert compiled(fits).loop.steps == fits
    with pytest.raises(sg.CapacityError):
        compiled(fits + 1)
