"""Losses of a batch of predictions, and targets made of labels.

Each takes predictions of shape ``(batch, outputs)`` and returns the mean over the batch, a scalar.

>>> import numpy
>>> y = one_vs_rest(numpy.array([2, 0]), 3)
>>> y
array([[-1., -1.,  1.],
       [ 1., -1., -1.]])
>>> float(squared_hinge(0.5 * y, y))
0.75
"""

from __future__ import annotations

import numpy
from numpy.typing import ArrayLike, DTypeLike, NDArray

from siligrad import numpy as np
from siligrad.autodiff.tracer import Array
from siligrad.errors import ShapeError

__all__ = [
    "mean_squared_error",
    "mse",
    "one_hot",
    "one_vs_rest",
    "softmax_cross_entropy",
    "squared_hinge",
]


def mean_squared_error(predictions: Array, targets: Array) -> Array:
    """Return the mean of ``(predictions - targets)**2`` over all elements."""
    _check("mean_squared_error", predictions, targets)
    return np.mean((predictions - targets) ** 2)


mse = mean_squared_error


def squared_hinge(predictions: Array, targets: Array) -> Array:
    """Return ``maximum(1 - targets * predictions, 0)**2``, summed over the outputs.

    The loss of the L2 support vector machine, one against the rest; targets are +1 and -1. Its
    derivative is a relu, which hardware has anyway: Y. Tang, "Deep Learning using Linear Support
    Vector Machines" (2013), equation 6.
    """
    _check("squared_hinge", predictions, targets)
    margin = np.maximum(1 - targets * predictions, 0)
    return np.mean(np.sum(margin**2, axis=1))


def softmax_cross_entropy(predictions: Array, targets: Array) -> Array:
    """Return minus the logarithm of the probability that softmax gives to the right class.

    ``targets`` is a distribution for each example, such as :func:`one_hot` gives, of the shape of
    the predictions. Computed by ``logsumexp``: large scores do not overflow.
    """
    _check("softmax_cross_entropy", predictions, targets)
    return np.mean(np.logsumexp(predictions, axis=1) - np.sum(targets * predictions, axis=1))


def _check(name: str, predictions: Array, targets: Array) -> None:
    # numpy would broadcast (n, 1) against (n,) to (n, n) without a word.
    if np.shape(predictions) != np.shape(targets):
        raise ShapeError(
            f"{name}: predictions of shape {np.shape(predictions)} and targets of shape "
            f"{np.shape(targets)} must have the same shape"
        )


def one_hot(
    labels: ArrayLike, classes: int, dtype: DTypeLike = numpy.float64
) -> NDArray[numpy.generic]:
    """Return 1 at each label's class and 0 elsewhere: shapes ``(n,) -> (n, classes)``.

    Raises
    ------
    ValueError
        If a label is not in ``0 .. classes - 1``.
    """
    index = numpy.asarray(labels)
    if index.ndim != 1 or index.dtype.kind not in "iu":
        raise ShapeError(
            f"labels must be integers of shape (n,), not {index.dtype}{list(index.shape)}"
        )
    if index.size and not 0 <= index.min() <= index.max() < classes:
        raise ValueError(
            f"labels must be in 0 .. {classes - 1}, not {index.min()} .. {index.max()}"
        )
    result = numpy.zeros((index.size, classes), dtype)
    result[numpy.arange(index.size), index] = 1
    return result


def one_vs_rest(
    labels: ArrayLike, classes: int, dtype: DTypeLike = numpy.float64
) -> NDArray[numpy.generic]:
    """Return +1 at each label's class and -1 elsewhere: shapes ``(n,) -> (n, classes)``."""
    result = one_hot(labels, classes, dtype)
    result *= 2  # type: ignore[misc]
    result -= 1  # type: ignore[misc]
    return result
