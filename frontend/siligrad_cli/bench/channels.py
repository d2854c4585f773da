"""``siligrad bench channels``: what half the hidden channels save, and what they cost.

Products of a layer between two hidden ones shrink to a quarter, those beside it to a half. Cycles
are those of one training step on a device; accuracy is that of networks trained on the host in
floating point, quantized, and run in the integers of the reference.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy
from numpy.typing import NDArray

import siligrad as sg
from siligrad import datasets, losses, metrics, nn, optim, quantize
from siligrad.errors import SiligradError
from siligrad.explain import explain
from siligrad.train import fit
from siligrad_cli.bench.measure import DEVICE, Measurement, measure, progress
from siligrad_cli.bench.programs import Case, compile_all
from siligrad_cli.options import positive
from siligrad_sim.reference import ReferenceDevice

__all__ = ["Accuracy", "HIDDEN", "add_parser", "cases", "layer_cycles", "train_and_quantize"]

HIDDEN = (128, 128)
"""Channels of the two hidden layers, before they are halved."""

IMAGE = 784
CLASSES = 10
ARRAY = 8
BATCH = 32
RATE = 2.0**-5
"""Learning rate on the host; it is halved after two thirds of the epochs."""

CALIBRATION = 1000
"""Training images that the integers' formats are calibrated on."""

SCORED_AT_A_TIME = 500
"""Test images of a run of the inference program."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The accuracy of a network on all test images: mean over the seeds.

    Parameters
    ----------
    network
        Sizes of its layers, as in ``784-128-10``.
    floating
        Of what was trained on the host.
    integers
        Of the same parameters, quantized to 16 bits.
    each
        Of the integers, for each seed.
    """

    network: str
    floating: float
    integers: float
    each: tuple[float, ...]


