"""Optimizers: how gradients change parameters.

An update is a pure function of trees, so that it can be traced and compiled with the rest of a
training step. The rate is an operand of the update; schedules are evaluated on the host, once a
step.

>>> params, state = [2.0], Momentum(0.5).init([2.0])
>>> Momentum(0.5).update(params, [1.0], state, 0.5)
([np.float64(1.5)], {'velocity': [np.float64(1.0)]})
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy

from siligrad import numpy as np
from siligrad import tree
from siligrad.autodiff.tracer import Array

__all__ = ["Adam", "Halving", "Momentum", "Optimizer", "Schedule", "Sgd", "is_power_of_two", "sgd"]

Schedule: TypeAlias = Callable[[int], float]
"""The rate of each step, counted from 0."""


class Optimizer(Protocol):
    """What :func:`siligrad.train.fit` needs of an optimizer."""

    @property
    def rate(self) -> float | Schedule:
        """The learning rate, or its schedule."""

    def init(self, params: Any) -> Any:
        """Return the state before the first step, a tree of arrays."""

    def update(self, params: Any, grads: Any, state: Any, rate: Array) -> tuple[Any, Any]:
        """Return the parameters and the state after a step."""


def sgd(params: Any, grads: Any, rate: Array) -> Any:
    """Return ``params - rate * grads``, trees of the same structure.

    >>> sgd([1.0, (2.0,)], [1.0, (4.0,)], 0.25)
    [0.75, (1.0,)]
    """
    return tree.map(lambda w, g: w - rate * g, params, grads)


def _check_rate(rate: float | Schedule) -> None:
    if not callable(rate) and not 0 < rate < math.inf:
        raise ValueError(f"rate must be positive and finite, not {rate}")


def _check_fraction(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be in 0 <= {name} < 1, not {value}")


@dataclass(frozen=True, slots=True)
class Sgd:
    """Stochastic gradient descent: ``w -= rate * g``. It has no state."""

    rate: float | Schedule

    def __post_init__(self) -> None:
        _check_rate(self.rate)

    def init(self, params: Any) -> Any:
        return ()

    def update(self, params: Any, grads: Any, state: Any, rate: Array) -> tuple[Any, Any]:
        return sgd(params, grads, rate), state


@dataclass(frozen=True, slots=True)
class Momentum:
    """Gradient descent with a velocity: ``v = decay * v + g``, then ``w -= rate * v``.

    The heavy ball of B. T. Polyak (1964). With ``nesterov`` the step looks ahead, ``w -= rate * (g
    + decay * v)``: I. Sutskever, J. Martens, G. Dahl, G. Hinton, "On the importance of
    initialization and momentum in deep learning" (2013).
    """

    rate: float | Schedule
    decay: float = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        _check_rate(self.rate)
        _check_fraction("decay", self.decay)

    def init(self, params: Any) -> Any:
        return {"velocity": tree.map(np.zeros_like, params)}

    def update(self, params: Any, grads: Any, state: Any, rate: Array) -> tuple[Any, Any]:
        velocity = tree.map(lambda v, g: self.decay * v + g, state["velocity"], grads)
        step = velocity
        if self.nesterov:
            step = tree.map(lambda v, g: g + self.decay * v, velocity, grads)
        return sgd(params, step, rate), {"velocity": velocity}


@dataclass(frozen=True, slots=True)
class Adam:
    """Steps scaled by running moments of the gradient.

    D. P. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization" (2015), algorithm 1.
    """

    rate: float | Schedule
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        _check_rate(self.rate)
        _check_fraction("beta1", self.beta1)
        _check_fraction("beta2", self.beta2)

    def init(self, params: Any) -> Any:
        # What is left of the zeros that the moments began with: beta**t after t steps.
        one = numpy.ones(())
        return {
            "first": tree.map(np.zeros_like, params),
            "second": tree.map(np.zeros_like, params),
            "left1": one.copy(),
            "left2": one,
        }

    def update(self, params: Any, grads: Any, state: Any, rate: Array) -> tuple[Any, Any]:
        first = tree.map(lambda m, g: self.beta1 * m + (1 - self.beta1) * g, state["first"], grads)
        second = tree.map(
            lambda v, g: self.beta2 * v + (1 - self.beta2) * g**2, state["second"], grads
        )
        left1, left2 = self.beta1 * state["left1"], self.beta2 * state["left2"]

        def moved(w: Array, m: Array, v: Array) -> Array:
            step = m / np.astype(1 - left1, m.dtype)
            scale = np.sqrt(v / np.astype(1 - left2, v.dtype)) + self.epsilon
            return w - rate * (step / scale)

        new = {"first": first, "second": second, "left1": left1, "left2": left2}
        return tree.map(moved, params, first, second), new


@dataclass(frozen=True, slots=True)
class Halving:
    """A schedule that halves the rate every ``every`` steps, down to ``least``.

    From a power of two it stays one, so that hardware scales by a shift.

    >>> schedule = Halving(0.5, every=100, least=0.125)
    >>> [schedule(step) for step in (0, 99, 100, 250, 1000)]
    [0.5, 0.5, 0.25, 0.125, 0.125]
    """

    rate: float
    every: int
    least: float = 0.0

    def __post_init__(self) -> None:
        _check_rate(self.rate)
        if self.every < 1:
            raise ValueError(f"every must be at least 1 step, not {self.every}")

    def __call__(self, step: int) -> float:
        return max(math.ldexp(self.rate, -(step // self.every)), self.least)


def is_power_of_two(rate: float) -> bool:
    """Whether multiplying by ``rate`` is a shift.

    >>> is_power_of_two(0.0625), is_power_of_two(0.1)
    (True, False)
    """
    return rate > 0 and math.frexp(rate)[0] == 0.5
