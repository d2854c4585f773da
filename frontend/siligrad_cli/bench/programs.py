"""The programs of the benches: a network, an array, a batch, and inference or a training step.

Weights and data are random: cycles do not depend on them. Inputs are pixels, whole 255ths from 0 to
1 with both ends among them, so that formats and accumulator bounds are those of images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy
from numpy.typing import NDArray

import siligrad as sg
from siligrad import losses, nn
from siligrad.isa import Memory

__all__ = ["Case", "Compiled", "compile_all", "compile_case"]

Kind: TypeAlias = Literal["inference", "step"]


@dataclass(frozen=True, slots=True)
class Case:
    """A program to be compiled and run.

    Parameters
    ----------
    layers
        Sizes of the layers of a perceptron, inputs first.
    array
        N: the array is N x N.
    batch
        Samples of a run.
    kind
        ``"inference"``: the scores, the parameters stay in the device. ``"step"``: one step of
        gradient descent on weights and biases, the new ones in place of the old.
    autoencoder
        The step learns its own inputs, by the mean squared error; other steps learn +1 and -1 by
        the squared hinge.
    """

    layers: tuple[int, ...]
    array: int
    batch: int
    kind: Kind
    autoencoder: bool = False

    @property
    def network(self) -> str:
        """The sizes of the layers, as in ``784-128-10``."""
        return "-".join(map(str, self.layers))

    def __str__(self) -> str:
        return f"{self.network}, {self.kind}, batch {self.batch}, {self.array} x {self.array}"


@dataclass(frozen=True, eq=False, slots=True)
class Compiled:
    """A case's program, and random inputs of a run in the order of its arguments."""

    case: Case
    program: sg.Program
    inputs: tuple[NDArray[numpy.float64], ...]


def compile_case(case: Case, depths: Mapping[str, Any] | None = None, *, seed: int = 0) -> Compiled:
    """Compile `case` with random weights and inputs.

    `depths` are those of the target by name (``x_depth`` and so on); left out, what the program
    needs.
    """
    rng = numpy.random.default_rng(seed)
    params = nn.perceptron(rng, case.layers)
    inputs = _inputs(rng, case)
    target = sg.Target(array=case.array, **(depths or {}))
    if case.kind == "inference":
        program = sg.compile(nn.predict, params, *inputs, target=target, resident=0)
    else:
        program = sg.compile(_step(case), params, *inputs, target=target, donate=0)
    return Compiled(case, program, inputs)


def compile_all(cases: Sequence[Case], *, seed: int = 0) -> list[Compiled]:
    """Compile `cases` such that all of one array size run on the same accelerator.

    Its memories are as deep as the largest of them needs. Depths change no cycle, and a simulator
    is built once for each size.
    """
    alone = [compile_case(case, seed=seed) for case in cases]
    together = {
        array: _depths(each.program for each in alone if each.case.array == array)
        for array in {case.array for case in cases}
    }
    return [compile_case(case, together[case.array], seed=seed) for case in cases]


def _inputs(rng: numpy.random.Generator, case: Case) -> tuple[NDArray[numpy.float64], ...]:
    pixels = rng.integers(0, 256, (case.batch, case.layers[0])) / 255
    pixels[0, :2] = 0, 1
    if case.kind == "inference":
        return (pixels,)
    if case.autoencoder:
        return pixels, pixels
    return pixels, rng.choice([-1.0, 1.0], (case.batch, case.layers[-1]))


def _step(case: Case) -> Any:
    """Return a step of gradient descent whose factors multiply to a power of two."""
    # The derivative of the mean over the batch, or over all elements, divides by as many.
    averaged = case.batch * (case.layers[-1] if case.autoencoder else 1)
    rate = averaged * 2.0**-10
    function = losses.mean_squared_error if case.autoencoder else losses.squared_hinge

    def loss(params: Any, x: Any, y: Any) -> Any:
        return function(nn.predict(params, x), y)

    def step(params: Any, x: Any, y: Any) -> Any:
        slopes = sg.grad(loss)(params, x, y)
        return [
            (W - rate * dW, b - rate * db) for (W, b), (dW, db) in zip(params, slopes, strict=True)
        ]

    return step


def _depths(programs: Iterable[sg.Program]) -> dict[str, int]:
    """Return depths of memories that are enough for all of `programs`."""
    geometries = [program.geometry for program in programs]
    depths = {
        f"{memory.name.lower()}_depth": max(geometry.depth(memory) for geometry in geometries)
        for memory in Memory
    }
    return depths | {"program_depth": max(geometry.program_depth for geometry in geometries)}
