"""What few networks do, and the compiler must do rightly nevertheless: values against numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest

import siligrad as sg
import siligrad.numpy as np
from siligrad.autodiff import simplify, trace
from siligrad.compiler.lower import lower
from siligrad.program import Role
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


Y = numpy.random.default_rng(2).uniform(-1, 1, (4, 3))
SIGNS = numpy.where(Y > 0, 1.0, -1.0)


def margin(x: Any, s: Any, w: Any) -> Any:
    return np.maximum(1 - s * (x @ w), 0)


def executed(function: Callable[..., Any], *args: Any, **options: Any) -> ReferenceDevice:
    program = sg.compile(function, *args, **options)
    device = ReferenceDevice(program.geometry)
    device.load(program)
    inputs = zip(args, program.arguments, strict=True)
    device.run(*(value for value, argument in inputs if not argument.resident))
    return device


@pytest.mark.parametrize(
    ("function", "second", "tolerance"),
    [
        # 1 / 49 is none in binary: what is 49 times both must nevertheless be added once.
        (lambda x, y, w: 49 * (x @ w) + 49 * y, Y, 0.02),
        (lambda x, y, w: 49 * (x @ w) - 49 * y, Y, 0.02),
        (lambda x, y, w: x @ w + 0.5 * y, Y, 2e-3),
        (lambda x, y, w: 3 * (x @ w) - 24 * y, Y, 0.02),
        (lambda x, s, w: np.maximum(49 - s * (49 * (x @ w)), 0), SIGNS, 0.02),
        (lambda x, s, w: -2 * s * margin(x, s, w), SIGNS, 2e-3),
        (lambda x, s, w: 0.5 * s * margin(x, s, w), SIGNS, 2e-3),
        (lambda x, s, w: s * margin(x, s, w) @ w, SIGNS, 4e-3),
        (margin, SIGNS, 2e-3),
        # What is multiplied by zero leaves the constant that is added to it, and its power.
        (lambda x, y, w: x @ w * (0 * (y @ w) + 3) ** 2, Y, 1e-2),
        (lambda x, y, w: x @ w * (0 * (y @ w) + 2) ** -1, Y, 2e-3),
    ],
)
def test_targets_and_factors_have_the_value_that_numpy_gives(
    function: Callable[..., Any], second: Any, tolerance: float
) -> None:
    device = executed(function, X, second, W, resident=2)
    want = function(X, second, W)
    assert numpy.abs(want).max() > 100 * tolerance
    numpy.testing.assert_allclose(device.read()[0], want, atol=tolerance)


def test_what_a_hinge_leaves_is_held_with_its_sign() -> None:
    device = executed(lambda x, s, w: (-0.5 * s * margin(x, s, w)) @ w, X, SIGNS, W, resident=2)
    tensors = device.program.tensors
    (index,) = (i for i, tensor in enumerate(tensors) if tensor.name.startswith("hinge"))
    want = -0.5 * SIGNS * numpy.maximum(1 - SIGNS * (X @ W), 0)
    numpy.testing.assert_allclose(device._read_tensor(index), want, atol=2e-3)


# Sums that could overflow. An 8-bit one is at most 127, and 16 bits hold sums of up to 32767.

NARROW = sg.Target(array=2, word_bits=8, operand_bits=8, sum_bits=16)


@pytest.mark.parametrize(
    ("rows", "limit", "frac"),
    [
        (258, 127, 6),  # 258 * 127 = 32766
        (259, 64, 6),  # 259 * 127 is more; 0.9 is the code 58, and 259 * 64 is not
        (511, 64, 6),
        (512, 32, 5),  # 512 * 64 = 32768: a bit less
    ],
)
def test_a_sum_of_rows_is_bounded_by_its_codes_times_one(rows: int, limit: int, frac: int) -> None:
    x = numpy.full((rows, 2), 0.9)
    # With a bit less than it could have, 0.9 is the code 58.
    formats = {"x": sg.QFormat(8, 6)}
    program = sg.compile(lambda x: np.sum(x, axis=0), x, target=NARROW, headroom=0, formats=formats)
    (tensor,) = (each for each in program.tensors if each.name == "x")
    assert (tensor.limit, tensor.format.frac) == (limit, frac)
    assert len(program.instructions[0].segments) == 1


@pytest.mark.parametrize(("rows", "limit"), [(584, 7), (585, 7), (586, 1)])
def test_a_sum_may_be_the_largest_there_is(rows: int, limit: int) -> None:
    # Of 4 bits, codes are up to 7, and 585 * 7 = 2**12 - 1.
    target = sg.Target(array=2, word_bits=4, operand_bits=4, sum_bits=13)
    x = numpy.zeros((rows, 2))
    program = sg.compile(lambda x: np.sum(x, axis=0), x, target=target)
    assert program.tensors[program.arguments[0].tensors[0]].limit == limit


@pytest.mark.parametrize(
    ("code", "limit"),
    [(0, 1), (1, 1), (2, 2), (3, 4), (31, 32), (32, 32), (33, 64), (-32, 32), (-33, 64)],
)
def test_an_input_is_held_to_the_power_of_two_that_covers_what_was_seen(
    code: int, limit: int
) -> None:
    x = numpy.zeros((300, 2))
    x[7, 1] = code / 64
    program = sg.compile(
        lambda x: np.sum(x, axis=0), x, target=NARROW, formats={"x": sg.QFormat(8, 6)}
    )
    (tensor,) = (each for each in program.tensors if each.name == "x")
    assert (tensor.limit, tensor.format.frac) == (limit, 6)


def test_every_sum_that_could_overflow_is_bounded() -> None:
    def sums(x: Any, y: Any, z: Any) -> Any:
        return np.sum(x, axis=0), np.sum(y, axis=0), np.sum(z, axis=0)

    data = [numpy.full((rows, 2), 0.9) for rows in (4, 300, 400)]
    formats = dict.fromkeys("xyz", sg.QFormat(8, 6))
    program = sg.compile(sums, *data, target=NARROW, headroom=0, formats=formats)
    limits = {each.name: each.limit for each in program.tensors}
    assert [limits[name] for name in "xyz"] == [127, 64, 64]


# Arguments that only a mistake in the library could give.


def test_every_input_of_a_graph_is_said_to_stay_or_not() -> None:
    graph = simplify(trace(lambda x, w: x @ w, X, W))
    assert lower(graph, [False, True], {}).arguments[1].role == Role.RESIDENT
    for resident in ([False], [False, True, True]):
        with pytest.raises(ValueError, match=r"zip\(\)"):
            lower(graph, resident, {})
