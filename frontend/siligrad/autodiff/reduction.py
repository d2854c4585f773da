"""Primitives that combine elements along axes, products of matrices, and their rules."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from siligrad.autodiff.arrangement import broadcast_to, reshape, transpose
from siligrad.autodiff.elementwise import astype, equal
from siligrad.autodiff.tracer import Array, Primitive, register

__all__ = [
    "argmax",
    "argmin",
    "einsum",
    "is_product_with_ones",
    "matmul",
    "max",
    "min",
    "ones",
    "sum",
    "unbroadcast",
]

Axes = tuple[int, ...]

# The reductions of ufuncs are what np.sum, np.max and np.min call, without their overhead.
_add: Any = np.add.reduce
_maximum: Any = np.maximum.reduce
_minimum: Any = np.minimum.reduce


def _kept(shape: tuple[int, ...], axis: Axes) -> tuple[int, ...]:
    """Return ``shape`` with ones in the place of reduced axes."""
    return tuple([1 if k in axis else size for k, size in enumerate(shape)])


def _expand(g: Array, shape: tuple[int, ...], axis: Axes, keepdims: bool) -> Array:
    """Reshape a reduced ``g`` to broadcast to ``shape``; leading axes need nothing."""
    if keepdims or len(axis) == len(shape) or axis == tuple(range(len(axis))):
        return g
    return reshape(g, shape=_kept(shape, axis))


def is_product_with_ones(
    shape: tuple[int, ...], dtype: np.dtype[Any], axis: Axes, keepdims: bool
) -> bool:
    """Whether a sum is computed as ``ones @ x``: over the rows of a matrix, as for each bias.

    BLAS takes a third of the time that numpy's reduction takes for a small batch.
    """
    return axis == (0,) and len(shape) == 2 and dtype.char in "fd" and not keepdims


@functools.lru_cache(maxsize=64)
def ones(count: int, dtype: str) -> Array:
    """Return a vector of ones that nobody writes to."""
    vector = np.ones(count, dtype)
    vector.flags.writeable = False
    return vector


def _sum(x: Array, *, axis: Axes, keepdims: bool) -> Array:
    x = np.asarray(x)
    if is_product_with_ones(x.shape, x.dtype, axis, keepdims):
        return np.dot(ones(len(x), x.dtype.char), x)
    return _add(x, axis=axis, keepdims=keepdims)


# <g, sum(dx)> = <broadcast(g), dx>
sum: Primitive = register(  # noqa: A001
    "sum",
    _sum,
    vjp=lambda g, out, x, *, axis, keepdims: broadcast_to(
        _expand(g, x.shape, axis, keepdims), shape=x.shape
    ),
    jvp=lambda t, out, x, *, axis, keepdims: sum(t, axis=axis, keepdims=keepdims),
)


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Sum ``g`` over the copies that broadcasting an array of ``shape`` to ``g.shape`` made.

    A ``g`` that is itself smaller than ``shape`` (a rule may return a scalar) is broadcast first.
    """
    extra = len(g.shape) - len(shape)
    if extra < 0 or any(a < b for a, b in zip(g.shape[extra:], shape, strict=True)):
        g = broadcast_to(g, shape=np.broadcast_shapes(g.shape, shape))
        extra = len(g.shape) - len(shape)
    if extra:
        g = sum(g, axis=tuple(range(extra)), keepdims=False)
    copied = tuple([k for k, size in enumerate(shape) if size == 1 and g.shape[k] != 1])
    return sum(g, axis=copied, keepdims=True) if copied else g


def _max(x: Array, *, axis: Axes, keepdims: bool) -> Array:
    return _maximum(x, axis=axis, keepdims=keepdims)


def _min(x: Array, *, axis: Axes, keepdims: bool) -> Array:
    return _minimum(x, axis=axis, keepdims=keepdims)


