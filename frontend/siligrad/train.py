"""Training on the host: batches, epochs, validation, checkpoints.

A run is a function of its arguments: the same data, parameters and seed give the same bits, also
when it was interrupted and resumed in between.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siligrad import checkpoint as checkpoints
from siligrad import tree
from siligrad.autodiff import static, value_and_grad
from siligrad.errors import DataError, ShapeError, TrainingError
from siligrad.long_work import progress_bar
from siligrad.optim import Optimizer, Schedule

__all__ = ["Epoch", "Run", "batches", "fit"]


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one pass over the training data came to.

    Parameters
    ----------
    number : :class:`int`
        Counted from 1.
    loss : :class:`float`
        Mean of the batches' losses, each before its update.
    rate : :class:`float`
        Learning rate of the last step.
    score : :class:`float` or None
        What ``evaluate`` said of the parameters after the epoch.
    """

    number: int
    loss: float
    rate: float
    score: float | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Run:
    """The result of :func:`fit`.

    Parameters
    ----------
    params : tree
        The best parameters by score when there is ``patience``, the last ones otherwise.
    history : :class:`tuple` of :class:`Epoch`
        All epochs, those before a resumption too.
    """

    params: Any
    history: tuple[Epoch, ...]

    @property
    def best(self) -> Epoch:
        """The first epoch with the highest score; without scores the one with the least loss."""
        return max(self.history, key=_merit)


def _merit(epoch: Epoch) -> float:
    return -epoch.loss if epoch.score is None else epoch.score


@dataclass(frozen=True, eq=False, slots=True)
class _Progress:
    """Everything that changes from epoch to epoch; what a checkpoint holds."""

    params: Any
    state: Any
    best: Any
    history: tuple[Epoch, ...] = ()


def batches(count: int, batch: int, seed: int, epoch: int) -> Iterator[NDArray[np.int64]]:
    """Yield the indices of each batch of an epoch: a shuffle that depends on seed and epoch alone.

    All batches are full; the remainder of ``count`` by ``batch`` waits for another epoch's shuffle.
    """
    order = np.random.default_rng((seed, epoch)).permutation(count)
    for start in range(0, count - batch + 1, batch):
        yield order[start : start + batch]


def fit(
    loss: Callable[..., Any],
    params: Any,
    inputs: NDArray[Any],
    targets: NDArray[Any],
    *,
    optimizer: Optimizer,
    epochs: int,
    batch: int = 32,
    seed: int = 0,
    evaluate: Callable[[Any], float] | None = None,
    patience: int | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    eager: bool = False,
) -> Run:
    """Minimize ``loss(params, inputs, targets)`` over batches of the training data.

    Parameters
    ----------
    loss : callable
        ``(params, x, y)`` to a scalar, for a batch of rows of ``inputs`` and ``targets``.
    params : tree of arrays
        Initial parameters; they are not changed.
    inputs, targets : :class:`numpy.ndarray`
        Training data, examples along the first axis.
    optimizer : :class:`~siligrad.optim.Optimizer`
        Such as ``siligrad.optim.Sgd(2**-6)``.
    epochs : :class:`int`
        Passes over the data, in all: a resumed run does those that are left.
    batch : :class:`int`
        Examples in a step.
    seed : :class:`int`
        Determines the order of the examples.
    evaluate : callable, optional
        ``params`` to a score of validation data, greater is better; called after each epoch.
    patience : :class:`int`, optional
        Stop when this many epochs in a row brought no higher score, and return the best parameters.
    checkpoint : path, optional
        Written after every epoch. If it exists, the run goes on from there, and ends with the bits
        that it would have had without the interruption.
    progress : :class:`bool`
        Show a bar on a terminal when the package tqdm is installed.
    eager : :class:`bool`
        Call ``loss`` in every step. Otherwise the step is traced once and executed by
        :func:`~siligrad.autodiff.static.static`, several times as fast: then ``loss`` must not draw
        random numbers or depend on anything but its arguments.

    Raises
    ------
    TrainingError
        If the loss of a batch is not finite.
    DataError
        If the checkpoint is of another run: other data, sizes, optimizer, batch or seed.
    ShapeError
        If inputs and targets differ in number, or a batch is larger than the data.
    """
    count = len(inputs)
    if len(targets) != count:
        raise ShapeError(
            f"{count} inputs and {len(targets)} targets: one target for each is needed"
        )
    if not 1 <= batch <= count:
        raise ShapeError(f"batch must be in 1 .. {count}, the number of examples, not {batch}")
    if patience is not None and evaluate is None:
        raise ValueError("patience needs evaluate, whose score it waits for")
    params = tree.map(np.array, params)
    now = _Progress(params, tree.map(np.array, optimizer.init(params)), params)
    path = None if checkpoint is None else Path(checkpoint)
    run = _fingerprint(inputs, targets, optimizer, batch, seed)
    if path is not None and path.exists():
        now = _resume(path, now, run)
    stepper = _Stepper(loss, optimizer, now, inputs, targets, batch, eager)
    per_epoch = count // batch
    with progress_bar(epochs * per_epoch, show=progress) as advance:
        advance(len(now.history) * per_epoch, "")
        while len(now.history) < epochs and not _is_over(now.history, patience):
            number = len(now.history) + 1
            total = 0.0
            for k, chosen in enumerate(batches(count, batch, seed, number)):
                value = stepper.step(chosen, (number - 1) * per_epoch + k)
                if not math.isfinite(value):
                    raise TrainingError(_not_finite(value, number, k, stepper.rate))
                total += value
                advance(1, "")
            params, state = tree.map(np.array, (stepper.params, stepper.state))
            score = None if evaluate is None else float(evaluate(params))
            epoch = Epoch(number, total / per_epoch, stepper.rate, score)
            better = not now.history or _merit(epoch) > max(map(_merit, now.history))
            best = params if better else now.best
            now = _Progress(params, state, best, (*now.history, epoch))
            if path is not None:
                _save(path, now, run)
            advance(0, _summary(epoch))
    return Run(now.best if patience is not None else now.params, now.history)


