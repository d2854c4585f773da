"""What there is to say about a trained network, as numbers and arrays: nothing is drawn here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import siligrad as sg
from siligrad import losses, metrics, nn
from siligrad.metrics import Calibration
from siligrad.train import Epoch
from siligrad_cli.train import Settings, TrainedRun, split

__all__ = ["Findings", "Layer", "Mistake", "Perturbed", "Perturbation", "examine"]

EPSILONS = tuple(k / 40 for k in range(13))
"""Sizes of the perturbation, in parts of the range of the inputs."""

SHOWN_EPSILONS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)
"""Those that the page shows images for."""

SHOWN_IMAGES = 5
"""How many images it shows under them."""

MISTAKES = 24
DETECTORS = 24

CHUNK = 1000
"""Images that the gradient is taken of at once."""


@dataclass(frozen=True, eq=False, slots=True)
class Mistake:
    """A test image that was taken for another class.

    ``margin`` is the score of the class it was taken for minus that of its own.
    """

    number: int
    image: NDArray[Any]
    actual: int
    taken_for: int
    margin: float


@dataclass(frozen=True, eq=False, slots=True)
class Perturbed:
    """One test image under perturbations of growing size, and what it is taken for."""

    actual: int
    images: NDArray[Any]
    taken_for: tuple[int, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Perturbation:
    """Accuracy on the test images when every input moves by the same distance.

    Parameters
    ----------
    epsilons : sequence of :class:`float`
        The distances, in parts of the range of the inputs.
    gradient, random : sequence of :class:`float`
        Accuracy when inputs move along the sign of the gradient, and along signs that are drawn.
    examples : sequence of :class:`Perturbed`
        Images moved along the gradient by :data:`SHOWN_EPSILONS`.
    """

    epsilons: Sequence[float]
    gradient: Sequence[float]
    random: Sequence[float]
    examples: Sequence[Perturbed]


@dataclass(frozen=True, slots=True)
class Layer:
    """The units of a layer over the test images; those of the last layer have no threshold.

    ``dead`` units are never above zero, ``always`` ones never at zero; ``active`` is how often a
    unit is above zero, on average; ``weight`` is the root mean square of the weights.
    """

    inputs: int
    units: int
    weight: float
    dead: int | None = None
    always: int | None = None
    active: float | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Findings:
    """Everything that the page shows."""

    name: str
    settings: Settings
    history: tuple[Epoch, ...]
    image_shape: tuple[int, int]
    limits: tuple[float, float]
    parameters: int
    train_accuracy: float
    train_images: int
    validation_accuracy: float
    validation_images: int
    test_accuracy: float
    test_images: int
    confusion: NDArray[np.int64]
    class_accuracy: NDArray[np.float64]
    scale: float
    unscaled_error: float
    calibration: Calibration
    mistakes: tuple[Mistake, ...]
    perturbation: Perturbation
    layers: tuple[Layer, ...]
    detectors: NDArray[Any]


def examine(run: TrainedRun) -> Findings:
    """Look at what was learned. The same run gives the same findings."""
    data, params = run.data, run.params
    parts = split(run.settings, data)
    scores = _scores(params, data.test_images)
    labels = data.test_labels
    validation = _scores(params, parts.validation_images)
    scale = 1.0
    if run.settings.loss != "cross_entropy":
        scale = _fit_scale(validation, parts.validation_labels)
    limits = float(data.train_images.min()), float(data.train_images.max())
    return Findings(
        name=data.name,
        settings=run.settings,
        history=run.history,
        image_shape=data.image_shape,
        limits=limits,
        parameters=sum(array.size for pair in params for array in pair),
        train_accuracy=metrics.accuracy(_scores(params, parts.images), parts.labels),
        train_images=len(parts.labels),
        validation_accuracy=metrics.accuracy(validation, parts.validation_labels),
        validation_images=len(parts.validation_labels),
        test_accuracy=metrics.accuracy(scores, labels),
        test_images=len(labels),
        confusion=metrics.confusion_matrix(scores, labels),
        class_accuracy=metrics.per_class_accuracy(scores, labels),
        scale=scale,
        unscaled_error=metrics.calibration(nn.softmax(scores), labels).error,
        calibration=metrics.calibration(nn.softmax(scale * scores), labels),
        mistakes=_mistakes(data.test_images, scores, labels),
        perturbation=_perturb(run, scores, limits),
        layers=tuple(_layers(params, data.test_images)),
        detectors=_detectors(params),
    )


def _scores(params: Any, images: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(nn.predict(params, images), dtype=np.float64)


def _fit_scale(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the factor of the scores for which softmax is most likely to be right.

    Temperature scaling, section 4.2 of the paper that :func:`siligrad.metrics.calibration` cites.
    The loss is convex in the factor: its derivative changes sign once.
    """
    targets = losses.one_hot(labels, scores.shape[1])
    slope = sg.grad(lambda factor: losses.softmax_cross_entropy(factor * scores, targets))
    low, high = math.log(2.0**-10), math.log(2.0**10)
    for _ in range(40):
        middle = (low + high) / 2
        if slope(math.exp(middle)) < 0:
            low = middle
        else:
            high = middle
    return math.exp(low)


