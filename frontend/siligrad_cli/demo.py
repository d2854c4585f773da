"""``siligrad demo``: the main job, end to end.

A perceptron is trained on the host, quantized, compiled, and then trained again from random weights
on the hardware, step by step beside the reference, every word compared.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

import siligrad as sg
import siligrad.numpy as np
from siligrad import datasets, losses, metrics, nn
from siligrad.device import DeviceUnavailable, device_class
from siligrad.files import replacing
from siligrad.isa import ARRAY_SIZES, Memory
from siligrad.long_work import progress
from siligrad_cli.options import natural, positive
from siligrad_cli.picture import draw_losses
from siligrad_sim.lockstep import Comparison, Lockstep
from siligrad_sim.reference import ReferenceDevice

__all__ = ["Report", "add_parser", "run_demo"]

BATCH = 16
RATE = 2.0**-5
HOST_EPOCHS = {RATE: 30, RATE / 4: 10}
"""Epochs on the host at each learning rate, in order."""

STEPS = {"verilator": 300, "pysim": 3}
"""Steps on the hardware where nobody says otherwise; a device not listed takes the last."""

LOSS_IMAGES = 512
"""Training images that the loss curves are measured on."""

HARDWARE_IMAGES = {"pysim": 10 * BATCH}
"""Test images that a slow device classifies; others classify all."""

Params = list[tuple[NDArray[Any], NDArray[Any]]]


# The network, as a user writes it.


def predict(params: Any, x: Any) -> Any:
    """Return the scores of a perceptron: (batch, inputs) to (batch, classes)."""
    for W, b in params[:-1]:
        x = np.maximum(x @ W + b, 0)
    W, b = params[-1]
    return x @ W + b


def loss(params: Any, x: Any, y: Any) -> Any:
    """Return the squared hinge; y is +1 or -1."""
    margin = np.maximum(1 - y * predict(params, x), 0)
    return np.mean(np.sum(margin**2, axis=1))


def step(params: Any, x: Any, y: Any, rate: float = RATE) -> Any:
    """Return the parameters after one step of gradient descent."""
    grads = sg.grad(loss)(params, x, y)
    return [(W - rate * dW, b - rate * db) for (W, b), (dW, db) in zip(params, grads, strict=True)]


@dataclass
class Report:
    """What a demo found; the same for the same options and seed.

    ``words_*`` and ``cycles_*`` are of the training steps; accuracies are fractions of the test
    images.
    """

    seed: int
    array: int
    device: str
    steps: int
    hidden: int
    float_accuracy: float
    integer_accuracy: float
    rtl_accuracy: float = 0.0
    rtl_images: int = 0
    words_compared: int = 0
    words_different: int = 0
    cycles_predicted: int = 0
    cycles_measured: int = 0
    inference_cycles_predicted: int = 0
    inference_cycles_measured: int = 0
    utilisation: float = 0.0
    inference_utilisation: float = 0.0
    saturations: int = 0
    first_difference: str | None = None
    float_loss: list[float] = field(default_factory=list)
    integer_loss: list[float] = field(default_factory=list)
    rtl_loss: list[float] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether hardware and reference agreed in everything."""
        return self.first_difference is None and self.words_different == 0


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "demo",
        help="train a network on the simulated hardware and compare every word with the reference",
        description="Train a 64-HIDDEN-10 perceptron on handwritten digits: on the host in "
        "floating point, quantized, and on the simulated hardware from random weights, beside the "
        "reference. Exit status 1 if a single word or cycle differs.",
    )
    parser.add_argument(
        "--array",
        type=int,
        default=8,
        choices=ARRAY_SIZES,
        metavar="N",
        help=f"size of the array, N x N: {ARRAY_SIZES.start} to {ARRAY_SIZES.stop - 1} (default 8)",
    )
    parser.add_argument(
        "--steps",
        type=positive,
        metavar="S",
        help="training steps on the hardware (default 300; 3 on pysim, which is slow)",
    )
    parser.add_argument(
        "--device",
        default="auto",
        metavar="NAME",
        help="verilator, pysim or another installed device (default: the fastest that works here)",
    )
    parser.add_argument("--seed", type=natural, default=0, help="of everything random (default 0)")
    parser.add_argument(
        "--hidden", type=positive, default=32, metavar="H", help="hidden units (default 32)"
    )
    parser.add_argument(
        "--images",
        type=positive,
        metavar="I",
        help="test images that the hardware classifies (default all; "
        f"{HARDWARE_IMAGES['pysim']} on pysim)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the report as JSON, nothing else"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("build/demo"),
        metavar="DIR",
        help="where report.json and the picture go (default build/demo)",
    )
    parser.set_defaults(run=_command)


