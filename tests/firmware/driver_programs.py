"""Programs that the C driver is tested on, with data, and what the reference makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

import siligrad as sg
import siligrad.numpy as np_
from siligrad import datasets, losses, nn
from siligrad.isa import Memory
from siligrad_sim.reference import ReferenceDevice

__all__ = [
    "Expected",
    "demo_program",
    "expected",
    "hinge_step",
    "pieces",
    "small_batch",
    "small_program",
]


def hinge_step(params: Any, x: Any, y: Any) -> Any:
    """Return the parameters of a perceptron after a step, with the squared hinge as its loss."""

    def loss(params: Any, x: Any, y: Any) -> Any:
        margin = np_.maximum(1 - y * nn.predict(params, x), 0)
        return np_.mean(np_.sum(margin**2, axis=1))

    slopes = sg.grad(loss)(params, x, y)
    return [
        (W - 2**-4 * dW, b - 2**-4 * db) for (W, b), (dW, db) in zip(params, slopes, strict=True)
    ]


@cache
def demo_program(array: int = 8) -> tuple[sg.Program, tuple[NDArray[Any], NDArray[Any]]]:
    """Return a training step of the demo network, 64-32-10, and a batch."""
    digits = datasets.optdigits()
    x, y = digits.train_images[:16], losses.one_vs_rest(digits.train_labels[:16], 10)
    params = nn.perceptron(np.random.default_rng(0), [64, 32, 10])
    program = sg.compile(
        hinge_step, params, x, y, donate=0, headroom=2, target=sg.Target(array=array)
    )
    return program, (x, y)


def small_batch(
    rng: np.random.Generator, *steps: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return inputs and targets of :func:`small_program`, with an axis of steps if asked for."""
    return rng.random((*steps, 4, 5)), np.where(rng.integers(0, 2, (*steps, 4, 3)), 1.0, -1.0)


@cache
def small_program(
    array: int = 3, steps: int = 1
) -> tuple[sg.Program, tuple[NDArray[Any], NDArray[Any]]]:
    """Return a training step of a small network and its data, with an axis of steps if several."""
    rng = np.random.default_rng(array)
    params = nn.perceptron(rng, [5, 4, 3])
    x, y = small_batch(rng, steps)
    target = sg.Target(array=array, x_depth=64, w_depth=64, e_depth=64, program_depth=64)
    if array == 8:  # the accelerator of the demo program, to build only one
        target = sg.Target(array=8, x_depth=256, w_depth=512, e_depth=256, program_depth=64)
    program = sg.compile(hinge_step, params, x[0], y[0], donate=0, target=target, steps=steps)
    return program, (x, y) if steps > 1 else (x[0], y[0])


@dataclass(frozen=True)
class Expected:
    """What an accelerator must hold after some runs, and what is written before each."""

    codes: dict[str, NDArray[np.int16]]
    words: dict[Memory, NDArray[np.int32]]
    lfsr: tuple[int, ...]
    saturations: tuple[int, ...]
    cycles: int


def expected(program: sg.Program, data: tuple[Any, ...], runs: int, seed: int = 0) -> Expected:
    """Run the reference so many times on the same data; `codes` of a tensor have an axis of steps.

    A tensor that does not move has the only one.
    """
    device = ReferenceDevice(program.geometry)
    device.load(program, seed=seed)
    for _ in range(runs):
        report = device.run(*data)
    codes: dict[str, NDArray[np.int16]] = {}
    inputs = [index for index, item in enumerate(program.arguments) if not item.resident]
    for argument, value in zip(inputs, data, strict=True):
        for index, matrices in program.encode(argument, value).items():
            tensor = program.tensors[index]
            matrix = np.asarray(matrices, np.int16)
            codes[tensor.name] = matrix.reshape(-1, tensor.rows, tensor.columns)
    return Expected(codes, device.dump(), device.read_lfsr(), report.saturations, report.cycles)


def pieces(blob: bytes, seed: int) -> Iterator[bytes]:
    """Cut `blob` in pieces of random sizes, from nothing to some hundred bytes."""
    rng = np.random.default_rng(seed)
    at = 0
    while at < len(blob):
        size = int(rng.integers(0, 3) * rng.integers(0, 200))
        yield blob[at : at + size]
        at += size
