"""Training in exact integers, as the benches do it: the recipe, the step, its calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy
from numpy.typing import NDArray

import siligrad as sg
import siligrad.numpy as np
from siligrad import datasets, losses, metrics, nn, optim, quantize
from siligrad.train import fit
from siligrad_sim.reference import ReferenceDevice

__all__ = ["Evaluator", "Recipe", "Start", "compile_step", "hold_out", "loss", "start_of"]

_CALIBRATION_BATCHES = 8
"""Batches that the formats are calibrated on, with the parameters before and after an epoch."""

_CALIBRATION_RATE = 0.25
"""Of the recipe's rate: floating point diverges where saturated integers do not."""

_SCORED_AT_A_TIME = 500
"""Examples of a run of the inference program."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A network and how it is trained: squared hinge, plain gradient descent.

    Parameters
    ----------
    data
        Folder of the data set.
    layers
        Sizes of the layers of a perceptron.
    batch
        Examples of a step.
    epochs
        Passes over the data.
    rate
        The learning rate at first, of the loss that is the mean over a batch; a power of two.
    halve_after
        Epochs after which it is halved.
    """

    data: str
    layers: tuple[int, ...]
    batch: int = 32
    epochs: int = 30
    rate: float = 2.0**-5
    halve_after: tuple[int, ...] = (15, 21, 26)

    @property
    def network(self) -> str:
        """The sizes of the layers, as in ``784-128-10``."""
        return "-".join(map(str, self.layers))

    def rate_of(self, epoch: int) -> float:
        """Return the rate of an epoch, counted from 1."""
        return self.rate / 2.0 ** sum(1 for last in self.halve_after if last < epoch)


@dataclass(frozen=True, eq=False, slots=True)
class Start:
    """Where a training begins: random parameters, those after an epoch on the host, the data."""

    params: Any
    calibrated: Any
    images: NDArray[Any]
    targets: NDArray[Any]


def hold_out(data: datasets.Dataset, count: int) -> datasets.Dataset:
    """Return `data` with its last `count` training examples in place of the test examples."""
    return replace(
        data,
        train_images=data.train_images[:-count],
        train_labels=data.train_labels[:-count],
        test_images=data.train_images[-count:],
        test_labels=data.train_labels[-count:],
    )


def start_of(recipe: Recipe, data: datasets.Dataset, seed: int) -> Start:
    """Return where the training of `recipe` from `seed` begins."""
    targets = losses.one_vs_rest(data.train_labels, data.classes)
    params = nn.perceptron(numpy.random.default_rng(seed), recipe.layers)
    host = fit(
        loss,
        params,
        data.train_images,
        targets,
        optimizer=optim.Sgd(recipe.rate * _CALIBRATION_RATE),
        epochs=1,
        batch=recipe.batch,
        seed=seed,
        progress=False,
    )
    return Start(params, host.params, data.train_images, targets)


def compile_step(recipe: Recipe, start: Start, target: sg.Target) -> sg.Program:
    """Compile a step of `recipe`: from parameters to new ones, and the margins of the batch.

    Formats are calibrated with the parameters before and after an epoch on the host.
    """

    def step(params: Any, x: Any, y: Any) -> Any:
        grads = sg.grad(loss)(params, x, y)
        new = [
            (W - recipe.rate * dW, b - recipe.rate * db)
            for (W, b), (dW, db) in zip(params, grads, strict=True)
        ]
        return new, np.maximum(1 - y * nn.predict(params, x), 0)

    batch = recipe.batch
    examples = [
        (params, start.images[at : at + batch], start.targets[at : at + batch])
        for params in (start.params, start.calibrated)
        for at in range(0, len(start.images) - batch + 1, batch)[:_CALIBRATION_BATCHES]
    ]
    return sg.compile(step, *examples[0], donate=0, calibration=examples[1:], target=target)


class Evaluator:
    """The accuracy of parameters on test examples, in the integers of the reference.

    Parameters
    ----------
    step
        The step that trains them: the formats are its.
    start, data
        Where it began; its test examples are scored.
    target
        As of the step.
    """

    def __init__(
        self, step: sg.Program, start: Start, data: datasets.Dataset, target: sg.Target
    ) -> None:
        self._data = data
        count = min(_SCORED_AT_A_TIME, len(data.test_images))
        program = sg.compile(
            nn.predict,
            start.params,
            data.test_images[:count],
            resident=0,
            target=target,
            formats=step.formats,
            calibration=[(start.calibrated, data.test_images[:count])],
        )
        self._device = ReferenceDevice(program.geometry)
        self._device.load(program)

    def __call__(self, params: Sequence[Any]) -> float:
        """Return the fraction of test examples that `params` classify rightly."""
        self._device.write("params", params)
        scores = quantize.classify(self._device, self._data.test_images)
        return metrics.accuracy(scores, self._data.test_labels)


def loss(params: Any, x: Any, y: Any) -> Any:
    """Return the loss that is minimised: the squared hinge, y is +1 or -1."""
    return losses.squared_hinge(nn.predict(params, x), y)