def _weights(out: Array, x: Array, axis: Axes, keepdims: bool) -> Array:
    """Return one over the number of extreme elements at each of them, and zero elsewhere."""
    hit = astype(equal(x, _expand(out, x.shape, axis, keepdims)), dtype=str(x.dtype))
    return hit / sum(hit, axis=axis, keepdims=True)


def _extreme_vjp(g: Array, out: Array, x: Array, *, axis: Axes, keepdims: bool) -> Array:
    # d max(x) = d(the element that is largest); several share it equally
    return _expand(g, x.shape, axis, keepdims) * _weights(out, x, axis, keepdims)


def _extreme_jvp(t: Array, out: Array, x: Array, *, axis: Axes, keepdims: bool) -> Array:
    return sum(t * _weights(out, x, axis, keepdims), axis=axis, keepdims=keepdims)


_NOT_EMPTY = "the axes that are reduced must not be empty"
max: Primitive = register(  # noqa: A001
    "max", _max, vjp=_extreme_vjp, jvp=_extreme_jvp, shape_rule=_NOT_EMPTY
)
min: Primitive = register(  # noqa: A001
    "min", _min, vjp=_extreme_vjp, jvp=_extreme_jvp, shape_rule=_NOT_EMPTY
)


def _argmax(x: Array, *, axis: int | None) -> Array:
    return np.argmax(x, axis)


def _argmin(x: Array, *, axis: int | None) -> Array:
    return np.argmin(x, axis)


argmax: Primitive = register("argmax", _argmax, shape_rule=_NOT_EMPTY)
argmin: Primitive = register("argmin", _argmin, shape_rule=_NOT_EMPTY)


def _swap(x: Array) -> Array:
    """Transpose the last two axes."""
    n = len(x.shape)
    return transpose(x, axes=(*range(n - 2), n - 1, n - 2))


def _matmul_vjp_a(g: Array, out: Array, a: Array, b: Array) -> Array:
    # <g, da @ b> = <g @ b.T, da>; axes before the last two broadcast
    cotangent = g @ _swap(b)
    return cotangent if cotangent.shape == a.shape else unbroadcast(cotangent, a.shape)


def _matmul_vjp_b(g: Array, out: Array, a: Array, b: Array) -> Array:
    # <g, a @ db> = <a.T @ g, db>
    cotangent = _swap(a) @ g
    return cotangent if cotangent.shape == b.shape else unbroadcast(cotangent, b.shape)


matmul: Primitive = register(
    "matmul",
    np.matmul,
    vjp=(_matmul_vjp_a, _matmul_vjp_b),
    jvp=(lambda t, out, a, b: t @ b, lambda t, out, a, b: a @ t),
    shape_rule="it needs (m, k) @ (k, n): the columns of the first must be the rows of the second",
)


def _einsum(a: Array, b: Array, *, subscripts: str) -> Array:
    return np.einsum(subscripts, a, b)


def _indices(subscripts: str) -> tuple[str, str, str]:
    operands, io = subscripts.split("->")
    ia, ib = operands.split(",")
    return ia, ib, io


def _einsum_vjp_a(g: Array, out: Array, a: Array, b: Array, *, subscripts: str) -> Array:
    # every index of a is in b or in the result, so <g, (da b)> = <(g b), da>
    ia, ib, io = _indices(subscripts)
    return einsum(g, b, subscripts=f"{io},{ib}->{ia}")


def _einsum_vjp_b(g: Array, out: Array, a: Array, b: Array, *, subscripts: str) -> Array:
    ia, ib, io = _indices(subscripts)
    return einsum(a, g, subscripts=f"{ia},{io}->{ib}")


einsum: Primitive = register(
    "einsum",
    _einsum,
    vjp=(_einsum_vjp_a, _einsum_vjp_b),
    jvp=(
        lambda t, out, a, b, *, subscripts: einsum(t, b, subscripts=subscripts),
        lambda t, out, a, b, *, subscripts: einsum(a, t, subscripts=subscripts),
    ),
    shape_rule="an index must have one size wherever it occurs",
)
