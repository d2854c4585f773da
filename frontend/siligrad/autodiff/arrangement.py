"""Primitives that move elements without changing them, and their rules.

All are linear in the array: a tangent moves as the array does, and the vjp is the transposed move.
"""

from __future__ import annotations

from types import EllipsisType
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from siligrad.autodiff.tracer import Array, Each, Primitive, register

__all__ = [
    "At",
    "Index",
    "Slice",
    "broadcast_to",
    "concatenate",
    "gather",
    "index",
    "reshape",
    "scatter",
    "scatter_add",
    "transpose",
]


def _reshape(x: Array, *, shape: tuple[int, ...]) -> Array:
    return np.reshape(x, shape)


# <g, reshape(dx)> = <reshape(g, shape of x), dx>
reshape: Primitive = register(
    "reshape",
    _reshape,
    vjp=lambda g, out, x, *, shape: reshape(g, shape=x.shape),
    jvp=lambda t, out, x, *, shape: reshape(t, shape=shape),
    shape_rule="the number of elements must stay the same",
)


def _transpose(x: Array, *, axes: tuple[int, ...]) -> Array:
    return x.transpose(axes)


def _inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    if axes == (1, 0):
        return axes
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


# <g, transpose(dx, axes)> = <transpose(g, inverse permutation), dx>
transpose: Primitive = register(
    "transpose",
    _transpose,
    vjp=lambda g, out, x, *, axes: transpose(g, axes=_inverse(axes)),
    jvp=lambda t, out, x, *, axes: transpose(t, axes=axes),
    shape_rule="the axes must be a permutation of the array's axes",
)


def _broadcast_to(x: Array, *, shape: tuple[int, ...]) -> Array:
    # A filled array is cheaper than np.broadcast_to, whose result slows down what reads it.
    result = np.empty(shape, np.asarray(x).dtype)
    result[...] = x
    return result


# <g, broadcast(dx)> = <sum of g over the copies, dx>: the walk sums over what was broadcast
broadcast_to: Primitive = register(
    "broadcast_to",
    _broadcast_to,
    vjp=lambda g, out, x, *, shape: g,
    jvp=lambda t, out, x, *, shape: t,
    elementwise=True,
    shape_rule="the array's shape must equal the new one from the right, or be 1, or missing",
)


def _concatenate(*arrays: Array, axis: int) -> Array:
    return np.concatenate(arrays, axis)


def _concatenate_vjp(position: int, g: Array, out: Array, *arrays: Array, axis: int) -> Array:
    # <g, concatenate(..., da, ...)> = <the part of g that a fills, da>
    start = sum(array.shape[axis] for array in arrays[:position])
    stop = start + arrays[position].shape[axis]
    return index(g, key=(slice_all,) * axis + (Slice(start, stop, None),))


def _concatenate_jvp(position: int, t: Array, out: Array, *arrays: Array, axis: int) -> Array:
    # the tangent in its place and zeros in the others'
    start = sum(array.shape[axis] for array in arrays[:position])
    stop = start + arrays[position].shape[axis]
    place = (slice_all,) * axis + (Slice(start, stop, None),)
    return scatter(t, key=place, shape=out.shape)


concatenate: Primitive = register(
    "concatenate",
    _concatenate,
    vjp=Each(_concatenate_vjp),
    jvp=Each(_concatenate_jvp),
    shape_rule="the arrays must have equal sizes along every axis but the one that is joined",
)


class Slice(NamedTuple):
    """A :class:`slice` that can be hashed."""

    start: int | None
    stop: int | None
    step: int | None


class At(NamedTuple):
    """Stands in an index for the integer array that is operand ``operand`` after the first."""

    operand: int


slice_all = Slice(None, None, None)

Index: TypeAlias = "tuple[int | Slice | At | EllipsisType | None, ...]"


def _numpy_index(pattern: Index, arrays: tuple[Array, ...] = ()) -> Any:
    def item(each: Any) -> Any:
        if type(each) is Slice:
            return slice(*each)
        return arrays[each.operand] if type(each) is At else each

    return tuple(item(each) for each in pattern)


def _index(x: Array, *, key: Index) -> Array:
    return x[_numpy_index(key)]


def _scatter(x: Array, *, key: Index, shape: tuple[int, ...]) -> Array:
    result = np.zeros(shape, x.dtype)
    result[_numpy_index(key)] = x
    return result


# <g, dx[index]> = <zeros with g at index, dx>
index: Primitive = register(
    "index",
    _index,
    vjp=lambda g, out, x, *, key: scatter(g, key=key, shape=x.shape),
    jvp=lambda t, out, x, *, key: index(t, key=key),
    shape_rule="",  # numpy says it best
)
# <g, zeros with dx at index> = <g[index], dx>
scatter: Primitive = register(
    "scatter",
    _scatter,
    vjp=lambda g, out, x, *, key, shape: index(g, key=key),
    jvp=lambda t, out, x, *, key, shape: scatter(t, key=key, shape=shape),
)


def _gather(x: Array, *arrays: Array, key: Index) -> Array:
    return x[_numpy_index(key, arrays)]


def _scatter_add(x: Array, *arrays: Array, key: Index, shape: tuple[int, ...]) -> Array:
    result = np.zeros(shape, x.dtype)
    np.add.at(result, _numpy_index(key, arrays), x)
    return result


# As index and scatter; an element that is gathered twice receives the sum of both cotangents.
gather: Primitive = register(
    "gather",
    _gather,
    vjp=lambda g, out, x, *arrays, key: scatter_add(g, *arrays, key=key, shape=x.shape),
    jvp=lambda t, out, x, *arrays, key: gather(t, *arrays, key=key),
    shape_rule="",
)
scatter_add: Primitive = register(
    "scatter_add",
    _scatter_add,
    vjp=lambda g, out, x, *arrays, key, shape: gather(g, *arrays, key=key),
    jvp=lambda t, out, x, *arrays, key, shape: scatter_add(t, *arrays, key=key, shape=shape),
)
