"""Training in exact integers: a compiled step, run on a device, batch after batch.

The device may be the reference, which makes this quantization-aware training with the very
arithmetic of the hardware, or the hardware itself: the words are the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siligrad import checkpoint as checkpoints
from siligrad.device import Device, Report
from siligrad.errors import DataError, ShapeError, TrainingError
from siligrad.isa import Memory
from siligrad.long_work import progress_bar, stopping
from siligrad.program import Program, Role
from siligrad.train import batches

__all__ = ["IntegerEpoch", "IntegerRun", "classify", "train"]


_STEPS_TO_JUDGE = 16
"""Fewest steps after which weights that have not changed are taken for dead."""


@dataclass(frozen=True, slots=True)
class IntegerEpoch:
    """What one pass over the training data came to.

    Parameters
    ----------
    number
        Counted from 1.
    halvings
        How often the compiled learning rate had been halved.
    saturations
        Saturated elements of each instruction in this epoch.
    score
        What `evaluate` said of the parameters after it.
    """

    number: int
    halvings: int
    saturations: tuple[int, ...]
    score: float | None = None


@dataclass(frozen=True, eq=False, slots=True)
class IntegerRun:
    """The result of :func:`train`: the last parameters, decoded, and all epochs."""

    params: Any
    history: tuple[IntegerEpoch, ...]


def train(
    device: Device,
    program: Program,
    data: Sequence[NDArray[Any]],
    *,
    epochs: int,
    halve_after: Sequence[int] = (),
    seed: int = 0,
    evaluate: Callable[[Any], float] | None = None,
    observe: Callable[[Device, Report], None] | None = None,
    checkpoint: str | Path | None = None,
    save_every: int | None = None,
    progress: bool = True,
) -> IntegerRun:
    """Train on `device` with the compiled step `program`.

    The program is loaded with the parameters that it was compiled with. Ctrl-C stops after the run
    that is going on; with a `checkpoint` the state is saved first, and the same call goes on from
    there, with the bits that it would have had without the interruption. So it does after a device
    has failed, or this process was killed, from the checkpoint that was written last.

    Parameters
    ----------
    device
        Of the program's geometry.
    program
        A step: its first result takes the place of what it updates.
    data
        An array for each argument that does not stay in the device, examples along the first axis.
    epochs
        Passes over the data, in all. The examples that fill no whole run are left out.
    halve_after
        Epochs after which the learning rate is halved: one more bit of shift, no recompilation.
    seed
        Of the order of the examples and of stochastic rounding.
    evaluate
        Parameters, decoded, to a score of validation data; called after each epoch.
    observe
        Called with the device and its report after each run; it may read results, and must not
        write.
    checkpoint
        A file that is written after every epoch and before an interruption.
    save_every
        Runs of an epoch after which it is written too; None where epochs are short.
    progress
        Show a bar on a terminal when the package tqdm is installed.

    Raises
    ------
    TrainingError
        If parameters have stopped learning: with those, and the saturations that show why.
    DataError
        If the checkpoint is of another run.
    ShapeError
        If the data do not fit the program.
    ValueError
        If `save_every` is not positive.
    KeyboardInterrupt
        After Ctrl-C, once the state is saved.
    """
    if save_every is not None and save_every < 1:
        raise ValueError(f"save_every must be at least 1 run, not {save_every}")
    batch, steps, count = _check_data(program, data)
    path = None if checkpoint is None else Path(checkpoint)
    run = _fingerprint(program, data, halve_after, seed)
    device.load(program, seed=seed)
    history: list[IntegerEpoch] = []
    start, saturations = 0, np.zeros(len(program.instructions), np.int64)
    if path is not None and path.exists():
        history, start, saturations = _resume(path, device, run)
    per_epoch = count // (batch * steps)
    with progress_bar(epochs * per_epoch, show=progress) as advance, stopping() as interrupted:
        advance(len(history) * per_epoch + start, "")
        while len(history) < epochs:
            number = len(history) + 1
            halvings = sum(1 for epoch in halve_after if epoch < number)
            device.reload(program.slowed(halvings) if halvings else program)
            before = _updated_words(device)
            for k, chosen in enumerate(batches(count, batch * steps, seed, number)):
                if k < start:
                    continue
                inputs = [_shaped(part[chosen], batch, steps) for part in data]
                report = device.run(*inputs)
                saturations += report.saturations
                if observe is not None:
                    observe(device, report)
                advance(1, "")
                stop = interrupted()
                if path is not None and (stop or (save_every and (k + 1) % save_every == 0)):
                    _save(path, device, run, history, k + 1, saturations)
                if stop:
                    raise KeyboardInterrupt
            if (per_epoch - start) * steps >= _STEPS_TO_JUDGE:
                _check_learning(device, before, number, saturations)
            score = None if evaluate is None else float(evaluate(device.read_result(0)))
            counted = tuple(saturations.tolist())
            history.append(IntegerEpoch(number, halvings, counted, score))
            start, saturations = 0, np.zeros_like(saturations)
            if path is not None:
                _save(path, device, run, history, 0, saturations)
            advance(0, f"epoch {number}" + ("" if score is None else f": score {score:.4f}"))
        if interrupted():  # while the last score was computed
            raise KeyboardInterrupt
    return IntegerRun(device.read_result(0), tuple(history))


def classify(device: Device, inputs: NDArray[Any]) -> NDArray[np.float64]:
    """Return the scores of `inputs`, examples along the first axis.

    The inference program that is loaded is run as often as needed; the last batch is filled with
    zeros.
    """
    program = device.program
    batch, steps, _ = _check_data(program, [inputs])
    whole = batch * steps
    scores = []
    for at in range(0, len(inputs), whole):
        part = np.zeros((whole, *inputs.shape[1:]))
        found = inputs[at : at + whole]
        part[: len(found)] = found
        device.run(_shaped(part, batch, steps))
        (result,) = device.read()
        scores.append(np.asarray(result).reshape(whole, -1)[: len(found)])
    return np.concatenate(scores)


def _check_data(program: Program, data: Sequence[NDArray[Any]]) -> tuple[int, int, int]:
    """Return examples of a step, steps of a run, and examples in all."""
    wanted = [argument for argument in program.arguments if not argument.resident]
    if len(data) != len(wanted) or any(len(argument.tensors) != 1 for argument in wanted):
        names = ", ".join(argument.name for argument in wanted)
        raise ShapeError(
            f"program {program.name!r} is given {len(data)} arrays of examples, but takes {names} "
            "in each run, which must be single arrays"
        )
    tensors = [program.tensors[argument.tensors[0]] for argument in wanted]
    for tensor, part in zip(tensors, data, strict=True):
        if part.shape[1:] != tensor.shape[1:] or len(part) != len(data[0]):
            raise ShapeError(
                f"examples of {tensor.name} have shape {part.shape}; the program takes "
                f"{tensor.shape[1:]} each, {len(data[0])} of them"
            )
    return tensors[0].shape[0], program.loop.steps, len(data[0])


def _shaped(examples: NDArray[Any], batch: int, steps: int) -> NDArray[Any]:
    """Return the examples of a run as the program takes them."""
    return examples if steps == 1 else examples.reshape(steps, batch, *examples.shape[1:])


def _updated_words(device: Device) -> dict[str, NDArray[np.int32]]:
    """Return the words of everything that the program updates, by name."""
    program = device.program
    n = program.geometry.array
    places = {
        (instruction.destination, instruction.d_base)
        for instruction in program.instructions
        if program.updates(instruction)
    }
    return {
        tensor.name: device.read_words(tensor.memory, tensor.base, tensor.words(n))
        for tensor in program.tensors
        if tensor.role == Role.RESIDENT and (tensor.memory, tensor.base) in places
    }


def _check_learning(
    device: Device,
    before: dict[str, NDArray[np.int32]],
    number: int,
    saturations: NDArray[np.int64],
) -> None:
    """Raise if an epoch changed some parameters and left all of a matrix of weights as they were.

    An update is rounded stochastically, so gradients that are not zero change something. If errors
    arrive at the last layer (its bias, at least) and not at some weights, the units next to these
    are dead for every example. Where nothing changed at all, there are no errors left.
    """
    after = _updated_words(device)
    program = device.program
    still = [name for name, words in before.items() if np.array_equal(words, after[name])]
    vectors = {tensor.name for tensor in program.tensors if tensor.rows == 1}
    stuck = [name for name in still if name not in vectors]
    if not stuck or len(still) == len(before):
        return
    worst = sorted(np.flatnonzero(saturations), key=lambda index: -saturations[index])[:3]
    counts = "; ".join(
        f"{saturations[index]} elements of instruction {index} ({program.sources[index]})"
        for index in worst
    )
    raise TrainingError(
        f"epoch {number}: {', '.join(stuck)} stopped learning: no step changed any of their words, "
        "so the units next to them are dead for every example. Saturated in this epoch: "
        f"{counts or 'nothing'}. The learning rate is too high: begin with half of it, which is "
        "program.slowed(1)"
    )


def _fingerprint(
    program: Program, data: Sequence[NDArray[Any]], halve_after: Sequence[int], seed: int
) -> str:
    """Return a digest of what must stay the same for a resumed run to be the same run."""
    digest = hashlib.sha256(repr((tuple(halve_after), seed)).encode())
    digest.update(program.to_bytes())
    for array in data:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def _save(
    path: Path,
    device: Device,
    run: str,
    history: Sequence[IntegerEpoch],
    start: int,
    saturations: NDArray[np.int64],
) -> None:
    words = {memory.name: words for memory, words in device.dump().items()}
    state = {"lfsr": np.array(device.read_lfsr(), np.int64), "saturations": saturations}
    metadata = {"run": run, "start": start, "history": [asdict(epoch) for epoch in history]}
    checkpoints.save(path, {"words": words, "state": state}, metadata)


def _resume(
    path: Path, device: Device, run: str
) -> tuple[list[IntegerEpoch], int, NDArray[np.int64]]:
    n, geometry = device.geometry.array, device.geometry
    like = {
        "words": {m.name: np.zeros((geometry.depth(m), n), np.int32) for m in Memory},
        "state": {
            "lfsr": np.zeros(n, np.int64),
            "saturations": np.zeros(len(device.program.instructions), np.int64),
        },
    }
    trees, metadata = checkpoints.load(path, like)
    if metadata.get("run") != run:
        raise DataError(
            f"{path} is the checkpoint of another run: program, data, rates or seed differ; give "
            "it another name or delete it"
        )
    for memory in Memory:
        device.write_words(memory, 0, trees["words"][memory.name])
    device.write_lfsr(trees["state"]["lfsr"].tolist())
    history = [
        IntegerEpoch(**{**epoch, "saturations": tuple(epoch["saturations"])})
        for epoch in metadata["history"]
    ]
    return history, int(metadata["start"]), trees["state"]["saturations"]
