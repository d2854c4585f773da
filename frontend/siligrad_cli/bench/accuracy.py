"""``siligrad bench accuracy``: training from random weights in exact integers, over seeds.

Each run (a network, a seed, a width of operands) leaves a file, and one that is going on a
checkpoint: whoever stops the bench, even by ``kill -9``, starts it again and it goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import siligrad as sg
from siligrad import datasets, metrics, nn, optim, quantize
from siligrad.errors import DataError, TrainingError
from siligrad.files import replacing
from siligrad.long_work import progress
from siligrad.train import fit
from siligrad_cli.bench.training import (
    Evaluator,
    Recipe,
    compile_step,
    hold_out,
    start_of,
)
from siligrad_cli.bench.training import loss as training_loss
from siligrad_cli.options import positive
from siligrad_sim.reference import ReferenceDevice

__all__ = ["Run", "add_parser", "run_once"]

FLOAT = 0
"""Stands for floating point where the width of operands is asked for."""

VALIDATION = 5000
"""Training examples that are held out to choose settings with."""

ARRAY = 16
"""Size of the array. It decides which lane draws for which element, and nothing else."""

RECIPES = {
    "mnist-small": Recipe("mnist", (784, 100, 50, 10), halve_after=(18, 25)),
    "mnist-large": Recipe("mnist", (784, 256, 128, 10), batch=16, halve_after=(18, 25)),
    "fashion": Recipe("fashion_mnist", (784, 200, 100, 50, 10), rate=2.0**-6),
    "digits": Recipe("optdigits", (64, 32, 10)),
}
"""Each network by name; the last one's data come with the package."""


@dataclass(frozen=True, slots=True)
class Run:
    """One training: everything that its result depends on.

    Parameters
    ----------
    name
        Of :data:`RECIPES`.
    recipe
        With what the command line has changed.
    bits
        Width of the array's operands; :data:`FLOAT` for floating point.
    seed
        Of initial weights, the order of the examples and stochastic rounding.
    validation
        Whether the held-out training examples are scored, and not the test examples.
    """

    name: str
    recipe: Recipe
    bits: int
    seed: int
    validation: bool = False

    @property
    def file(self) -> str:
        """A name for its files."""
        digest = hashlib.sha256(repr(self).encode()).hexdigest()[:12]
        kind = "float" if self.bits == FLOAT else f"{self.bits}bit"
        return f"{self.name}-{kind}-seed{self.seed}-{digest}"


def add_parser(benches: Any) -> None:
    """Add the sub-command to the parser."""
    parser = benches.add_parser(
        "accuracy",
        help="train networks from random weights in exact integers and print their accuracy",
        description="Train networks from random weights in exact integers, on the reference, which "
        "the hardware equals word for word, and print the accuracy on all test images after the "
        "last epoch: mean and deviation over the seeds. Hours in all; what is done is kept, "
        "and the same command goes on.",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder that holds mnist/ and fashion_mnist/ as IDX files; not needed for digits",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=RECIPES,
        metavar="NAME",
        help=f"one network, repeatable: {', '.join(RECIPES)} (default: all with data)",
    )
    parser.add_argument(
        "--bits",
        type=_bits,
        default=(FLOAT, 16, 8),
        metavar="B,B",
        help="widths of the array's operands over words of 16 bits, or float (default float,16,8)",
    )
    parser.add_argument(
        "--seeds", type=positive, default=5, metavar="S", help="seeds 0 to S - 1 (default 5)"
    )
    parser.add_argument("--epochs", type=positive, metavar="E", help="instead of 30")
    parser.add_argument("--rate", type=float, metavar="R", help="instead of 2**-5")
    parser.add_argument(
        "--validation",
        action="store_true",
        help=f"score the last {VALIDATION} training images, which are not trained on, instead of "
        "the test images: settings are chosen with these",
    )
    parser.add_argument(
        "--jobs", type=positive, default=1, metavar="J", help="runs at a time (default 1)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("build/accuracy"),
        metavar="DIR",
        help="where results and checkpoints are kept (default build/accuracy)",
    )
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    parser.set_defaults(run=_command)


def _bits(text: str) -> tuple[int, ...]:
    widths = tuple(FLOAT if word == "float" else int(word) for word in text.split(","))
    for width in widths:
        if width != FLOAT:
            try:
                sg.Target(operand_bits=width)
            except sg.SiligradError as error:
                raise argparse.ArgumentTypeError(str(error)) from None
    return widths


def _command(options: argparse.Namespace) -> int:
    names = options.only or [
        name for name, recipe in RECIPES.items() if _has_data(recipe, options.data)
    ]
    runs = []
    for name in names:
        recipe = RECIPES[name]
        if not _has_data(recipe, options.data):
            raise DataError(
                f"{name} is trained on {recipe.data}: give --data the folder that holds it"
            )
        if options.epochs is not None:
            recipe = replace(recipe, epochs=options.epochs)
        if options.rate is not None:
            recipe = replace(recipe, rate=options.rate)
        runs += [
            Run(name, recipe, bits, seed, options.validation)
            for seed in range(options.seeds)
            for bits in options.bits
        ]
    options.output.mkdir(parents=True, exist_ok=True)
    results = dict(_all_results(runs, options.data, options.output, options.jobs))
    rows = _table(runs, results)
    if options.json:
        print(json.dumps(rows, indent=1))
    else:
        _print_table(rows)
    return 0


