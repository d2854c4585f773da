"""``python -m benchmarks.compile_time``: how long ``sg.compile`` takes, and how that grows.

What is timed is all of it: tracing the step, its gradient, and every pass down to the checked
program; nothing is built or simulated. First one step as it is used, then two families of growing
size: perceptrons with more and more hidden layers, and more and more perceptrons side by side in
one step, where many operations are ready at the same time. The growth is the exponent of a power
law, fitted to processor time: 1 is linear in the size.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

# Read by BLAS when it is loaded: before numpy is.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402

import siligrad as sg  # noqa: E402
from siligrad import losses, nn  # noqa: E402

__all__ = ["FAMILIES", "SIZES", "STEP", "Row", "Table", "exponent", "main", "measure"]

STEP = (784, 256, 128, 10)
"""The network whose step is timed as it is used: on a 16 x 16 array, batch 32."""

SIZES = (2, 4, 8, 16, 32, 64)
"""Hidden layers, or perceptrons side by side."""

WIDTH = 16
"""Inputs, and channels of every hidden layer, of the networks of growing size."""

RATE = 2.0**-5

Params: TypeAlias = list[list[tuple[Any, Any]]]
"""Of some perceptrons."""


@dataclass(frozen=True, slots=True)
class Row:
    """The time to compile one step: medians of a few times.

    Parameters
    ----------
    size
        Hidden layers, or perceptrons.
    instructions
        Of the program.
    seconds
        Time of the day that passed.
    processor
        Seconds that processors spent, whatever else the machine did.
    """

    size: int
    instructions: int
    seconds: float
    processor: float


@dataclass(frozen=True, slots=True)
class Table:
    """All that was measured: the step, the rows of each family, and its exponent."""

    repeats: int
    python: str
    numpy: str
    step: Row
    families: dict[str, list[Row]]
    exponents: dict[str, float]


def _loss(networks: Params, x: Any, y: Any) -> Any:
    first, *others = (losses.squared_hinge(nn.predict(params, x), y) for params in networks)
    return sum(others, first)


def _step(networks: Params, x: Any, y: Any) -> Params:
    slopes = sg.grad(_loss)(networks, x, y)
    return [
        [(W - RATE * dW, b - RATE * db) for (W, b), (dW, db) in zip(params, each, strict=True)]
        for params, each in zip(networks, slopes, strict=True)
    ]


def _compilation(
    layers: Sequence[int], *, networks: int = 1, array: int = 8, batch: int = 8
) -> Callable[[], sg.Program]:
    """Return a function that compiles a step of perceptrons side by side."""
    rng = np.random.default_rng(0)
    params = [nn.perceptron(rng, layers) for _ in range(networks)]
    x = rng.integers(0, 256, (batch, layers[0])) / 255
    y = rng.choice([-1.0, 1.0], (batch, layers[-1]))
    target = sg.Target(array=array)
    return lambda: sg.compile(_step, params, x, y, donate=0, target=target)


def _deep(size: int) -> Callable[[], sg.Program]:
    return _compilation([WIDTH, *[WIDTH] * size, 10])


def _wide(size: int) -> Callable[[], sg.Program]:
    return _compilation([WIDTH, WIDTH, 10], networks=size)


FAMILIES: dict[str, Callable[[int], Callable[[], sg.Program]]] = {
    "hidden layers": _deep,
    "perceptrons side by side": _wide,
}
"""Each family: a size to a function that compiles."""


def _time(size: int, compilation: Callable[[], sg.Program], repeats: int) -> Row:
    program = compilation()  # what is imported or cached the first time is not counted
    seconds, processor = [], []
    for _ in range(repeats):
        began, spent = time.perf_counter(), time.process_time()
        compilation()
        seconds.append(time.perf_counter() - began)
        processor.append(time.process_time() - spent)
    return Row(
        size, len(program.instructions), statistics.median(seconds), statistics.median(processor)
    )


def exponent(sizes: Sequence[float], times: Sequence[float]) -> float:
    """Return the exponent of the power law that fits best: least squares of the logarithms."""
    logarithms = [math.log(size) for size in sizes]
    return statistics.linear_regression(logarithms, [math.log(each) for each in times]).slope


def measure(*, sizes: Sequence[int] = SIZES, repeats: int = 5) -> Table:
    """Time everything, each compilation so many times."""
    step = _time(len(STEP) - 2, _compilation(STEP, array=16, batch=32), repeats)
    families = {
        name: [_time(size, family(size), repeats) for size in sizes]
        for name, family in FAMILIES.items()
    }
    exponents = {
        name: exponent([row.size for row in rows], [row.processor for row in rows])
        for name, rows in families.items()
    }
    return Table(repeats, platform.python_version(), np.__version__, step, families, exponents)


def _format(table: Table) -> str:
    lines = [
        f"sg.compile of a training step, median of {table.repeats}, one thread",
        f"python {table.python}, numpy {table.numpy}",
        "",
        f"{'':<24}  {'instructions':>12}  {'seconds':>8}  {'processor':>9}",
        f"{'-'.join(map(str, STEP)):<24}  {_cells(table.step)}",
    ]
    for name, rows in table.families.items():
        lines += ["", name, *(f"{row.size:<24}  {_cells(row)}" for row in rows)]
        lines.append(f"{'exponent':<24}  {'':>12}  {'':>8}  {table.exponents[name]:>9.2f}")
    return "\n".join(lines)


def _cells(row: Row) -> str:
    return f"{row.instructions:>12}  {row.seconds:>8.3f}  {row.processor:>9.3f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compile_time", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument(
        "--repeats", type=int, default=5, metavar="R", help="times of each (default 5)"
    )
    parser.add_argument(
        "--largest",
        type=int,
        default=SIZES[-1],
        metavar="S",
        help=f"largest size of the families, from {SIZES[1]} on (default {SIZES[-1]})",
    )
    options = parser.parse_args(argv)
    if options.repeats < 1:
        parser.error(f"--repeats must be at least 1, not {options.repeats}")
    sizes = [size for size in SIZES if size <= options.largest]
    if len(sizes) < 2:
        parser.error(f"--largest must be at least {SIZES[1]}, not {options.largest}")
    table = measure(sizes=sizes, repeats=options.repeats)
    print(json.dumps(asdict(table), indent=1) if options.json else _format(table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