def add_parser(benches: Any) -> None:
    """Add the sub-command to the parser."""
    parser = benches.add_parser(
        "channels",
        help="what halving the hidden channels saves in cycles and costs in accuracy",
        description="Measure a training step of a perceptron with two hidden layers, and of the "
        "same with half the channels in both; train both on the host beside it and compare their "
        "accuracy in integers. Exit status 1 if a word or a cycle differs from the reference.",
    )
    parser.add_argument(
        "--device",
        default=DEVICE,
        metavar="NAME",
        help=f"verilator, cxxrtl or another installed device (default {DEVICE})",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder that holds mnist/ as IDX files (default: the variable SILIGRAD_DATA; without "
        "either, the bundled optdigits are learned instead)",
    )
    parser.add_argument(
        "--epochs", type=positive, default=9, metavar="E", help="on the host (default 9)"
    )
    parser.add_argument(
        "--seeds", type=positive, default=3, metavar="S", help="seeds 0 to S - 1 (default 3)"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the result as JSON, only that; progress is on stderr in either case",
    )
    parser.set_defaults(run=_command)


def cases() -> tuple[Case, Case]:
    """Return the step of the whole network, and of the one with half the channels."""
    whole, half = (
        Case((IMAGE, *hidden, CLASSES), ARRAY, BATCH, "step")
        for hidden in (HIDDEN, tuple(channels // 2 for channels in HIDDEN))
    )
    return whole, half


def layer_cycles(program: sg.Program) -> int:
    """Return the cycles of the instructions that read or update the second layer's matrix.

    They are its product forward, its product backward, and its update; exact, as
    :mod:`siligrad.explain` counts them. What an instruction waits for is not counted.
    """
    matrix = "params[1][0]"
    return sum(
        record.cycles
        for record in explain(program).records
        if matrix in (record.destination.name, *(term.b.name for term in record.terms))
    )


def _command(options: argparse.Namespace) -> int:
    folder = options.data or os.environ.get("SILIGRAD_DATA")
    if folder is None:
        data = datasets.optdigits(numpy.float32)
    else:
        data = datasets.load_idx_folder(Path(folder) / "mnist")
    found = list(measure(compile_all(cases()), options.device))
    accuracies = [
        train_and_quantize(
            data, (data.inputs, *case.layers[1:-1], data.classes), options.epochs, options.seeds
        )
        for case in cases()
    ]
    if options.json:
        result = _as_json(found)
        result["accuracy"] = {
            "data": data.name,
            "epochs": options.epochs,
            "networks": [asdict(each) for each in accuracies],
        }
        print(json.dumps(result, indent=1))
    else:
        print(_cycles_table(found))
        print()
        if folder is None:
            print("MNIST was not given (--data DIR): accuracy is that on optdigits")
        print(_accuracy_table(data.name, options.epochs, accuracies))
    for each in found:
        if each.difference is not None:
            raise SiligradError(f"{each.compiled.case}: {each.difference}")
    return 0


def train_and_quantize(
    data: datasets.Dataset, layers: tuple[int, ...], epochs: int, seeds: int
) -> Accuracy:
    """Train a perceptron on the host from each seed, quantize it, and classify all test images."""
    network = "-".join(map(str, layers))
    targets = losses.one_vs_rest(data.train_labels, data.classes)
    floating, integers = [], []
    for seed in range(seeds):
        progress(f"training {network} on {data.name}, seed {seed}")
        trained = fit(
            _loss,
            nn.perceptron(numpy.random.default_rng(seed), layers, dtype=numpy.float32),
            data.train_images,
            targets,
            optimizer=optim.Sgd(
                optim.Halving(RATE, every=-(-2 * epochs // 3) * (len(targets) // BATCH))
            ),
            epochs=epochs,
            batch=BATCH,
            seed=seed,
        ).params
        scores = nn.predict(trained, data.test_images)
        floating.append(metrics.accuracy(scores, data.test_labels))
        integers.append(metrics.accuracy(_classify(data, trained), data.test_labels))
    return Accuracy(network, mean(floating), mean(integers), tuple(integers))


def _loss(params: Any, x: Any, y: Any) -> Any:
    return losses.squared_hinge(nn.predict(params, x), y)


def _classify(data: datasets.Dataset, params: Any) -> NDArray[numpy.float64]:
    """Return the scores of all test images in the integers of the reference."""
    program = sg.compile(
        nn.predict,
        params,
        data.test_images[:SCORED_AT_A_TIME],
        resident=0,
        calibration=[
            (params, data.train_images[at : at + SCORED_AT_A_TIME])
            for at in range(0, CALIBRATION, SCORED_AT_A_TIME)
        ],
    )
    device = ReferenceDevice(program.geometry)
    device.load(program)
    return quantize.classify(device, data.test_images)


def _ratios(found: Sequence[Measurement]) -> tuple[float, float]:
    """Return what half the channels take of the whole network's layer and of its step."""
    whole, half = found
    layer = layer_cycles(half.compiled.program) / layer_cycles(whole.compiled.program)
    return layer, half.cycles / whole.cycles


def _as_json(found: Sequence[Measurement]) -> dict[str, Any]:
    layer, step = _ratios(found)
    return {
        "networks": [
            {
                "network": each.compiled.case.network,
                "cycles_predicted": each.compiled.program.cycles,
                "cycles_measured": each.cycles,
                "layer_cycles": layer_cycles(each.compiled.program),
                "utilisation": each.utilisation,
            }
            for each in found
        ],
        "layer_ratio": layer,
        "step_ratio": step,
    }


def _cycles_table(found: Sequence[Measurement]) -> str:
    width = max(len(each.compiled.case.network) for each in found)
    lines = [
        f"a training step of batch {BATCH} on {ARRAY} x {ARRAY}, cycles",
        f"{'network':<{width}}  second layer  predicted  measured  utilisation",
    ]
    lines += [
        f"{each.compiled.case.network:<{width}}  {layer_cycles(each.compiled.program):>12}  "
        f"{each.compiled.program.cycles:>9}  {each.cycles:>8}  {each.utilisation:>11.1%}"
        for each in found
    ]
    layer, step = _ratios(found)
    lines.append(f"{'half of it':<{width}}  {layer:>12.3f}  {'':>9}  {step:>8.3f}")
    return "\n".join(lines)


def _accuracy_table(name: str, epochs: int, accuracies: Sequence[Accuracy]) -> str:
    width = max(len(each.network) for each in accuracies)
    seeds = len(accuracies[0].each)
    lines = [
        f"accuracy on {name}, {epochs} epochs on the host, mean of {seeds} seed{'s' * (seeds > 1)}",
        f"{'network':<{width}}    float  16 bits  each seed",
    ]
    lines += [
        f"{each.network:<{width}}  {each.floating:>7.2%}  {each.integers:>7.2%}  "
        f"{' '.join(f'{score:.2%}' for score in each.each)}"
        for each in accuracies
    ]
    whole, half = accuracies
    cost = 100 * (whole.integers - half.integers)
    lines.append(f"{'half of it costs':<{width}}  {'':>7}  {cost:>7.2f}  percentage points")
    return "\n".join(lines)
