from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siligrad import metrics
from siligrad.errors import ShapeError

examples = st.integers(1, 40).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(1, 5), st.integers(0, 2**32 - 1))
)


def draw(count: int, classes: int, seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, classes)), rng.integers(0, classes, count)


@given(examples)
def test_the_confusion_matrix_counts_every_example(example: tuple[int, int, int]) -> None:
    scores, labels = draw(*example)
    matrix = metrics.confusion_matrix(scores, labels)
    expected = np.zeros((example[1], example[1]), int)
    for row, label in zip(scores, labels, strict=True):
        expected[label, np.argmax(row)] += 1
    np.testing.assert_array_equal(matrix, expected)
    assert metrics.accuracy(scores, labels) == pytest.approx(matrix.trace() / len(labels))


def test_per_class_accuracy_is_not_a_number_without_examples() -> None:
    scores = np.eye(3)[[0, 0, 1]]
    result = metrics.per_class_accuracy(scores, np.array([0, 1, 1]))
    np.testing.assert_array_equal(result, [1, 0.5, np.nan])


@given(examples)
def test_calibration_adds_up(example: tuple[int, int, int]) -> None:
    scores, labels = draw(*example)
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    result = metrics.calibration(probabilities, labels, bins=7)
    assert result.count.sum() == len(labels)
    full = result.count > 0
    hits = (result.accuracy[full] * result.count[full]).sum()
    assert hits / len(labels) == pytest.approx(metrics.accuracy(probabilities, labels))
    gaps = np.abs(result.accuracy - result.confidence)[full]
    assert result.error == pytest.approx((gaps * result.count[full]).sum() / len(labels))


def test_certain_and_right_is_calibrated() -> None:
    result = metrics.calibration(np.eye(4), np.arange(4))
    assert result.error == 0
    assert result.count[-1] == 4
    assert np.isnan(result.accuracy[0])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"scores must have the shape \(n, classes\) and labels"):
        metrics.accuracy(np.ones((3, 2)), np.ones(2, int))
    with pytest.raises(ValueError, match=r"labels must be in 0 \.\. 1, not 0 \.\. 2"):
        metrics.accuracy(np.ones((2, 2)), np.array([0, 2]))
    with pytest.raises(ValueError, match=r"probabilities must be in 0 \.\. 1"):
        metrics.calibration(np.array([[3.0, -1.0]]), np.array([0]))
