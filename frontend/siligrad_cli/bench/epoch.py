"""``siligrad bench epoch``: a whole epoch of SGD on the simulated hardware, and on the reference.

Both train by themselves from the same parameters and seed; what is compared is everything at the
end - every word of every memory, the shift registers - and the loss of every batch on the way.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

import siligrad as sg
from siligrad import datasets, quantize
from siligrad.device import Device, Report, device_class
from siligrad.errors import DataError, SiligradError
from siligrad.files import replacing
from siligrad.isa import ARRAY_SIZES, Memory
from siligrad_cli.bench.training import Evaluator, Recipe, Start, compile_step, start_of
from siligrad_cli.options import natural, positive
from siligrad_cli.plotting import plotting, save_figure
from siligrad_sim.reference import ReferenceDevice

__all__ = ["Result", "add_parser", "run_epoch"]

HIDDEN = 128
"""Hidden units."""

SMOOTHED = 50
"""Batches that the drawn loss is a mean of."""


class Different(SiligradError):
    """A device did not end as the reference did."""


@dataclass(frozen=True, slots=True)
class Result:
    """What an epoch came to.

    Parameters
    ----------
    network, data, device, array, batch, seed
        What was trained where.
    steps
        Steps of gradient descent.
    cycles_predicted, cycles_measured
        Busy cycles of all steps.
    words_compared
        Of the three memories, after the last step: all are equal, or there is no result.
    accuracy
        Of the test images, in integers, with the parameters read back from the device.
    saturated
        Elements, in all steps.
    seconds
        That the device took, its simulator built before, host and all.
    losses
        The squared hinge of each batch before its step, from margins that the device computed.
    """

    network: str
    data: str
    device: str
    array: int
    batch: int
    seed: int
    steps: int
    cycles_predicted: int
    cycles_measured: int
    words_compared: int
    accuracy: float
    saturated: int
    seconds: float
    losses: tuple[float, ...]


def add_parser(benches: Any) -> None:
    """Add the sub-command to the parser."""
    parser = benches.add_parser(
        "epoch",
        help="train for a whole epoch on a device and compare every word at the end",
        description=f"Train a perceptron with {HIDDEN} hidden units for an epoch on a device and "
        "on the reference, from the same random weights; compare every word and each batch's loss. "
        "Exit status 1 if anything differs.",
    )
    parser.add_argument(
        "--data",
        default="optdigits",
        metavar="DIR",
        help="optdigits, or a folder of IDX files such as mnist/ (default optdigits)",
    )
    parser.add_argument("--device", default="verilator", metavar="NAME", help="default verilator")
    parser.add_argument("--array", type=int, default=8, choices=ARRAY_SIZES, metavar="N")
    parser.add_argument("--seed", type=natural, default=0)
    parser.add_argument("--steps", type=positive, metavar="S", help="the first S steps of it only")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("build/epoch"),
        metavar="DIR",
        help="where result.json and loss.svg go (default build/epoch)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=_command)


def _command(options: argparse.Namespace) -> int:
    result = run_epoch(
        data=options.data,
        device=options.device,
        array=options.array,
        seed=options.seed,
        steps=options.steps,
    )
    text = json.dumps(asdict(result))
    options.output.mkdir(parents=True, exist_ok=True)
    with replacing(options.output / "result.json") as beside:
        beside.write_text(text + "\n")
    if options.json:
        print(text)
        return 0
    for name, value in asdict(result).items():
        if name != "losses":
            print(f"{name:<17} {value}")
    try:
        print(f"{'picture':<17} {draw(result, options.output / 'loss.svg')}")
    except ImportError:
        print(f"{'picture':<17} none: it needs matplotlib (pip install 'siligrad[plot]')")
    return 0


def run_epoch(
    *, data: str, device: str, array: int = 8, seed: int = 0, steps: int | None = None
) -> Result:
    """Train for an epoch on a device and on the reference and compare.

    Raises
    ------
    Different
        With the first difference.
    """
    found = datasets.optdigits() if data == "optdigits" else datasets.load_idx_folder(Path(data))
    recipe = Recipe(found.name, (found.inputs, HIDDEN, found.classes), epochs=1)
    if steps is not None:
        if not 1 <= steps <= len(found.train_labels) // recipe.batch:
            most = len(found.train_labels) // recipe.batch
            raise DataError(f"an epoch of {found.name} has {most} steps, not {steps}")
        found = replace(
            found,
            train_images=found.train_images[: steps * recipe.batch],
            train_labels=found.train_labels[: steps * recipe.batch],
        )
    target = sg.Target(array=array)
    start = start_of(recipe, found, seed)
    program = compile_step(recipe, start, target)
    print(
        f"{program.cycles} cycles a step, {program.utilisation:.1%} of the multipliers' time; "
        f"building {device}",
        file=sys.stderr,
    )
    with device_class(device)(program.geometry) as machine:
        before = time.perf_counter()
        got = _train(machine, program, start, seed)
        seconds = time.perf_counter() - before
        reference = ReferenceDevice(program.geometry)
        expected = _train(reference, program, start, seed)
        compared = _compare(machine, reference, program)
        for step, (one, other) in enumerate(zip(got.losses, expected.losses, strict=True)):
            if one != other:
                raise Different(f"the loss of step {step} is {one}, but must be {other}")
        if got.saturated != expected.saturated:
            raise Different(
                f"{got.saturated} elements saturated, but {expected.saturated} must have"
            )
        if machine.read_lfsr() != reference.read_lfsr():
            raise Different("the shift registers differ after the last step")
    return Result(
        network=recipe.network,
        data=found.name,
        device=device,
        array=array,
        batch=recipe.batch,
        seed=seed,
        steps=len(got.losses),
        cycles_predicted=program.cycles * len(got.losses),
        cycles_measured=got.cycles,
        words_compared=compared,
        accuracy=Evaluator(program, start, found, target)(got.params),
        saturated=got.saturated,
        seconds=round(seconds, 1),
        losses=tuple(got.losses),
    )


@dataclass(slots=True)
class _Trained:
    """Parameters after an epoch, and what was seen of each of its steps."""

    params: Any = None
    cycles: int = 0
    saturated: int = 0
    losses: list[float] = field(default_factory=list)


def _train(device: Device, program: sg.Program, start: Start, seed: int) -> _Trained:
    """Train for an epoch."""
    trained = _Trained()

    def observe(machine: Device, report: Report) -> None:
        margins = machine.read_result(1)
        trained.losses.append(float(numpy.mean(numpy.sum(margins**2, axis=1))))
        trained.cycles += report.cycles
        trained.saturated += sum(report.saturations)

    data = [start.images, start.targets]
    run = quantize.train(device, program, data, epochs=1, seed=seed, observe=observe)
    trained.params = run.params
    return trained


def _compare(machine: Device, reference: Device, program: sg.Program) -> int:
    """Return the words compared.

    Raises
    ------
    Different
        If one differs.
    """
    right, wrong = reference.dump(), machine.dump()
    for memory in Memory:
        places = numpy.argwhere(right[memory] != wrong[memory])
        if len(places):
            address, bank = (int(index) for index in places[0])
            found = program.locate(memory, address, bank)
            whose = "nothing's" if found is None else f"{found[0].name}{list(found[2])}"
            raise Different(
                f"{len(places)} words of {memory.name} differ after the last step; word {address} "
                f"of bank {bank} ({whose}) is {wrong[memory][address, bank]}, but must be "
                f"{right[memory][address, bank]}"
            )
    return sum(words.size for words in right.values())


def draw(result: Result, path: Path) -> Path:
    """Draw the loss of each batch, and its mean over some, and return `path`."""
    losses: NDArray[numpy.float64] = numpy.array(result.losses)
    width = min(SMOOTHED, len(losses))
    with plotting() as pyplot:
        figure, axes = pyplot.subplots(figsize=(7, 3.2), layout="constrained")
        axes.plot(losses, linewidth=0.5, color="0.75", label="each batch")
        smooth = numpy.convolve(losses, numpy.ones(width) / width, mode="valid")
        axes.plot(
            numpy.arange(width - 1, len(losses)),
            smooth,
            color="C0",
            label=f"mean of {width} batches",
        )
        axes.set(
            xlabel="step",
            ylabel="squared hinge",
            yscale="log",
            title=f"{result.network} on {result.device}, {result.array} x {result.array}: an epoch "
            f"of {result.data}",
        )
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        save_figure(figure, path)
    return path
