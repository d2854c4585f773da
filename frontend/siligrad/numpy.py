"""numpy's functions for networks, on plain and on traced arrays.

Import it in the place of numpy inside functions that are to be differentiated or compiled. Outside
of a transformation every function takes and returns plain numpy arrays.

>>> from siligrad import numpy as np
>>> np.mean(np.maximum(np.array([-1.0, 3.0]), 0))
np.float64(1.5)

Elementwise functions such as :data:`exp`, :data:`tanh`, :data:`maximum` or :data:`where` are
primitives themselves; the others below are composed of primitives, so that no rule is needed for
them.
"""

# ruff: noqa: A001  # the names are numpy's

from __future__ import annotations

import builtins
import itertools
import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy import (
    arange,
    bool_,
    e,
    eye,
    float32,
    float64,
    full,
    inf,
    int32,
    int64,
    linspace,
    nan,
    newaxis,
    ones,
    pi,
    zeros,
)

from siligrad.autodiff import arrangement, elementwise, reduction
from siligrad.autodiff.elementwise import (
    absolute,
    add,
    cos,
    divide,
    equal,
    exp,
    expm1,
    greater,
    greater_equal,
    isfinite,
    less,
    less_equal,
    log,
    log1p,
    logical_and,
    logical_not,
    logical_or,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    sign,
    sin,
    sqrt,
    stop_gradient,
    subtract,
    tanh,
    where,
)
from siligrad.autodiff.indexing import getitem
from siligrad.autodiff.operators import attach
from siligrad.autodiff.source import at_caller
from siligrad.autodiff.tracer import Array, Tracer
from siligrad.errors import ShapeError

__all__ = [
    "abs",
    "absolute",
    "add",
    "arange",
    "argmax",
    "argmin",
    "array",
    "asarray",
    "astype",
    "bool_",
    "broadcast_to",
    "clip",
    "concatenate",
    "cos",
    "divide",
    "dot",
    "e",
    "einsum",
    "equal",
    "exp",
    "expand_dims",
    "expm1",
    "eye",
    "float32",
    "float64",
    "full",
    "full_like",
    "greater",
    "greater_equal",
    "inf",
    "int32",
    "int64",
    "isfinite",
    "less",
    "less_equal",
    "linalg",
    "linspace",
    "log",
    "log1p",
    "logical_and",
    "logical_not",
    "logical_or",
    "logsumexp",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "moveaxis",
    "multiply",
    "nan",
    "ndim",
    "negative",
    "newaxis",
    "not_equal",
    "ones",
    "ones_like",
    "outer",
    "pi",
    "power",
    "ravel",
    "reshape",
    "shape",
    "sign",
    "sin",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "subtract",
    "sum",
    "swapaxes",
    "tanh",
    "transpose",
    "true_divide",
    "var",
    "where",
    "zeros",
    "zeros_like",
]

Axis = int | Sequence[int] | None

abs = absolute
true_divide = divide


# --- making and describing arrays


def asarray(x: Any, dtype: Any = None) -> Array:
    """Return ``x`` as an array; lists may hold traced values at any depth."""
    if type(x) is Tracer:
        return x if dtype is None else astype(x, dtype)
    if isinstance(x, (list, tuple)) and _holds_tracer(x):
        return asarray(stack([asarray(item) for item in x]), dtype)
    return np.asarray(x, dtype)


def array(x: Any, dtype: Any = None) -> Array:
    """Return a new array of ``x``; as :func:`asarray` otherwise."""
    if type(x) is Tracer or (isinstance(x, (list, tuple)) and _holds_tracer(x)):
        return asarray(x, dtype)
    return np.array(x, dtype)


def _holds_tracer(items: Any) -> bool:
    if isinstance(items, (list, tuple)):
        return any(_holds_tracer(item) for item in items)
    return type(items) is Tracer


def astype(x: Array, dtype: Any) -> Array:
    """Return ``x`` as elements of type ``dtype``; a rounding to integers has derivative zero."""
    return elementwise.astype(asarray(x), dtype=str(np.dtype(dtype)))


