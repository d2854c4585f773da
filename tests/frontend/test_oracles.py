"""Generated compositions, differentiated by siligrad and by HIPS autograd and JAX.

Both are optional (the extra ``oracle``); without them these tests are skipped and say so.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy
import pytest

import siligrad.numpy as sg_numpy
from siligrad.autodiff import grad, jvp, value_and_grad

COMPOSITIONS = 200


@dataclass(frozen=True)
class Operation:
    """A step of a composition: which shapes it takes, and what it does with any numpy."""

    accepts: Callable[..., bool]
    apply: Callable[..., Any]
    operands: int = 1


def any_shape(*shapes: tuple[int, ...]) -> bool:
    return True


def broadcasts(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    try:
        return len(numpy.broadcast_shapes(a, b)) <= 2
    except ValueError:
        return False


def matrices(*shapes: tuple[int, ...]) -> bool:
    return all(len(shape) == 2 for shape in shapes)


def multiplies(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return len(a) == len(b) == 2 and a[1] == b[0]


def has_axes(*shapes: tuple[int, ...]) -> bool:
    return all(len(shape) >= 1 for shape in shapes)


def long(*shapes: tuple[int, ...]) -> bool:
    return all(len(shape) >= 1 and shape[0] >= 3 for shape in shapes)


def alike(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return a == b and len(a) == 2 and a[0] < 8


OPERATIONS = [
    Operation(any_shape, lambda np, a: np.tanh(a)),
    Operation(any_shape, lambda np, a: np.exp(-a * a)),
    Operation(any_shape, lambda np, a: np.sin(a) * np.cos(2 * a)),
    Operation(any_shape, lambda np, a: np.sqrt(a**2 + 1)),
    Operation(any_shape, lambda np, a: np.log(1 + a**2)),
    Operation(any_shape, lambda np, a: np.log1p(a**2) - np.expm1(-(a**2))),
    Operation(any_shape, lambda np, a: np.abs(a) * np.sign(a) / 2),
    Operation(any_shape, lambda np, a: np.tanh(a) ** 3),
    Operation(any_shape, lambda np, a: (a**2 + 1) ** -0.5),
    Operation(any_shape, lambda np, a: np.maximum(a, 0.1)),
    Operation(any_shape, lambda np, a: np.minimum(0.3 - a, a)),
    Operation(any_shape, lambda np, a: np.where(a > 0.05, a, 0.2 * a)),
    Operation(any_shape, lambda np, a: np.clip(a, -0.7, 0.8)),
    Operation(broadcasts, lambda np, a, b: a + 0.5 * b, 2),
    Operation(broadcasts, lambda np, a, b: a - b, 2),
    Operation(broadcasts, lambda np, a, b: a * b, 2),
    Operation(broadcasts, lambda np, a, b: a / (1 + b**2), 2),
    Operation(broadcasts, lambda np, a, b: np.maximum(a, b + 0.01), 2),
    Operation(broadcasts, lambda np, a, b: (a**2 + 0.5) ** np.tanh(b), 2),
    Operation(multiplies, lambda np, a, b: a @ b / 2, 2),
    Operation(multiplies, lambda np, a, b: np.dot(a, b) / 2, 2),
    Operation(multiplies, lambda np, a, b: np.einsum("ij,jk->ki", a, b) / 2, 2),
    Operation(matrices, lambda np, a: a.T),
    Operation(matrices, lambda np, a: np.transpose(a) @ a / 2),
    Operation(matrices, lambda np, a: np.swapaxes(a, 0, 1)),
    Operation(has_axes, lambda np, a: np.sum(a, axis=0) / 2),
    Operation(has_axes, lambda np, a: np.mean(a, axis=-1, keepdims=True)),
    Operation(has_axes, lambda np, a: np.max(a, axis=0)),
    Operation(has_axes, lambda np, a: np.min(a, axis=-1, keepdims=True)),
    Operation(has_axes, lambda np, a: np.log(np.sum(np.exp(a), axis=-1))),
    Operation(has_axes, lambda np, a: np.reshape(a, (-1, 1))),
    Operation(has_axes, lambda np, a: a[::-1] * 1.5),
    Operation(long, lambda np, a: a[1:3]),
    Operation(long, lambda np, a: a[numpy.array([0, 2, 0])]),
    Operation(matrices, lambda np, a: a[:, None, 0]),
    Operation(alike, lambda np, a, b: np.concatenate([a, b], axis=1), 2),
    Operation(alike, lambda np, a, b: np.sum(np.stack([a, b, a * b]), axis=0), 2),
    Operation(has_axes, lambda np, a: a - np.mean(a)),
    Operation(has_axes, lambda np, a: a / np.sqrt(1 + np.sum(a**2))),
]


def composition(seed: int) -> Callable[[Any, Any, Any], Any]:
    """Return a random scalar function ``(np, x, y)``."""
    rng = numpy.random.default_rng(seed)
    picks = rng.integers(0, 1 << 30, (int(rng.integers(3, 12)), 3))
    weights = rng.standard_normal(16)

    def function(np: Any, x: Any, y: Any) -> Any:
        values = [x, y]
        for which, first, second in picks:
            operands = [values[first % len(values)], values[second % len(values)]]
            possible = [
                each
                for each in OPERATIONS
                if each.accepts(*(operand.shape for operand in operands[: each.operands]))
            ]
            chosen = possible[which % len(possible)]
            values.append(chosen.apply(np, *operands[: chosen.operands]))
        total = 0.0
        for weight, value in zip(weights, values[-3:], strict=False):
            total = total + weight * np.mean(np.tanh(value))
        return total

    return function


def arguments(seed: int) -> tuple[Any, Any]:
    rng = numpy.random.default_rng(seed + 10_000)
    return rng.standard_normal((3, 4)), rng.standard_normal((4, 3))


def second_order(grad: Any, np: Any, function: Any, x: Any, y: Any, v: Any) -> Any:
    """Return the gradient of the directional derivative along ``v``, by reverse over reverse."""
    return grad(lambda x: np.sum(grad(lambda x: function(np, x, y))(x) * v))(x)


def imported(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        try:
            return importlib.import_module(name)
        except ImportError:
            pytest.skip(f"{name} is not installed: pip install siligrad[oracle]")


def agree(mine: Any, theirs: Any) -> None:
    numpy.testing.assert_allclose(mine, numpy.asarray(theirs), rtol=1e-9, atol=1e-11)


@pytest.fixture(scope="module")
def hips() -> Any:
    return imported("autograd"), imported("autograd.numpy")


@pytest.fixture(scope="module")
def jax() -> Any:
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")  # it compiles faster
    module = imported("jax")
    before = module.config.jax_enable_x64
    module.config.update("jax_enable_x64", True)
    yield module, imported("jax.numpy")
    module.config.update("jax_enable_x64", before)
    monkeypatch.undo()


@pytest.mark.filterwarnings("ignore:Output seems independent of input")  # it is, at times
@pytest.mark.parametrize("seed", range(COMPOSITIONS))
def test_hips_autograd_agrees(hips: Any, seed: int) -> None:
    autograd, anp = hips
    function, (x, y) = composition(seed), arguments(seed)
    v = numpy.random.default_rng(seed).standard_normal(x.shape)
    value, gradients = value_and_grad(lambda x, y: function(sg_numpy, x, y), (0, 1))(x, y)
    agree(value, function(anp, x, y))
    for position, gradient in enumerate(gradients):
        agree(gradient, autograd.grad(lambda x, y: function(anp, x, y), position)(x, y))
    mine = second_order(grad, sg_numpy, function, x, y, v)
    agree(mine, second_order(autograd.grad, anp, function, x, y, v))


@pytest.mark.parametrize(
    "seed",
    [
        # What JAX compiles for each takes it longer than everything else here.
        pytest.param(seed, marks=pytest.mark.extended if seed % 4 else ())
        for seed in range(COMPOSITIONS)
    ],
)
def test_jax_agrees(jax: Any, seed: int) -> None:
    module, jnp = jax
    function, (x, y) = composition(seed), arguments(seed)
    v = numpy.random.default_rng(seed).standard_normal(x.shape)

    def mine(x: Any) -> Any:
        return function(sg_numpy, x, y)

    @module.jit  # type: ignore[untyped-decorator]
    def theirs(x: Any, y: Any, v: Any) -> Any:
        # forward over reverse: value and gradient, and the derivatives of both along v
        judged = module.value_and_grad(lambda x: function(jnp, x, y))
        (value, gradient), (tangent, product) = module.jvp(judged, (x,), (v,))
        return value, gradient, tangent, product

    value, gradient = value_and_grad(mine)(x)
    tangent = jvp(mine, (x,), (v,))[1]
    product = jvp(grad(mine), (x,), (v,))[1]
    for ours, judged in zip((value, gradient, tangent, product), theirs(x, y, v), strict=True):
        agree(ours, judged)


def test_compositions_use_every_operation() -> None:
    used: set[int] = set()
    numbered = [
        Operation(each.accepts, _noting(each, number, used), each.operands)
        for number, each in enumerate(OPERATIONS)
    ]
    original = OPERATIONS.copy()
    OPERATIONS[:] = numbered
    try:
        for seed in range(COMPOSITIONS):
            composition(seed)(sg_numpy, *arguments(seed))
    finally:
        OPERATIONS[:] = original
    assert used == set(range(len(OPERATIONS)))


def _noting(each: Operation, number: int, used: set[int]) -> Callable[..., Any]:
    def apply(*args: Any) -> Any:
        used.add(number)
        return each.apply(*args)

    return apply