class _Stepper:
    """Parameters and optimizer state in arrays that every step overwrites."""

    def __init__(
        self,
        loss: Callable[..., Any],
        optimizer: Optimizer,
        start: _Progress,
        inputs: NDArray[Any],
        targets: NDArray[Any],
        batch: int,
        eager: bool,
    ) -> None:
        self._data = (inputs, targets)
        self._batch = [part[:batch].copy() for part in self._data]
        self._rate_at = _schedule(optimizer)
        self.params, self.state = tree.map(np.array, (start.params, start.state))
        gradient = value_and_grad(loss)

        def step(params: Any, state: Any, x: Any, y: Any, rate: Any) -> Any:
            value, grads = gradient(params, x, y)
            return *optimizer.update(params, grads, state, rate), value

        # The rate has the type of the parameters: a wider one would widen them.
        kinds = [leaf.dtype for leaf in tree.flatten(start.params)[0]]
        self._kind = np.result_type(*kinds) if kinds else np.dtype(float)
        self._rate = self._kind.type(self._rate_at(0))
        self._step: Callable[..., Any] = step
        if not eager:
            example = (self.params, self.state, *self._batch, self._rate)
            self._step = static(step, donate=(0, 1))(*example)

    @property
    def rate(self) -> float:
        """The rate of the last step."""
        return float(self._rate)

    def step(self, chosen: NDArray[np.int64], number: int) -> float:
        """Do step ``number`` with the chosen examples and return their loss before it."""
        self._rate = self._kind.type(self._rate_at(number))
        for part, space in zip(self._data, self._batch, strict=True):
            np.take(part, chosen, axis=0, out=space, mode="clip")  # unlike "raise", without a copy
        result = self._step(self.params, self.state, *self._batch, self._rate)
        self.params, self.state, value = result
        return float(value)


def _schedule(optimizer: Optimizer) -> Schedule:
    rate = optimizer.rate
    return rate if callable(rate) else lambda step: rate


def _is_over(history: tuple[Epoch, ...], patience: int | None) -> bool:
    if patience is None or not history:
        return False
    best = max(history, key=_merit)
    return history[-1].number - best.number >= patience


def _not_finite(value: float, epoch: int, step: int, rate: float) -> str:
    return (
        f"the loss is {value} in epoch {epoch}, step {step + 1}, at rate {rate}: the run diverged "
        "or the data hold NaN; use a smaller rate, smaller initial weights, or check the inputs "
        "with numpy.isfinite"
    )


def _summary(epoch: Epoch) -> str:
    score = "" if epoch.score is None else f", score {epoch.score:.4f}"
    return f"epoch {epoch.number}: loss {epoch.loss:.4f}{score}"


def _fingerprint(
    inputs: NDArray[Any], targets: NDArray[Any], optimizer: Optimizer, batch: int, seed: int
) -> str:
    """Return a digest of what must stay the same for a resumed run to be the same run."""
    rate = optimizer.rate
    # A schedule may be any function: it is known by its values.
    rates = tuple(float(rate(2**k)) for k in range(24)) if callable(rate) else rate
    others = _constants(optimizer)
    setting = (type(optimizer).__qualname__, rates, others, batch, seed)
    digest = hashlib.sha256(repr(setting).encode())
    for array in (inputs, targets):
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def _constants(optimizer: Any) -> list[tuple[str, Any]]:
    if not is_dataclass(optimizer):
        return []
    names = [field.name for field in fields(optimizer) if field.name != "rate"]
    return [(name, getattr(optimizer, name)) for name in names]


def _save(path: Path, now: _Progress, run: str) -> None:
    trees = {"params": now.params, "state": now.state, "best": now.best}
    history = [asdict(epoch) for epoch in now.history]
    checkpoints.save(path, trees, {"run": run, "history": history})


def _resume(path: Path, start: _Progress, run: str) -> _Progress:
    like = {"params": start.params, "state": start.state, "best": start.best}
    trees, metadata = checkpoints.load(path, like)
    if metadata.get("run") != run:
        raise DataError(
            f"{path} is the checkpoint of another run: data, optimizer, batch or seed differ; "
            "give it another name or delete it"
        )
    history = tuple(Epoch(**epoch) for epoch in metadata["history"])
    return _Progress(trees["params"], trees["state"], trees["best"], history)