def shape(x: Array) -> tuple[int, ...]:
    """Return the size of each dimension of ``x``."""
    return x.shape if type(x) is Tracer else np.shape(x)


def ndim(x: Array) -> int:
    """Return the number of dimensions of ``x``."""
    return len(shape(x))


def full_like(x: Array, value: Any, dtype: Any = None) -> Array:
    """Return an array like ``x`` filled with ``value``: a constant, also inside a trace."""
    x = asarray(x)
    return np.full(x.shape, value, x.dtype if dtype is None else dtype)


def zeros_like(x: Array, dtype: Any = None) -> Array:
    """Return an array of zeros like ``x``."""
    return full_like(x, 0, dtype)


def ones_like(x: Array, dtype: Any = None) -> Array:
    """Return an array of ones like ``x``."""
    return full_like(x, 1, dtype)


# --- element by element


def power(x: Array, exponent: Any) -> Array:
    """Return ``x ** exponent``; an exponent that is a number is a static parameter of the node.

    With an array as the exponent the derivative by the exponent is ``x**exponent * log(x)``, and
    zero where ``x`` is not positive.
    """
    if isinstance(exponent, (int, float)) and not isinstance(exponent, bool):
        return elementwise.power(asarray(x), exponent=exponent)
    return elementwise.raise_to(x, exponent)


def square(x: Array) -> Array:
    """Return ``x ** 2``."""
    return elementwise.power(asarray(x), exponent=2)


