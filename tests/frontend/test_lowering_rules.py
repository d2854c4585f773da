"""Each rule of the lowering: what it computes, against numpy, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest

import siligrad as sg
import siligrad.numpy as np
from siligrad.program import Role
from siligrad_sim.reference import ReferenceDevice

RNG = numpy.random.default_rng(7)
X = RNG.uniform(-1, 1, (4, 5))
W = RNG.uniform(-1, 1, (5, 3))
ROW = RNG.uniform(1, 2, 3)
VECTOR = RNG.uniform(-1, 1, 5)
TARGET = RNG.uniform(-1, 1, (4, 3))
SIGNS = numpy.where(TARGET > 0, 1.0, -1.0)
COLUMN = RNG.uniform(-1, 1, (4, 1))
CUBE = RNG.uniform(-1, 1, (2, 2, 5))


def executed(function: Callable[..., Any], *args: Any, **options: Any) -> tuple[Any, ...]:
    """Compile and run `function` in the reference, and return its results."""
    program = sg.compile(function, *args, **options)
    device = ReferenceDevice(program.geometry)
    device.load(program)
    inputs = zip(args, program.arguments, strict=True)
    device.run(*(value for value, argument in inputs if not argument.resident))
    return device.read()


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (lambda v, w: v @ w, (VECTOR, W)),
        (lambda v, w, b: np.maximum(v @ w + b, 0), (VECTOR, W, ROW)),
        # A batch of one: only what stays in the device is a bias.
        (lambda v, w: np.maximum(v @ w, 0) + 2 * (v @ w), (VECTOR, W)),
        (lambda v, w: v @ w + numpy.array([0.25, 0.5, -0.5]), (VECTOR, W)),
        (lambda v, w, t: np.maximum(v @ w, 0) + v @ w + t, (VECTOR, W, TARGET[0])),
        (lambda x, w, b: x @ w + b, (X, W, ROW)),
        (lambda x, w, b: b + x @ w, (X, W, ROW)),
        (lambda x, w, b: x @ w + b.reshape(1, 3), (X, W, ROW)),
        (lambda x, w, b: x @ w + b.T, (X, W, ROW)),
        (lambda x, w: x @ w * (0 * (w.T @ x.T) + 3).T, (X, W)),
        (lambda x, w: np.maximum(0, x @ w), (X, W)),
        (lambda x, w: np.maximum(x @ w, 0) / 4, (X, W)),
        (lambda x, w: x @ w / -0.5, (X, W)),
        (lambda x, w: -(x @ w) + -2 * (x @ w), (X, W)),
        (lambda x, w, t: x @ w - t, (X, W, TARGET)),
        (lambda x, w, t: t + x @ w, (X, W, TARGET)),
        (lambda x, w, t: x @ w + t + t, (X, W, TARGET)),
        (lambda x, w: np.sum(x @ w, axis=0), (X, W)),
        (lambda x, w: np.sum(x, axis=0) @ w, (X, W)),
        (lambda x, w: np.sum(x @ w, axis=(0,)), (X, W)),
        (lambda x, w: np.sum(x @ w, axis=0, keepdims=True), (X, W)),
        (lambda x, w: (x @ w).T @ x, (X, W)),
        (lambda x, w: np.maximum(x @ w, 0).T @ x, (X, W)),
        (lambda x, w: np.where(x @ w > 0, x @ w, 0), (X, W)),
        (lambda x, w: np.where(np.less(0, x @ w), x @ w, 0), (X, W)),
        (lambda x, w: np.where(x @ w < 0, x @ w, 0), (X, W)),
        (lambda x, w: np.where(np.greater(0, x @ w), x @ w, 0), (X, W)),
        (lambda x, w: np.where(-(x @ w) > 0, x @ w, 0), (X, W)),
        (lambda x, w, t: np.where(x @ w > 0, t, 0), (X, W, TARGET)),
        (lambda x, w, t: np.where(np.maximum(x @ w, 0) > 0, t @ w.T @ w, 0), (X, W, TARGET)),
        (lambda x, w, s: s * np.maximum(0.5 - s * (x @ w), 0), (X, W, SIGNS)),
        (lambda x, w, s: np.maximum(0.5 - s * (x @ w), 0), (X, W, SIGNS)),
        (lambda x, w, s: np.maximum(s * (x @ w) - 0.25, 0), (X, W, SIGNS)),
        (lambda x, w, s: s * np.maximum(s * (x @ w) - 0.25, 0), (X, W, SIGNS)),
        (lambda x, w: np.maximum(x @ w, 0) @ w.T + x, (X, W)),
        (lambda x, w: np.maximum(np.maximum(x @ w, 0), 0), (X, W)),
        (lambda x, w: x @ w + numpy.array([0.25, 0.5, -0.5]), (X, W)),
        (lambda x, w: x @ w + numpy.full((4, 3), 0.0), (X, W)),
        (lambda x, w: x @ w @ numpy.array([[1.0, 0.5], [0.25, -1], [0.5, 0.5]]), (X, W)),
    ],
)
def test_a_rule_computes_what_numpy_computes(
    function: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    weights = [i for i, each in enumerate(args) if each is W or each is ROW]
    (got,) = executed(function, *args, resident=weights)
    want = function(*args)
    assert got.shape == want.shape
    scale = numpy.abs(want).max()
    assert scale > 0.1
    numpy.testing.assert_allclose(got, want, atol=3e-3 * scale)


@pytest.mark.parametrize(
    ("function", "args", "message"),
    [
        (lambda x, w: x @ w, (X, VECTOR), r"\(5,\) to \(5, 1\) moves elements between rows"),
        (lambda x, w: x @ w, (numpy.ones((2, 4, 5)), W), "argument x has shape \\(2, 4, 5\\)"),
        (lambda x, w: x @ w, (numpy.ones((0, 5)), W), "argument x has shape \\(0, 5\\)"),
        (lambda x, w: x @ numpy.ones((2, 5, 3)), (X, W), r"it needs matrices, not \(4, 5\) @ \(2"),
        (lambda x, w: numpy.ones((2, 4, 5)) @ w, (X, W), r"it needs matrices, not \(2, 4, 5\) @"),
        (lambda x, w: x @ w * w[0, 0], (X, W), "has no lowering"),
        (lambda x, w: (x @ w) / (x @ w), (X, W), "it divides by an array; the hardware scales"),
        (lambda x, w: 1 / (x @ w), (X, W), "it divides by an array; the hardware scales"),
        (lambda x, w: np.maximum(x @ w, 0.5), (X, W), "only the maximum with zero, a ReLU"),
        (lambda x, w: np.maximum(x @ w, x @ w + 0), (X, W), "."),
        (lambda x, w: np.maximum(x @ w, -(x @ w)), (X, W), "only the maximum with zero, a ReLU"),
        (lambda x, w: np.where(x @ w > 1, x @ w, 0), (X, W), "only a comparison with zero"),
        (lambda x, w: np.where(x @ w < 1, x @ w, 0), (X, W), "only a comparison with zero"),
        (lambda x, w: np.where(x @ w > x @ w * 2, x @ w, 0), (X, W), "only a comparison with zero"),
        (lambda x, w: np.where(x @ w > 0, x @ w, 1), (X, W), "only a choice between an array and"),
        (lambda x, w: np.where(x @ w > 0, x @ w, -1), (X, W), "only a choice between an array and"),
        (lambda x, w: np.where(x @ w > 0, 0, x @ w), (X, W), "only a choice between an array and"),
        (lambda x, w: np.sum(x @ w, axis=1), (X, W), r"a sum of shape \(4, 3\) over axes \(1,\)"),
        (lambda x, w: np.sum(x @ w), (X, W), r"a sum of shape \(4, 3\) over axes \(0, 1\)"),
        (lambda v, w: np.sum(v @ w), (VECTOR, W), r"a sum of shape \(3,\) over axes \(0,\)"),
        (lambda x, w, c: x @ w + c, (X, W, COLUMN), r"shape \(4, 1\) cannot be broadcast to"),
        (lambda x, w: (x @ w).reshape(3, 4), (X, W), r"\(4, 3\) to \(3, 4\) moves elements"),
        (lambda x, w: (x @ w).reshape(12), (X, W), r"\(4, 3\) to \(12,\) moves elements"),
        (lambda x, w: (x @ w).reshape(2, 2, 3), (X, W), r"\(4, 3\) to \(2, 2, 3\) moves elements"),
        (lambda x, w: (x @ w, 1.0), (X, W), "result 1 cannot be computed: it is a constant"),
        (lambda x, w: (x @ w, w), (X, W), "result 1 cannot be computed: it is an argument handed"),
        (lambda x, w: (x @ w).T, (X, W), "result 0 cannot be computed: it is the transpose of"),
        (lambda x, w: (x @ w, 2 * (x @ w)), (X, W), "result 1 cannot be computed: it is a multip"),
        (lambda x, w: (x @ w) > 0, (X, W), "cannot be computed: it is neither a product"),
        (lambda x, w: np.exp(x @ w), (X, W), "exp has no lowering: softmax cross-entropy stays on"),
        (lambda x, w: np.log(x @ w + 9), (X, W), "."),
        (lambda x, w: np.tanh(x @ w), (X, W), "tanh has no lowering: use np.maximum"),
        (
            lambda x, w: np.minimum(x @ w, 0),
            (X, W),
            r"minimum has no lowering: write min\(x, 0\) as",
        ),
        (lambda x, w: np.abs(x @ w), (X, W), "has no lowering"),
        (lambda x, w: np.maximum(x, 0) @ w, (X, W), "a ReLU can only follow a sum of products"),
        (
            lambda x, w, t: np.maximum(0.5 - t * (x @ w) + t, 0),
            (X, W, SIGNS),
            "a product with the targets can only be added to a constant",
        ),
        (
            lambda x, w, s: np.maximum(s * (x @ w), 0) * s,
            (X, W, SIGNS),
            r"a hinge must be max\(constant - target \* output, 0\)",
        ),
    ],
)
def test_a_rule_refuses_what_no_instruction_does(
    function: Callable[..., Any], args: tuple[Any, ...], message: str
) -> None:
    weights = [i for i, each in enumerate(args) if each is W or each is ROW]
    with pytest.raises(sg.LoweringError, match=message) as refusal:
        sg.compile(function, *args, resident=weights)
    assert "\n" not in str(refusal.value)


# Updates.

V = RNG.uniform(-1, 1, (4, 3))
C = RNG.uniform(-1, 1, (5, 3))


def test_an_update_waits_until_nothing_reads_what_it_replaces() -> None:
    def first(v: Any, w: Any, x: Any, c: Any) -> Any:
        return v + 0.5 * (x @ c), w + 0.25 * (x.T @ v)  # of the old v

    def second(w: Any, v: Any, x: Any, c: Any) -> Any:
        return w + 0.25 * (x.T @ v), v + 0.5 * (x @ c)

    want_v, want_w = first(V, W, X, C)
    got_v, got_w = executed(first, V, W, X, C, donate=(0, 1), resident=3)
    numpy.testing.assert_allclose(got_v, want_v, atol=1e-3)
    numpy.testing.assert_allclose(got_w, want_w, atol=1e-3)
    got_w, got_v = executed(second, W, V, X, C, donate=(0, 1), resident=3)
    numpy.testing.assert_allclose(got_v, want_v, atol=1e-3)
    numpy.testing.assert_allclose(got_w, want_w, atol=1e-3)


def test_updates_that_wait_for_each_other_are_refused() -> None:
    def both(v: Any, w: Any, x: Any) -> Any:
        return v + x @ w, w + x.T @ v

    message = "cannot be computed: it and another are each computed from the other's old values"
    with pytest.raises(sg.LoweringError, match=message):
        sg.compile(both, V, W, X, donate=(0, 1))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda w, x, t: 2 * w + x.T @ t, "result 0 cannot be computed: it replaces w, so it must"),
        (lambda w, x, t: x.T @ t, "result 0 cannot be computed: it replaces w, so it must be w"),
        (lambda w, x, t: -w + x.T @ t, "result 0 cannot be computed: it replaces w, so it must"),
        (lambda w, x, t: np.maximum(w, 0), "result 0 cannot be computed: a rectified value cannot"),
        (
            lambda w, x, t: w + x.T @ t - x.T @ (x @ w),
            "w cannot be computed: it adds some products",
        ),
    ],
)
def test_an_update_must_be_the_old_value_and_products(
    function: Callable[..., Any], message: str
) -> None:
    with pytest.raises(sg.LoweringError, match=message):
        sg.compile(function, W, X, TARGET, donate=0)


def test_what_is_replaced_by_itself_takes_no_instruction() -> None:
    def step(w: Any, v: Any, x: Any) -> Any:
        return w, v + x @ w

    program = sg.compile(step, W, V, X, donate=(0, 1))
    assert len(program.instructions) == 1
    got_w, got_v = executed(step, W, V, X, donate=(0, 1))
    numpy.testing.assert_allclose(got_w, W, atol=1e-4)
    numpy.testing.assert_allclose(got_v, V + X @ W, atol=1e-3)


def test_constants_are_matrices_of_the_program() -> None:
    table = numpy.array([[0.5, -1.0], [0.25, 1.0], [0.75, 0.5]])
    program = sg.compile(lambda x, w: x @ w @ table, X, W, resident=1)
    (tensor,) = (each for each in program.tensors if each.role == Role.CONSTANT)
    assert (tensor.rows, tensor.columns, tensor.shape) == (3, 2, (3, 2))
    (index,) = (i for i, each in enumerate(program.tensors) if each is tensor)
    numpy.testing.assert_array_equal(tensor.format.decode(program.initial[index]), table)
    with pytest.raises(sg.LoweringError, match=r"a constant of shape \(2, 2, 5\) does not fit"):
        sg.compile(lambda x, w: CUBE @ w, X, W, resident=1)