def _mistakes(
    images: NDArray[Any], scores: NDArray[np.float64], labels: NDArray[np.int64]
) -> tuple[Mistake, ...]:
    """Return the images that are taken for another class by the greatest margins."""
    taken = scores.argmax(axis=1)
    rows = np.arange(len(labels))
    margin = scores[rows, taken] - scores[rows, labels]
    order = np.argsort(-margin, kind="stable")[:MISTAKES]
    return tuple(
        Mistake(int(k), images[k], int(labels[k]), int(taken[k]), float(margin[k]))
        for k in order
        if taken[k] != labels[k]
    )


def _perturb(
    run: TrainedRun, scores: NDArray[np.float64], limits: tuple[float, float]
) -> Perturbation:
    """Move every test image along the sign of the gradient of its loss, and along drawn signs.

    I. Goodfellow, J. Shlens, C. Szegedy, "Explaining and Harnessing Adversarial Examples" (2015),
    section 4. The gradient is that of softmax cross-entropy whatever was trained with, since a
    hinge has none where an image is right by a margin and would hide what it hides; in float64,
    since far from a mistake it is tiny.
    """
    data = run.data
    params = [(W.astype(np.float64), b.astype(np.float64)) for W, b in run.params]
    targets = losses.one_hot(data.test_labels, data.classes)

    def loss(x: Any, y: Any) -> Any:
        return losses.softmax_cross_entropy(nn.predict(params, x), y)

    gradient = sg.grad(loss)
    images = data.test_images.astype(np.float64)
    signs = np.concatenate([
        np.sign(gradient(images[at : at + CHUNK], targets[at : at + CHUNK]))
        for at in range(0, len(images), CHUNK)
    ])
    rng = np.random.default_rng((run.settings.seed, 2))
    drawn = np.where(rng.random(images.shape) < 0.5, -1.0, 1.0)
    low, high = limits

    def moved(direction: NDArray[Any], epsilon: float, chosen: Any = slice(None)) -> NDArray[Any]:
        away = images[chosen] + epsilon * (high - low) * direction[chosen]
        result: NDArray[Any] = np.clip(away, low, high) if epsilon else images[chosen]
        return result

    def accuracies(direction: NDArray[Any]) -> tuple[float, ...]:
        return tuple(
            metrics.accuracy(nn.predict(params, moved(direction, epsilon)), data.test_labels)
            for epsilon in EPSILONS
        )

    examples = []
    for k in _different(scores.argmax(axis=1), data.test_labels)[:SHOWN_IMAGES]:
        steps = np.concatenate([moved(signs, epsilon, [k]) for epsilon in SHOWN_EPSILONS])
        taken = nn.predict(params, steps).argmax(axis=1)
        examples.append(Perturbed(int(data.test_labels[k]), steps, tuple(map(int, taken))))
    return Perturbation(EPSILONS, accuracies(signs), accuracies(drawn), examples)


def _different(taken: NDArray[np.int64], labels: NDArray[np.int64]) -> list[int]:
    """Return the first image of each class that is recognised."""
    right = np.flatnonzero(taken == labels)
    _, first = np.unique(labels[right], return_index=True)
    return [int(k) for k in np.sort(right[first])]


def _layers(params: Any, images: NDArray[Any]) -> list[Layer]:
    result = []
    x = images
    for number, (W, b) in enumerate(params, start=1):
        weight = float(np.sqrt(np.mean(W.astype(np.float64) ** 2)))
        if number == len(params):
            result.append(Layer(W.shape[0], W.shape[1], weight))
            break
        x = np.maximum(x @ W + b, 0)
        often = (x > 0).mean(axis=0)
        dead, always = int((often == 0).sum()), int((often == 1).sum())
        active = float(often.mean())
        result.append(Layer(W.shape[0], W.shape[1], weight, dead, always, active))
    return result


def _detectors(params: Any) -> NDArray[Any]:
    """Return the weights into the units of the first layer that have the largest."""
    W = params[0][0].astype(np.float64)
    order = np.argsort(-np.linalg.norm(W, axis=0), kind="stable")[:DETECTORS]
    chosen: NDArray[Any] = W[:, order].T
    return chosen
