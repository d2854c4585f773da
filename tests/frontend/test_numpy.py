"""siligrad.numpy: numpy's values outside of a trace, inside of one, and the right derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import siligrad.numpy as np
from siligrad.autodiff import check_grads, grad, simplify, trace

A = numpy.array([[0.5, -1.25, 2.0], [1.5, 0.75, -0.5]])
B = numpy.array([[1.0, 2.0, -1.0], [0.5, -2.0, 3.0], [-0.75, 0.25, 1.25]])
T = numpy.linspace(-1, 1, 24).reshape(2, 3, 4)
V = numpy.array([0.25, -0.5, 1.0])

# What to compute with either module, and the argument.
FUNCTIONS: dict[str, tuple[Callable[[Any, Any], Any], Any]] = {
    "add": (lambda np, x: x + 2, A),
    "radd": (lambda np, x: 2 + x, A),
    "array left": (lambda np, x: A + x, V),
    "rsub": (lambda np, x: 2 - x, A),
    "array left minus": (lambda np, x: V - x, A),
    "rtruediv": (lambda np, x: 1 / x, A),
    "power": (lambda np, x: x**3, A),
    "power method": (lambda np, x: np.power(x, 2), A),
    "rpow": (lambda np, x: 2.0**x, A),
    "pow array": (lambda np, x: np.power(x * x + 1, V), A),
    "square": (lambda np, x: np.square(x), A),
    "neg pos abs": (lambda np, x: -(+abs(x)), A),
    "clip": (lambda np, x: np.clip(x, -0.7, 0.6), A),
    "clip low": (lambda np, x: np.clip(x, 0.6, None), A),
    "clip method": (lambda np, x: x.clip(-0.7, 0.6), A),
    "tanh": (lambda np, x: np.tanh(x), A),
    "sin cos": (lambda np, x: np.sin(x) * np.cos(x), A),
    "sum": (lambda np, x: np.sum(x), T),
    "sum axis": (lambda np, x: np.sum(x, axis=1), T),
    "sum axes": (lambda np, x: np.sum(x, (0, -1)), T),
    "sum keepdims": (lambda np, x: x.sum(1, keepdims=True), T),
    "mean": (lambda np, x: np.mean(x), T),
    "mean axis": (lambda np, x: x.mean(axis=(0, 2)), T),
    "var": (lambda np, x: np.var(x, axis=0), A),
    "std": (lambda np, x: x.std(axis=1), A),
    "max": (lambda np, x: np.max(x), A),
    "max axis": (lambda np, x: x.max(axis=0), A),
    "min": (lambda np, x: np.min(x, 1, keepdims=True), A),
    "logsumexp": (lambda np, x: np.log(np.sum(np.exp(x), axis=1)), A),
    "norm": (lambda np, x: np.linalg.norm(x), A),
    "norm axis": (lambda np, x: np.linalg.norm(x, axis=1), A),
    "reshape": (lambda np, x: x.reshape(3, 2), A),
    "reshape -1": (lambda np, x: np.reshape(x, (4, -1)), T),
    "ravel": (lambda np, x: np.ravel(x), T),
    "flatten": (lambda np, x: x.flatten(), T),
    "transpose": (lambda np, x: np.transpose(x), T),
    "transpose axes": (lambda np, x: x.transpose(1, 2, 0), T),
    "T": (lambda np, x: x.T, T),
    "swapaxes": (lambda np, x: x.swapaxes(0, -1), T),
    "moveaxis": (lambda np, x: np.moveaxis(x, 0, -1), T),
    "expand_dims": (lambda np, x: np.expand_dims(x, -1), A),
    "squeeze": (lambda np, x: x[:, :1].squeeze(1), A),
    "squeeze all": (lambda np, x: np.squeeze(x[:1, :1]), A),
    "broadcast_to": (lambda np, x: np.broadcast_to(x, (2, 3)), V),
    "concatenate": (lambda np, x: np.concatenate([x, A, x], 1), A),
    "stack": (lambda np, x: np.stack([x, 2 * x], 1), A),
    "stack last": (lambda np, x: np.stack([x, A], -1), A),
    "split": (lambda np, x: np.split(x, 3, 1)[1], A),
    "split at": (lambda np, x: np.split(x, [1], 1)[1], A),
    "array of traced": (lambda np, x: np.array([x[0], [x[1, 0], 2.0, 3.0]]), A),
    "matmul": (lambda np, x: x @ B, A),
    "rmatmul": (lambda np, x: A @ x, B),
    "matrix vector": (lambda np, x: x @ V, A),
    "vector matrix": (lambda np, x: V @ x, B),
    "vector vector": (lambda np, x: x @ V, V),
    "batched matmul": (lambda np, x: np.matmul(x, T.swapaxes(1, 2)), T),
    "dot": (lambda np, x: np.dot(x, B), A),
    "dot number": (lambda np, x: np.dot(2.0, x), A),
    "dot method": (lambda np, x: x.dot(V), A),
    "dot 3d 2d": (lambda np, x: np.dot(B, x), T),
    "dot 3d 1d": (lambda np, x: np.dot(x, numpy.ones(4)), T),
    "outer": (lambda np, x: np.outer(x, V), A),
    "einsum": (lambda np, x: np.einsum("ij,jk->ki", x, B), A),
    "einsum implicit": (lambda np, x: np.einsum("ij,jk", x, B), A),
    "einsum sums": (lambda np, x: np.einsum("ij,k->i", x, V), A),
    "einsum one": (lambda np, x: np.einsum("ijk->ki", x), T),
    "einsum scalar": (lambda np, x: np.einsum("ij,ij->", x, A), A),
    "index": (lambda np, x: x[1], T),
    "slices": (lambda np, x: x[:, ::2, 1:-1], T),
    "ellipsis": (lambda np, x: x[..., 0, None], T),
    "negative index": (lambda np, x: x[-1, -2], T),
    "numpy integer": (lambda np, x: x[numpy.int64(1)], T),
    "gather": (lambda np, x: x[:, [2, 0, 0]], A),
    "gather pairs": (lambda np, x: x[numpy.array([0, 1]), numpy.array([2, 2])], A),
    "constant mask": (lambda np, x: x[A > 0], A),
    "iterate": (lambda np, x: sum(row * k for k, row in enumerate(x)), A),
    "where": (lambda np, x: np.where(x > 0, x, 0.1 * x), A),
    "logic": (lambda np, x: x * ((x > 0) & ~(x > 1) | (x < -1)), A),
    "full_like": (lambda np, x: x * np.full_like(x, 3) + np.ones_like(x), A),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_derivatives(name: str) -> None:
    function, x = FUNCTIONS[name]

    def ours(x: Any) -> Any:
        return function(np, x)

    expected = function(numpy, x)
    outside = ours(x)
    assert type(outside).__module__ == "numpy"
    numpy.testing.assert_allclose(outside, expected, rtol=1e-14)
    graph = trace(ours, x)
    numpy.testing.assert_allclose(graph(x), expected, rtol=1e-14)
    numpy.testing.assert_array_equal(simplify(graph)(x), graph(x))
    check_grads(ours, (x,), order=2)


def test_constants_and_makers_are_numpys() -> None:
    assert np.pi == numpy.pi
    assert np.newaxis is None
    for name in ("zeros", "ones", "eye", "arange", "linspace", "full", "float32", "int32"):
        assert getattr(np, name) is getattr(numpy, name)


def test_everything_offered_exists_once() -> None:
    assert len(set(np.__all__)) == len(np.__all__)
    assert all(hasattr(np, name) for name in np.__all__)


def test_argmax_is_an_integer_without_derivative() -> None:
    numpy.testing.assert_array_equal(np.argmax(A, 1), [2, 0])
    numpy.testing.assert_array_equal(np.argmin(A, axis=0), [0, 0, 1])
    derivative = grad(lambda x: np.sum(x[np.argmax(x)] ** 2))(V)
    numpy.testing.assert_array_equal(derivative, [0, 0, 2])


def test_logsumexp_does_not_overflow() -> None:
    numpy.testing.assert_allclose(
        np.logsumexp(A, axis=0), numpy.log(numpy.exp(A).sum(axis=0)), rtol=1e-14
    )
    check_grads(lambda x: np.logsumexp(x, axis=1, keepdims=True), (A,))
    huge = numpy.array([1000.0, 1000.0])
    assert np.logsumexp(huge) == 1000 + numpy.log(2)
    numpy.testing.assert_array_equal(grad(np.logsumexp)(huge), [0.5, 0.5])
    with numpy.errstate(divide="ignore"):
        assert np.logsumexp(numpy.array([-numpy.inf, -numpy.inf])) == -numpy.inf


@settings(max_examples=30)
@given(st.lists(st.floats(-50, 50), min_size=1, max_size=6))
def test_the_derivative_of_logsumexp_is_softmax(values: list[float]) -> None:
    x = numpy.array(values)
    weights = numpy.exp(x - x.max())
    numpy.testing.assert_allclose(grad(np.logsumexp)(x), weights / weights.sum(), rtol=1e-12)


def test_the_norm_at_zero_has_derivative_zero() -> None:
    zero = numpy.zeros(3)
    assert np.linalg.norm(zero) == 0
    numpy.testing.assert_array_equal(grad(np.linalg.norm)(zero), zero)


def test_what_einsum_refuses() -> None:
    with pytest.raises(ValueError, match="takes one or two operands, got 3"):
        np.einsum("i,i,i->", V, V, V)
    with pytest.raises(ValueError, match=r"'ii' must be letters that differ, without '\.\.\.'"):
        np.einsum("ii->i", B)
    with pytest.raises(ValueError, match=r"'\.\.\.j' must be letters"):
        np.einsum("...j->j", B)
    with pytest.raises(ValueError, match="'i' cannot index the shape"):
        np.einsum("i,i->", V, B)
    with pytest.raises(ValueError, match="the result must have indices of the operands"):
        np.einsum("i->k", V)


def test_lists_are_taken_for_arrays() -> None:
    numpy.testing.assert_array_equal(np.matmul([[1.0, 2.0]], [[3.0], [4.0]]), [[11]])
    numpy.testing.assert_array_equal(grad(lambda x: np.sum(x * [1.0, 2.0, 3.0]))(V), [1, 2, 3])


def test_comparisons_of_traced_values_are_traced() -> None:
    graph = trace(lambda x: [x < 1, x <= 1, x > 1, x >= 1, x == 1, x != 1], V)
    numpy.testing.assert_array_equal(graph(V), [V < 1, V <= 1, V > 1, V >= 1, V == 1, V != 1])
    assert all(node.dtype == bool for node in graph.outputs)


def test_a_traced_value_describes_itself() -> None:
    seen: dict[str, Any] = {}

    def f(x: Any) -> Any:
        seen.update(text=f"{x}", shape=np.shape(x), ndim=x.ndim, size=x.size, length=len(x))
        return x.sum()

    grad(f)(A)
    assert seen == {
        "text": "<traced float64[2,3] from input>",
        "shape": (2, 3),
        "ndim": 2,
        "size": 6,
        "length": 2,
    }
