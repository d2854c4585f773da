"""How good predictions are: numbers about scores and labels, on plain arrays.

Scores have the shape ``(n, classes)``, the greatest wins; labels have the shape ``(n,)``.

>>> import numpy
>>> scores = numpy.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
>>> float(accuracy(scores, numpy.array([0, 1, 1])))
0.6666666666666666
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siligrad.errors import ShapeError

__all__ = ["Calibration", "accuracy", "calibration", "confusion_matrix", "per_class_accuracy"]


def accuracy(scores: ArrayLike, labels: ArrayLike) -> float:
    """Return the fraction of examples whose greatest score is at their label."""
    predicted, actual, _ = _classes(scores, labels)
    return float(np.mean(predicted == actual))


def confusion_matrix(scores: ArrayLike, labels: ArrayLike) -> NDArray[np.int64]:
    """Count the examples of each class (row) that were taken for each class (column)."""
    predicted, actual, count = _classes(scores, labels)
    return np.bincount(actual * count + predicted, minlength=count * count).reshape(count, count)


def per_class_accuracy(scores: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    """Return the fraction of each class that is recognised; NaN for a class without examples."""
    counts = confusion_matrix(scores, labels)
    total = counts.sum(axis=1)
    result: NDArray[np.float64] = np.full(len(total), np.nan)
    np.divide(counts.diagonal(), total, out=result, where=total > 0)
    return result


@dataclass(frozen=True, eq=False, slots=True)
class Calibration:
    """How often predictions are right, by how confident they are.

    Parameters
    ----------
    confidence, accuracy : :class:`numpy.ndarray`
        Mean confidence and fraction right in each bin; NaN in an empty one.
    count : :class:`numpy.ndarray`
        Examples in each bin.
    error : :class:`float`
        Expected calibration error: mean distance of the two, weighted by the count.
    """

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    count: NDArray[np.int64]
    error: float


def calibration(probabilities: ArrayLike, labels: ArrayLike, bins: int = 10) -> Calibration:
    """Compare confidence with accuracy in ``bins`` equal intervals of confidence.

    ``probabilities`` are scores that sum to 1 for each example, such as ``nn.softmax`` gives. C.
    Guo, G. Pleiss, Y. Sun, K. Weinberger, "On Calibration of Modern Neural Networks" (2017),
    equation 3.
    """
    predicted, actual, _ = _classes(probabilities, labels)
    sure = np.asarray(probabilities, dtype=np.float64).max(axis=1)
    if not np.all((sure >= 0) & (sure <= 1 + 1e-6)):
        raise ValueError("probabilities must be in 0 .. 1; apply siligrad.nn.softmax to scores")
    index = np.minimum((sure * bins).astype(np.int64), bins - 1)
    count = np.bincount(index, minlength=bins)
    right = np.bincount(index, predicted == actual, minlength=bins)
    total = np.bincount(index, sure, minlength=bins)
    empty = np.full(bins, np.nan)
    confidence = np.divide(total, count, out=empty.copy(), where=count > 0)
    hits = np.divide(right, count, out=empty.copy(), where=count > 0)
    error = float(np.abs(right - total).sum() / max(len(actual), 1))
    return Calibration(confidence, hits, count, error)


def _classes(
    scores: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    table: NDArray[Any] = np.asarray(scores)
    actual: NDArray[Any] = np.asarray(labels)
    if table.ndim != 2 or actual.shape != table.shape[:1]:
        raise ShapeError(
            f"scores must have the shape (n, classes) and labels (n,), not {table.shape} and "
            f"{actual.shape}"
        )
    count = table.shape[1]
    if actual.size and not 0 <= actual.min() <= actual.max() < count:
        raise ValueError(
            f"labels must be in 0 .. {count - 1}, not {actual.min()} .. {actual.max()}"
        )
    return table.argmax(axis=1), actual.astype(np.int64), count