def _command(options: argparse.Namespace) -> int:
    say: Callable[[str], None] = (lambda _: None) if options.json else print
    report = run_demo(
        array=options.array,
        steps=options.steps,
        device=options.device,
        seed=options.seed,
        hidden=options.hidden,
        images=options.images,
        say=say,
    )
    text = json.dumps(asdict(report), indent=1)
    options.output.mkdir(parents=True, exist_ok=True)
    with replacing(options.output / "report.json") as beside:
        beside.write_text(text + "\n")
    say(f"\nreport   {options.output / 'report.json'}")
    try:
        say(f"picture  {draw_losses(report, options.output / 'loss.svg')}")
    except ImportError:
        say("picture  none: it needs matplotlib (pip install 'siligrad[plot]')")
    if options.json:
        print(text)
    if not report.passed:
        print(f"siligrad: {report.first_difference}", file=sys.stderr)
        return 1
    return 0


def run_demo(
    *,
    array: int = 8,
    steps: int | None = None,
    device: str = "auto",
    seed: int = 0,
    hidden: int = 32,
    images: int | None = None,
    say: Callable[[str], None] = print,
) -> Report:
    """Do the main job and return what was found.

    Without `steps` and `images` there are as many as the device has the speed for.

    Raises
    ------
    DeviceUnavailable
        If `device` cannot be opened here.
    """
    name = _choose_device(device, say)
    steps = steps or STEPS.get(name, STEPS["verilator"])
    data = datasets.optdigits()
    targets = losses.one_vs_rest(data.train_labels, data.classes)
    rng = numpy.random.default_rng(seed)
    start = nn.perceptron(rng, [data.inputs, hidden, data.classes])
    say(
        f"data     optdigits: {len(data.train_labels)} images to train, "
        f"{len(data.test_labels)} to test"
    )

    trained = _train(start, data.train_images, targets, rng)
    float_accuracy = metrics.accuracy(predict(trained, data.test_images), data.test_labels)
    say(
        f"float    {data.inputs}-{hidden}-{data.classes}, {sum(HOST_EPOCHS.values())} epochs: "
        f"{float_accuracy:.2%} of test images"
    )

    target = sg.Target(array=array)
    batches = _batches(rng, len(targets))
    first = [next(batches) for _ in range(8)]
    examples = [(p, data.train_images[b], targets[b]) for p in (start, trained) for b in first]
    training = sg.compile(step, *examples[0], target=target, donate=0, calibration=examples[1:])
    inference = sg.compile(
        predict,
        trained,
        data.train_images[first[0]],
        target=_same_depths(target, training),
        resident=0,
        calibration=[(p, x) for p, x, _ in examples],
        formats=training.formats,
    )
    reference = ReferenceDevice(inference.geometry)
    reference.load(inference)

    def infer(batch: NDArray[Any]) -> NDArray[Any]:
        reference.run(batch)
        return numpy.asarray(reference.read()[0])

    integer_accuracy = metrics.accuracy(_classify(data.test_images, infer), data.test_labels)
    say(f"integer  quantized to 16 bits: {integer_accuracy:.2%} of test images\n")
    _describe(inference, say)
    _describe(training, say)

    report = Report(seed, array, name, steps, hidden, float_accuracy, integer_accuracy)
    report.utilisation = training.utilisation
    report.inference_utilisation = inference.utilisation
    report.cycles_predicted = training.cycles
    report.inference_cycles_predicted = inference.cycles
    say(f"opening  the {array} x {array} hardware in {name} (a simulator is built once, and kept)")
    machine = device_class(name)(training.geometry)
    with machine:
        pair = Lockstep(ReferenceDevice(training.geometry), machine)
        pair.load(training, seed=seed)
        _train_in_lockstep(pair, report, start, data.train_images, targets, rng)
        if report.passed:
            count = images or HARDWARE_IMAGES.get(name, len(data.test_labels))
            _classify_in_lockstep(pair, report, inference, data, count)
    _table(report, say)
    return report


def _choose_device(name: str, say: Callable[[str], None]) -> str:
    if name != "auto":
        if name == "reference":
            raise DeviceUnavailable(
                "the demo compares a device with the reference; choose another --device"
            )
        reason = device_class(name).available()
        if reason is not None:
            raise DeviceUnavailable(f"device {name!r} cannot be used here: {reason}")
        return name
    reason = device_class("verilator").available()
    if reason is None:
        return "verilator"
    say(f"device   pysim, which is slow, because verilator cannot be used here: {reason}")
    return "pysim"


def _same_depths(target: sg.Target, program: sg.Program) -> sg.Target:
    """Return `target` with the memories that `program` was given, so that one device runs both."""
    geometry = program.geometry
    return sg.Target(
        array=target.array,
        x_depth=geometry.x_depth,
        w_depth=geometry.w_depth,
        e_depth=geometry.e_depth,
        program_depth=geometry.program_depth,
    )


