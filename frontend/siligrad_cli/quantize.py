"""``siligrad quantize``: what few bits do to a trained network, tensor by tensor."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

import siligrad as sg
from siligrad import metrics, nn, tree
from siligrad.errors import DataError, SiligradError
from siligrad.files import replacing
from siligrad.isa import ARRAY_SIZES
from siligrad.quantize import METHODS, QuantizationReport, classify, measure, post_training
from siligrad_cli.ranges import draw_ranges
from siligrad_cli.train import Settings, TrainedRun, load_run, run_training
from siligrad_sim.reference import ReferenceDevice

__all__ = ["Quantized", "add_parser", "quantize_run"]

BATCH = 64
"""Images in a run."""

CALIBRATION_IMAGES = 1024
"""Training images from which formats are chosen."""

MEASURED_IMAGES = 512
"""Test images that tensors are compared on."""

DEFAULT_LAYERS = (64, 32, 10)
"""Of the network that is trained where none is given, on optdigits."""


@dataclass(frozen=True, eq=False, slots=True)
class Quantized:
    """A network at one width of operands: its accuracy on all test images, and its tensors."""

    accuracy: float
    report: QuantizationReport


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "quantize",
        help="quantize a trained network: ranges, clipping and noise of every tensor, accuracy",
        description="Choose formats for a trained perceptron from training images, and say what "
        "they do: for every tensor its range, what is clipped, and signal over quantization noise, "
        "beside floating point; and the accuracy in floating point, with operands of 16 bits and "
        "with fewer. Without RUN, a small perceptron is trained first.",
    )
    parser.add_argument(
        "run_folder",
        nargs="?",
        type=Path,
        metavar="RUN",
        help="folder of a run of siligrad train (default: train 64-32-10 on the bundled digits)",
    )
    parser.add_argument(
        "--data",
        metavar="DATA",
        help="without RUN, what to train on, as for siligrad train (default optdigits); with RUN, "
        "where its data are now",
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="mse",
        help="how a range is chosen from the values in the examples (default mse)",
    )
    parser.add_argument(
        "--percentile",
        type=_percentage,
        default=99.99,
        metavar="P",
        help="percentage of the values that --method percentile covers (default 99.99)",
    )
    parser.add_argument(
        "--operand-bits",
        type=int,
        choices=range(4, 16),
        default=8,
        metavar="B",
        help="the narrow operands, 4 to 15 bits (default 8)",
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
        "--output",
        type=Path,
        default=Path("build/quantize"),
        metavar="DIR",
        help="where report.json and ranges.svg go (default build/quantize)",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON, only that")
    parser.set_defaults(run=_command)


def _percentage(text: str) -> float:
    value = float(text)
    if not 0 < value <= 100:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 100, not {text}")
    return value


def _command(options: argparse.Namespace) -> int:
    say: Callable[[str], None] = (lambda _: None) if options.json else print
    run = _load(options.run_folder, options.data)
    say(
        f"network   {'-'.join(map(str, _layers(run)))}, {len(run.history)} epochs on "
        f"{run.data.name}"
    )
    exact = metrics.accuracy(nn.predict(run.params, run.data.test_images), run.data.test_labels)
    found = {}
    for bits in (16, options.operand_bits):
        target = _target(options.array, bits)
        found[bits] = quantize_run(run, target, options.method, options.percentile)
        say(f"\noperands of {bits} bits, ratios in dB\n{found[bits].report}")
    chosen = options.method
    if chosen == "percentile":
        chosen += f" {options.percentile:g}"
    count = min(CALIBRATION_IMAGES, len(run.data.train_images)) // BATCH * BATCH
    say(f"\nmethod    {chosen}, from {count} training images")
    say(f"accuracy  {exact:.2%} in floating point, of {len(run.data.test_labels)} test images")
    for bits, each in found.items():
        say(f"          {each.accuracy:.2%} with operands of {bits} bits")
    content = {
        "network": list(_layers(run)),
        "data": run.data.name,
        "method": options.method,
        "percentile": options.percentile if options.method == "percentile" else None,
        "test_images": len(run.data.test_labels),
        "float_accuracy": exact,
        "quantized": [
            {"accuracy": each.accuracy, **each.report.as_json()} for each in found.values()
        ],
    }
    text = json.dumps(content, indent=1)
    _write(options.output, text, [each.report for each in found.values()], say)
    if options.json:
        print(text)
    return 0


def _write(
    folder: Path, text: str, reports: list[QuantizationReport], say: Callable[[str], None]
) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "report.json") as beside:
            beside.write_text(text + "\n", encoding="utf-8")
        say(f"report    {folder / 'report.json'}")
        say(f"picture   {draw_ranges(reports, folder / 'ranges.svg')}")
    except ImportError:
        say("picture   none: it needs matplotlib (pip install 'siligrad[plot]')")
    except OSError as error:
        raise SiligradError(f"{folder} cannot be written: {error.strerror or error}") from error


def _load(folder: Path | None, data: str | None) -> TrainedRun:
    """Return the run in `folder`, or one that is trained now."""
    if folder is not None:
        return load_run(folder, data)
    settings = Settings() if data not in (None, "optdigits") else Settings(layers=DEFAULT_LAYERS)
    if data is not None:
        settings = Settings(data=data, layers=settings.layers)
    with TemporaryDirectory() as made:
        run_training(settings, Path(made), progress=False, say=lambda _: None)
        return load_run(Path(made))


def _layers(run: TrainedRun) -> tuple[int, ...]:
    return (run.params[0][0].shape[0], *(W.shape[1] for W, _ in run.params))


def _target(array: int, operand_bits: int) -> sg.Target:
    default = sg.Target()
    sum_bits = min(default.sum_bits, 2 * operand_bits + 24)
    return sg.Target(array=array, operand_bits=operand_bits, sum_bits=sum_bits)


def quantize_run(
    run: TrainedRun, target: sg.Target, method: str = "mse", percentile: float = 99.99
) -> Quantized:
    """Quantize the network of `run` for `target` and run it on the reference.

    Raises
    ------
    DataError
        If there are fewer images than a batch, or test images are beyond what was calibrated.
    """
    params: Any = tree.map(lambda array: np.asarray(array, np.float64), run.params)
    images: NDArray[Any] = run.data.test_images
    if len(images) < BATCH:
        raise DataError(
            f"{run.data.name} has {len(images)} test images, but tensors are measured in batches "
            f"of {BATCH}"
        )
    program = post_training(
        nn.predict,
        params,
        run.data.train_images[:CALIBRATION_IMAGES],
        batch=BATCH,
        target=target,
        method=method,
        percentile=percentile,
    )
    whole = min(MEASURED_IMAGES, len(images)) // BATCH * BATCH
    examples = [(params, images[at : at + BATCH]) for at in range(0, whole, BATCH)]
    with ReferenceDevice(program.geometry) as device:
        report = measure(device, program, nn.predict, examples)
        device.load(program)
        accuracy = metrics.accuracy(classify(device, images), run.data.test_labels)
    return Quantized(accuracy, report)