def _has_data(recipe: Recipe, folder: Path | None) -> bool:
    return recipe.data == "optdigits" or (folder is not None and (folder / recipe.data).is_dir())


def _all_results(
    runs: Sequence[Run], data: Path | None, output: Path, jobs: int
) -> Iterator[tuple[Run, dict[str, Any]]]:
    """Yield every run with its result, those first that are there already."""
    waiting = []
    for run in runs:
        path = output / f"{run.file}.json"
        if path.exists():
            yield run, json.loads(path.read_text())
        else:
            waiting.append(run)
    if jobs <= 1:
        for run in waiting:
            print(f"{run.file}", file=sys.stderr)
            yield run, run_once(run, data, output)
        return
    # Processes that begin anew: a fork would inherit the threads of the numerical library.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(run_once, run, data, output, False): run for run in waiting}
        for future in progress(as_completed(futures), "runs", len(futures)):
            yield futures[future], future.result()


def run_once(run: Run, folder: Path | None, output: Path, show: bool = True) -> dict[str, Any]:
    """Do `run`, or the rest of it, and return what is kept of it.

    The result has ``accuracy``, the fraction of all test examples after the last epoch;
    ``saturated``, elements in the last epoch; and ``failure``, why it was given up, or None.
    """
    recipe = run.recipe
    data = (
        datasets.optdigits()
        if recipe.data == "optdigits"
        else datasets.load_idx_folder((folder or Path()) / recipe.data)
    )
    if run.validation:
        data = hold_out(data, min(VALIDATION, len(data.train_images) // 10))
    start = start_of(recipe, data, run.seed)
    checkpoint = output / f"{run.file}.npz"
    result: dict[str, Any] = {"accuracy": 0.0, "saturated": 0, "failure": None}
    if run.bits == FLOAT:
        try:
            trained = fit(
                training_loss,
                start.params,
                start.images,
                start.targets,
                optimizer=optim.Sgd(_Schedule(recipe, len(start.images) // recipe.batch)),
                epochs=recipe.epochs,
                batch=recipe.batch,
                seed=run.seed,
                checkpoint=checkpoint,
                progress=show,
            )
            scores = nn.predict(trained.params, data.test_images)
            result["accuracy"] = metrics.accuracy(scores, data.test_labels)
        except TrainingError as error:
            result["failure"] = str(error)
    else:
        target = sg.Target(array=ARRAY, operand_bits=run.bits)
        program = compile_step(recipe, start, target)
        evaluate = Evaluator(program, start, data, target)
        device = ReferenceDevice(program.geometry)
        try:
            last = quantize.train(
                device,
                program,
                [start.images, start.targets],
                epochs=recipe.epochs,
                halve_after=recipe.halve_after,
                seed=run.seed,
                evaluate=evaluate,
                checkpoint=checkpoint,
                progress=show,
            ).history[-1]
            assert last.score is not None
            result["accuracy"] = last.score
            result["saturated"] = sum(last.saturations)
        except TrainingError as error:
            result["accuracy"] = evaluate(device.read()[0])
            result["failure"] = str(error)
    result |= {"run": asdict(run)}
    with replacing(output / f"{run.file}.json") as beside:
        beside.write_text(json.dumps(result, indent=1) + "\n")
    checkpoint.unlink(missing_ok=True)
    return result


@dataclass(frozen=True, slots=True)
class _Schedule:
    """The rate of each step of a recipe, for the optimizer on the host."""

    recipe: Recipe
    steps: int

    def __call__(self, step: int) -> float:
        return self.recipe.rate_of(step // self.steps + 1)


def _table(runs: Sequence[Run], results: dict[Run, dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for name, bits in dict.fromkeys((run.name, run.bits) for run in runs):
        same = [run for run in runs if (run.name, run.bits) == (name, bits)]
        scores = [results[run]["accuracy"] for run in same]
        rows.append({
            "network": same[0].recipe.network,
            "data": same[0].recipe.data,
            "operand_bits": "float" if bits == FLOAT else bits,
            "seeds": len(same),
            "mean": mean(scores),
            "deviation": stdev(scores) if len(scores) > 1 else 0.0,
            "scores": scores,
            "saturated": sum(results[run]["saturated"] for run in same),
            "failures": [f for run in same if (f := results[run]["failure"]) is not None],
        })
    return rows


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    print(f"{'network':<20} {'data':<14} {'operands':>8}  {'mean':>7}  {'dev.':>5}  each seed")
    for row in rows:
        bits = (
            row["operand_bits"] if row["operand_bits"] == "float" else f"{row['operand_bits']} bit"
        )
        each = " ".join(f"{score:.2%}" for score in row["scores"])
        print(
            f"{row['network']:<20} {row['data']:<14} {bits:>8}  {row['mean']:7.2%}  "
            f"{100 * row['deviation']:5.2f}  {each}"
        )
    for failure in (failure for row in rows for failure in row["failures"]):
        print(f"given up: {failure}")
