"""Layers of networks as plain functions, and initial parameters.

Parameters are whatever tree the user likes; a perceptron's are a list of pairs ``(W, b)``.

>>> import numpy
>>> params = perceptron(numpy.random.default_rng(0), [64, 32, 10])
>>> [(W.shape, b.shape) for W, b in params]
[((64, 32), (32,)), ((32, 10), (10,))]
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy
from numpy.typing import DTypeLike, NDArray

from siligrad import numpy as np
from siligrad.autodiff.tracer import Array

__all__ = [
    "Initializer",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "log_softmax",
    "perceptron",
    "predict",
    "relu",
    "sigmoid",
    "softmax",
    "softplus",
]

Initializer: TypeAlias = Callable[[numpy.random.Generator, int, int], NDArray[numpy.float64]]
"""``(rng, inputs, outputs)`` to a matrix of shape ``(inputs, outputs)``."""


# --- initial weights


def he_uniform(rng: numpy.random.Generator, inputs: int, outputs: int) -> NDArray[numpy.float64]:
    """Return uniform weights within ``sqrt(6 / inputs)``: layers of relu keep their variance.

    K. He, X. Zhang, S. Ren, J. Sun, "Delving Deep into Rectifiers" (2015), equation 10.
    """
    bound = math.sqrt(6 / inputs)
    return rng.uniform(-bound, bound, (inputs, outputs))


def he_normal(rng: numpy.random.Generator, inputs: int, outputs: int) -> NDArray[numpy.float64]:
    """Return normal weights of variance ``2 / inputs``, by the paper of :func:`he_uniform`."""
    return rng.standard_normal((inputs, outputs)) * math.sqrt(2 / inputs)


def glorot_uniform(
    rng: numpy.random.Generator, inputs: int, outputs: int
) -> NDArray[numpy.float64]:
    """Return uniform weights within ``sqrt(6 / (inputs + outputs))``, for tanh and sigmoid.

    X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural
    networks" (2010), equation 16.
    """
    bound = math.sqrt(6 / (inputs + outputs))
    return rng.uniform(-bound, bound, (inputs, outputs))


def perceptron(
    rng: numpy.random.Generator,
    sizes: Sequence[int],
    *,
    initializer: Initializer = he_uniform,
    dtype: DTypeLike = numpy.float64,
) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Return the initial parameters of a perceptron with layers of the given sizes.

    One pair ``(W, b)`` for each layer, shapes ``(inputs, outputs)`` and ``(outputs,)``; ``b`` is
    zero.

    Raises
    ------
    ValueError
        If there are fewer than two sizes, or one is not positive.
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(
            f"sizes must be two or more positive numbers, inputs first, not {list(sizes)}"
        )
    return [
        (initializer(rng, inputs, outputs).astype(dtype), numpy.zeros(outputs, dtype))
        for inputs, outputs in itertools.pairwise(sizes)
    ]


# --- functions


def relu(x: Array) -> Array:
    """Return ``maximum(x, 0)``; the derivative at zero is zero."""
    return np.maximum(x, 0)


def sigmoid(x: Array) -> Array:
    """Return ``1 / (1 + exp(-x))``, computed by ``tanh``, which does not overflow."""
    return 0.5 * (np.tanh(0.5 * x) + 1)


def softplus(x: Array) -> Array:
    """Return ``log(1 + exp(x))`` without overflow."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def log_softmax(x: Array) -> Array:
    """Return the logarithm of :func:`softmax` over the last axis."""
    return x - np.logsumexp(x, axis=-1, keepdims=True)


def softmax(x: Array) -> Array:
    """Return ``exp(x)`` scaled so that the last axis sums to 1."""
    return np.exp(log_softmax(x))


def predict(
    params: Iterable[tuple[Array, Array]], x: Array, *, activation: Callable[[Array], Array] = relu
) -> Array:
    """Return the scores of a perceptron: ``activation(x @ W + b)`` for each layer but the last.

    Shapes ``(batch, inputs) -> (batch, outputs)``; the last layer has no activation.
    """
    *hidden, (last_W, last_b) = params
    for W, b in hidden:
        x = activation(x @ W + b)
    return x @ last_W + last_b