def _batches(rng: numpy.random.Generator, count: int) -> Iterator[NDArray[numpy.int64]]:
    """Yield batches of indices without end, each epoch in a new order."""
    while True:
        order = rng.permutation(count)
        for at in range(0, count - BATCH + 1, BATCH):
            yield order[at : at + BATCH]


def _train(
    params: Params, images: NDArray[Any], targets: NDArray[Any], rng: numpy.random.Generator
) -> Params:
    epoch = len(images) // BATCH
    rates = [rate for rate, epochs in HOST_EPOCHS.items() for _ in range(epochs * epoch)]
    batches = _batches(rng, len(images))
    for rate in progress(rates, "training on the host", len(rates)):
        batch = next(batches)
        params = step(params, images[batch], targets[batch], rate)
    return params


def _describe(program: sg.Program, say: Callable[[str], None]) -> None:
    geometry = program.geometry
    use = ", ".join(
        f"{memory.name} {program.words_used(memory)} of {geometry.depth(memory)}"
        for memory in Memory
    )
    say(
        f"program  {program.name}: {len(program.instructions)} instructions, {program.cycles} "
        f"cycles exactly, {program.utilisation:.1%} of the multipliers' time\n"
        f"         words a bank: {use}"
    )


def _classify(images: NDArray[Any], run: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[Any]:
    """Return the scores of `images`, handed to `run` in batches of the compiled size."""
    scores = []
    for at in range(0, len(images), BATCH):
        part = images[at : at + BATCH]
        batch = numpy.zeros((BATCH, images.shape[1]))
        batch[: len(part)] = part
        scores.append(run(batch)[: len(part)])
    return numpy.concatenate(scores)


def _train_in_lockstep(
    pair: Lockstep,
    report: Report,
    params: Params,
    images: NDArray[Any],
    targets: NDArray[Any],
    rng: numpy.random.Generator,
) -> None:
    """Train on both devices, and in floating point beside them; stop at the first difference."""
    curve = images[:LOSS_IMAGES], targets[:LOSS_IMAGES]
    batches = _batches(rng, len(images))
    for number in progress(range(report.steps), f"training on {report.device}", report.steps):
        batch = next(batches)
        result = pair.run(images[batch], targets[batch])
        _count(report, result, f"training step {number}")
        report.cycles_measured = result.device.cycles
        params = step(params, images[batch], targets[batch])
        report.float_loss.append(float(loss(params, *curve)))
        report.integer_loss.append(float(loss(pair.reference.read()[0], *curve)))
        report.rtl_loss.append(float(loss(pair.device.read()[0], *curve)))
        if not report.passed:
            return


def _classify_in_lockstep(
    pair: Lockstep, report: Report, inference: sg.Program, data: datasets.Dataset, count: int
) -> None:
    """Classify `count` test images on both devices, with the weights the hardware has learned."""
    (weights,) = pair.device.read()
    pair.load(inference)
    pair.write("params", weights)
    images, labels = data.test_images[:count], data.test_labels[:count]
    batches = -(-len(labels) // BATCH)
    bar = iter(progress(range(batches), f"classifying on {report.device}", batches))

    def run(batch: NDArray[Any]) -> NDArray[Any]:
        result = pair.run(batch)
        _count(report, result, f"inference {next(bar)}")
        report.inference_cycles_measured = result.device.cycles
        return numpy.asarray(pair.device.read()[0])

    report.rtl_accuracy = metrics.accuracy(_classify(images, run), labels)
    report.rtl_images = len(labels)
    next(bar, None)  # the bar is full


def _count(report: Report, result: Comparison, when: str) -> None:
    report.words_compared += result.words_compared
    report.words_different += result.words_different
    report.saturations += sum(result.device.saturations)
    if result.first is not None and report.first_difference is None:
        report.first_difference = f"{when}: {result.first}"


def _table(report: Report, say: Callable[[str], None]) -> None:
    rows = [
        ("accuracy, float", f"{report.float_accuracy:.2%}"),
        ("accuracy, integers", f"{report.integer_accuracy:.2%}"),
        (
            f"accuracy, hardware after {report.steps} steps",
            f"{report.rtl_accuracy:.2%} of {report.rtl_images} images",
        ),
        ("words compared", f"{report.words_compared}"),
        ("words different", f"{report.words_different}"),
        ("saturated elements", f"{report.saturations}"),
        ("cycles a step, predicted", f"{report.cycles_predicted}"),
        ("cycles a step, measured", f"{report.cycles_measured}"),
        ("cycles an inference, predicted", f"{report.inference_cycles_predicted}"),
        ("cycles an inference, measured", f"{report.inference_cycles_measured}"),
        ("utilisation of a step", f"{report.utilisation:.1%}"),
    ]
    width = max(len(name) for name, _ in rows)
    say("")
    for name, value in rows:
        say(f"{name:<{width}}  {value}")
