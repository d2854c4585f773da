"""Indexing of traced values: from what stands between the brackets to a primitive.

Integers, slices, ``...`` and ``None`` select a regular part (``index``); integer arrays gather
elements (``gather``), and an element that is gathered twice receives both cotangents.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from siligrad.autodiff import arrangement
from siligrad.autodiff.arrangement import At, Slice
from siligrad.autodiff.source import at_caller
from siligrad.autodiff.tracer import Array, Tracer
from siligrad.errors import TraceError

__all__ = ["getitem"]


def getitem(x: Array, key: Any) -> Array:
    """Return ``x[key]``.

    Raises
    ------
    TraceError
        If a boolean mask is traced: the shape of the result would depend on data.
    ShapeError
        If an index is out of range or there are too many.
    """
    pattern: list[Any] = []
    arrays: list[Array] = []
    for item in key if isinstance(key, tuple) else (key,):
        if item is None or item is Ellipsis:
            pattern.append(item)
        elif isinstance(item, slice):
            pattern.append(Slice(*map(_bound, (item.start, item.stop, item.step))))
        elif isinstance(item, (int, np.integer)) and not isinstance(item, bool):
            pattern.append(int(item))
        else:
            for array in _integer_arrays(item):
                pattern.append(At(len(arrays)))
                arrays.append(array)
    if not arrays:
        return arrangement.index(x, key=tuple(pattern))
    return arrangement.gather(x, *arrays, key=tuple(pattern))


def _bound(value: Any) -> int | None:
    return None if value is None else int(value)


def _integer_arrays(item: Any) -> list[Array]:
    array: Array = item if type(item) is Tracer else np.asarray(item)
    if array.dtype.kind in "iu":
        return [array]
    if array.dtype.kind != "b":
        raise TraceError(
            "an index must be integers, slices, or an array of integers, not "
            f"{array.dtype}{at_caller()}"
        )
    if type(item) is Tracer:
        raise TraceError(
            "a traced mask cannot index: the shape of the result would depend on data; use "
            f"siligrad.numpy.where(mask, x, 0){at_caller()}"
        )
    return list(array.nonzero())