def clip(x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    """Return ``x`` limited to ``low .. high``; None is no limit. The derivative inside is 1."""
    if low is not None:
        x = maximum(x, low)
    return x if high is None else minimum(x, high)


# --- along axes


def _axes(x: Array, axis: Axis, name: str) -> tuple[int, ...]:
    """Return the axes as sorted positions from 0."""
    dimensions = len(x.shape)
    if axis is None:
        return tuple(range(dimensions))
    given = (axis,) if isinstance(axis, (int, np.integer)) else tuple(axis)
    if builtins.any(not -dimensions <= k < dimensions for k in given):
        raise ShapeError(
            f"{name} over axis {axis} of an array of shape {x.shape}: there is no such axis"
            f"{at_caller()}"
        )
    return tuple(sorted({int(k) % dimensions for k in given}))


def sum(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """Return the sum over ``axis`` (all axes by default)."""
    x = asarray(x)
    return reduction.sum(x, axis=_axes(x, axis, "sum"), keepdims=keepdims)


def mean(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """Return the arithmetic mean over ``axis``: the sum divided by the number of elements."""
    x = asarray(x)
    axes = _axes(x, axis, "mean")
    return reduction.sum(x, axis=axes, keepdims=keepdims) / math.prod([x.shape[k] for k in axes])


def var(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """Return the mean squared distance from the mean over ``axis``."""
    return mean(square(x - mean(x, axis, keepdims=True)), axis, keepdims)


def std(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """Return the square root of :func:`var`."""
    return sqrt(var(x, axis, keepdims))


def max(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """Return the largest element over ``axis``; equal ones share the derivative."""
    x = asarray(x)
    return reduction.max(x, axis=_axes(x, axis, "max"), keepdims=keepdims)


def min(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """Return the smallest element over ``axis``; equal ones share the derivative."""
    x = asarray(x)
    return reduction.min(x, axis=_axes(x, axis, "min"), keepdims=keepdims)


def argmax(x: Array, axis: int | None = None) -> Array:
    """Return where the largest element is; it has no derivative."""
    return reduction.argmax(asarray(x), axis=axis)


def argmin(x: Array, axis: int | None = None) -> Array:
    """Return where the smallest element is; it has no derivative."""
    return reduction.argmin(asarray(x), axis=axis)


def logsumexp(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """Return ``log(sum(exp(x)))`` without overflow: the largest element is taken out first.

    The derivative is the softmax of ``x``.
    """
    x = asarray(x)
    top = stop_gradient(max(x, axis, keepdims=True))
    top = where(isfinite(top), top, 0)
    total = log(sum(exp(x - top), axis, keepdims=True)) + top
    return total if keepdims else squeeze(total, _axes(x, axis, "logsumexp"))


def _norm(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """Return the Euclidean length over ``axis`` (of all elements by default).

    At zero the length has a corner; its derivative there is defined as zero.
    """
    total = sum(square(asarray(x)), axis, keepdims)
    empty = equal(total, 0)
    return where(empty, 0, sqrt(where(empty, 1, total)))


linalg = SimpleNamespace(norm=_norm)


# --- moving elements


def reshape(x: Array, *shape: Any) -> Array:
    """Return ``x`` with another shape; one size may be -1 and is computed."""
    x = asarray(x)
    sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    new = tuple(int(size) for size in sizes)
    if new.count(-1) == 1:
        rest = -math.prod(new)
        new = tuple(x.size // rest if size == -1 and rest else size for size in new)
    return x if new == x.shape else arrangement.reshape(x, shape=new)


def ravel(x: Array) -> Array:
    """Return all elements in one dimension."""
    return reshape(x, -1)


def transpose(x: Array, *axes: Any) -> Array:
    """Return ``x`` with its axes in the given order; reversed by default."""
    x = asarray(x)
    n = len(x.shape)
    if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], (tuple, list))):
        axes = tuple(axes[0] or ())
    order = tuple(int(axis) % n for axis in axes) if axes else tuple(range(n))[::-1]
    return x if n < 2 and not axes else arrangement.transpose(x, axes=order)


def swapaxes(x: Array, first: int, second: int) -> Array:
    """Return ``x`` with two axes exchanged."""
    x = asarray(x)
    order = list(range(len(x.shape)))
    order[first], order[second] = order[second], order[first]
    return arrangement.transpose(x, axes=tuple(order))


def moveaxis(x: Array, source: int, destination: int) -> Array:
    """Return ``x`` with axis ``source`` moved to position ``destination``."""
    x = asarray(x)
    n = len(x.shape)
    order = [axis for axis in range(n) if axis != source % n]
    order.insert(destination % n, source % n)
    return arrangement.transpose(x, axes=tuple(order))


def expand_dims(x: Array, axis: int) -> Array:
    """Return ``x`` with a dimension of size 1 put in at ``axis``."""
    x = asarray(x)
    sizes = list(x.shape)
    sizes.insert(axis % (len(sizes) + 1), 1)
    return arrangement.reshape(x, shape=tuple(sizes))


def squeeze(x: Array, axis: Axis = None) -> Array:
    """Return ``x`` without dimensions of size 1: all of them, or those in ``axis``."""
    x = asarray(x)
    ones_at = tuple(k for k, size in enumerate(x.shape) if size == 1)
    axes = ones_at if axis is None else _axes(x, axis, "squeeze")
    if not set(axes) <= set(ones_at):
        raise ShapeError(
            f"squeeze of shape {x.shape} over axis {axis}: its size must be 1{at_caller()}"
        )
    return reshape(x, tuple(size for k, size in enumerate(x.shape) if k not in axes))


def broadcast_to(x: Array, shape: Sequence[int]) -> Array:
    """Return ``x`` repeated to ``shape`` by numpy's rule."""
    return arrangement.broadcast_to(asarray(x), shape=tuple(shape))


def concatenate(arrays: Sequence[Array], axis: int = 0) -> Array:
    """Return the arrays joined along an existing axis."""
    parts = [asarray(part) for part in arrays]
    return arrangement.concatenate(*parts, axis=axis % builtins.max(len(parts[0].shape), 1))


def stack(arrays: Sequence[Array], axis: int = 0) -> Array:
    """Return the arrays, all of one shape, joined along a new axis."""
    return concatenate([expand_dims(part, axis) for part in arrays], axis)


def split(x: Array, parts: int | Sequence[int], axis: int = 0) -> list[Array]:
    """Return ``x`` cut into equal ``parts``, or before each of the given positions.

    Raises
    ------
    ShapeError
        If equal parts are not possible.
    """
    x = asarray(x)
    axis %= len(x.shape)
    size = x.shape[axis]
    if isinstance(parts, int):
        if size % parts:
            raise ShapeError(
                f"split of shape {x.shape} along axis {axis} into {parts} equal parts{at_caller()}"
            )
        parts = range(size // parts, size, size // parts)
    bounds = [0, *parts, size]
    before = (slice(None),) * axis
    return [getitem(x, (*before, slice(a, b))) for a, b in itertools.pairwise(bounds)]


# --- products


def matmul(a: Array, b: Array) -> Array:
    """Return the matrix product ``a @ b``: ``(..., m, k) @ (..., k, n) -> (..., m, n)``.

    A vector is a row on the left and a column on the right, as in numpy.
    """
    a, b = asarray(a), asarray(b)
    rows, columns = len(a.shape), len(b.shape)
    if rows > 1 and columns > 1:
        return reduction.matmul(a, b)
    if rows == 0 or columns == 0:
        raise ShapeError(
            f"matmul of shapes {a.shape} and {b.shape}: use * to scale by a number{at_caller()}"
        )
    left = expand_dims(a, 0) if rows == 1 else a
    right = expand_dims(b, 1) if columns == 1 else b
    product = reduction.matmul(left, right)
    gone = ((-2,) if rows == 1 else ()) + ((-1,) if columns == 1 else ())
    return squeeze(product, gone)


def dot(a: Array, b: Array) -> Array:
    """Return numpy's ``dot``: the product by a number, of vectors, or of matrices.

    With more dimensions, the sum over the last axis of ``a`` and the second to last of ``b``.
    """
    a, b = asarray(a), asarray(b)
    if not a.shape or not b.shape:
        return multiply(a, b)
    if len(a.shape) <= 2 and len(b.shape) <= 2:
        return matmul(a, b)
    if len(b.shape) == 1:
        return matmul(a, b)
    inner = moveaxis(b, -2, 0)
    product = matmul(reshape(a, -1, a.shape[-1]), reshape(inner, inner.shape[0], -1))
    return reshape(product, a.shape[:-1] + inner.shape[1:])


def outer(a: Array, b: Array) -> Array:
    """Return the product of every element of ``a`` with every element of ``b``, as a matrix."""
    return reshape(a, -1, 1) * reshape(b, 1, -1)


def einsum(subscripts: str, *operands: Array) -> Array:
    """Return the sum of products that ``subscripts`` describes, of one or two operands.

    Without ``->`` the result has the indices that occur once, in alphabetical order. An index may
    not occur twice in one operand, and there is no ``...``.

    Raises
    ------
    ValueError
        If the subscripts say something else.
    """
    left, arrow, result = subscripts.replace(" ", "").partition("->")
    indices = left.split(",")
    arrays = [asarray(operand) for operand in operands]
    if len(indices) != len(arrays) or len(arrays) not in (1, 2):
        raise ValueError(f"einsum {subscripts!r} takes one or two operands, got {len(arrays)}")
    for own, each in zip(indices, arrays, strict=True):
        if (own and not own.isalpha()) or len(set(own)) != len(own):
            raise ValueError(
                f"einsum {subscripts!r}: {own!r} must be letters that differ, without '...'"
            )
        if len(own) != len(each.shape):
            raise ShapeError(
                f"einsum {subscripts!r}: {own!r} cannot index the shape {each.shape}{at_caller()}"
            )
    if not arrow:
        result = "".join(sorted(k for k in set(left) - {","} if left.count(k) == 1))
    if not set(result) <= set(left) or len(set(result)) != len(result):
        raise ValueError(
            f"einsum {subscripts!r}: the result must have indices of the operands, once"
        )
    # An index that only one operand has is summed there: then the rule of a product is a product.
    for k, own in enumerate(indices):
        others = result + "".join(indices[:k] + indices[k + 1 :])
        arrays[k] = sum(arrays[k], [j for j, letter in enumerate(own) if letter not in others])
        indices[k] = "".join(letter for letter in own if letter in others)
    if len(arrays) == 1:
        return transpose(arrays[0], [indices[0].index(letter) for letter in result])
    return reduction.einsum(*arrays, subscripts=f"{indices[0]},{indices[1]}->{result}")


# --- traced values

# What numpy's own functions become when they are given a traced value, by their names.
attach({name: globals()[name] for name in __all__} | {"linalg.norm": _norm})
