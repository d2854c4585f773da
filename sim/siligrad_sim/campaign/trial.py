"""A trial: a program with everything that it is run with, down to the words that nobody owns.

:func:`trial_of` makes one of a random case, :func:`varied` one of any program. A trial can be run
on any device, any number of times, and is always the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siligrad import tree
from siligrad.checker import CheckError
from siligrad.compiler import CapacityError, LoweringError
from siligrad.fixed import QFormat
from siligrad.isa import ONE_STEP, Geometry, Memory
from siligrad.program import Program
from siligrad.tensor import Argument, Role, Tensor
from siligrad_sim.benches.programs import random_loop, random_program, scheduled
from siligrad_sim.campaign.case import BareCase, Case, Contents
from siligrad_sim.campaign.networks import compiled

__all__ = ["REFUSALS", "Trial", "Variation", "draw_codes", "trial_of", "varied"]

REFUSALS = (CapacityError, CheckError, LoweringError)
"""Why a network may have no program: it is too large, a sum might overflow, there is no format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variation:
    """With what a program is run.

    Parameters
    ----------
    inputs
        What inputs of a run hold.
    parameters
        What stays in the device holds at first.
    leftover
        What all words of the memories hold before the program is loaded.
    cut
        Cycles after which a run before all others is cut off by the hardware; 0 for no such run.
    runs
        How often it is run.
    seed
        Of everything drawn, and of the shift registers.
    """

    inputs: Contents = "example"
    parameters: Contents = "example"
    leftover: Contents = "zeros"
    cut: int = 0
    runs: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Trial:
    """A program and what it is run with.

    Parameters
    ----------
    program
        To be loaded.
    leftover
        The words of each memory before that, shape ``(depth, N)``.
    seed
        Of the shift registers.
    runs
        For each run the arrays of the arguments that do not stay in the device, in order: the
        leaves of the first such argument, then those of the next.
    cut
        Cycles after which a run before all others is cut off, or 0: what it leaves behind in the
        hardware must not matter.
    """

    program: Program
    leftover: Mapping[Memory, NDArray[np.int32]] = field(repr=False)
    seed: int
    runs: tuple[tuple[NDArray[np.float64], ...], ...] = field(repr=False)
    cut: int = 0

    def inputs(self, run: int) -> tuple[Any, ...]:
        """Return what :meth:`siligrad.device.Device.run` takes, for the run of that number."""
        leaves = list(self.runs[run])
        arguments = []
        for argument in self.program.arguments:
            if not argument.resident:
                count = argument.structure.leaf_count
                arguments.append(tree.unflatten(argument.structure, leaves[:count]))
                leaves = leaves[count:]
        return tuple(arguments)


def trial_of(case: Case) -> Trial:
    """Return the trial that `case` describes; always the same.

    Raises
    ------
    siligrad.compiler.CapacityError, siligrad.compiler.LoweringError, siligrad.checker.CheckError
        If its network does not fit, or has no translation.
    """
    if isinstance(case, BareCase):
        return _bare(case)
    program, examples = compiled(case)
    variation = Variation(
        inputs=case.inputs,
        parameters=case.parameters,
        leftover=case.leftover,
        runs=case.runs,
        seed=case.seed,
    )
    return varied(program, examples, variation)


def varied(program: Program, examples: Sequence[tuple[Any, ...]], variation: Variation) -> Trial:
    """Return a trial of `program` with other words.

    Parameters
    ----------
    program
        As it was compiled.
    examples
        Sets of the arguments that do not stay in the device: what inputs take turns to be where
        they are to be as in the examples.
    variation
        What is drawn.
    """
    rng = np.random.default_rng(variation.seed)
    geometry = program.geometry
    if variation.parameters != "example":
        staying = {
            index
            for argument in program.arguments
            if argument.resident
            for index in argument.tensors
        }
        drawn = {
            index: _matrix(rng, program.tensors[index], variation.parameters)
            for index in sorted(staying)
        }
        program = replace(program, initial={**program.initial, **drawn})
    steps = program.loop.steps
    runs = []
    for run in range(variation.runs):
        if variation.inputs == "example":
            sets = [examples[(run * steps + step) % len(examples)] for step in range(steps)]
            runs.append(_example_leaves(program, sets))
        else:
            runs.append(_drawn_leaves(rng, program, variation.inputs))
    leftover = _words(rng, geometry, variation.leftover)
    return Trial(program, leftover, variation.seed, tuple(runs), variation.cut)


def draw_codes(
    rng: np.random.Generator, shape: tuple[int, ...], limit: int, contents: Contents
) -> NDArray[np.int32]:
    """Draw codes of magnitudes up to `limit`; contents as in examples are drawn at random."""
    if contents == "zeros":
        codes = np.zeros(shape, np.int64)
    elif contents == "largest":
        codes = rng.choice([-limit, limit], shape)
    elif contents == "coarse":
        step = max(1 << limit.bit_length() // 2 - 1, 1)
        codes = np.clip(np.rint(rng.normal(0, limit / 8 / step, shape)) * step, -limit, limit)
    else:
        codes = rng.integers(-limit, limit + 1, shape)
    return np.asarray(codes, dtype=np.int32)


def _words(
    rng: np.random.Generator, geometry: Geometry, contents: Contents
) -> dict[Memory, NDArray[np.int32]]:
    limit = (1 << geometry.word_bits - 1) - 1
    return {
        memory: draw_codes(rng, (geometry.depth(memory), geometry.array), limit, contents)
        for memory in Memory
    }


def _matrix(rng: np.random.Generator, tensor: Tensor, contents: Contents) -> NDArray[np.int32]:
    """Draw the codes of a tensor, shape ``(rows, columns)``."""
    return draw_codes(rng, (tensor.rows, tensor.columns), tensor.limit, contents)


def _given(program: Program) -> list[Tensor]:
    """Return the tensors that are written before each run, in the order of the arguments."""
    return [
        program.tensors[index]
        for argument in program.arguments
        if not argument.resident
        for index in argument.tensors
    ]


def _example_leaves(
    program: Program, sets: Sequence[tuple[Any, ...]]
) -> tuple[NDArray[np.float64], ...]:
    flat = [
        [np.asarray(leaf, dtype=np.float64) for each in given for leaf in tree.flatten(each)[0]]
        for given in sets
    ]
    return tuple(
        np.stack([leaves[position] for leaves in flat]) if tensor.moves else flat[0][position]
        for position, tensor in enumerate(_given(program))
    )


def _drawn_leaves(
    rng: np.random.Generator, program: Program, contents: Contents
) -> tuple[NDArray[np.float64], ...]:
    def draw(tensor: Tensor) -> NDArray[np.float64]:
        if tensor.sign:  # the loss was compiled for +1 and -1
            return rng.choice([-1.0, 1.0], tensor.shape)
        return tensor.decode(_matrix(rng, tensor, contents))

    return tuple(
        np.stack([draw(tensor) for _ in range(program.loop.steps)])
        if tensor.moves
        else draw(tensor)
        for tensor in _given(program)
    )


# Bare instructions.


def _bare(case: BareCase) -> Trial:
    rng = np.random.default_rng(case.seed)
    loop = random_loop(rng, case.geometry, case.steps) if case.steps > 1 else ONE_STEP
    drawn = random_program(rng, case.geometry, case.instructions, loop)
    kept = [each for each, there in zip(drawn, case.kept, strict=True) if there]
    instructions = scheduled(kept, case.geometry, loop)
    # Of their own seed, so that they are the same with fewer instructions.
    words = _words(np.random.default_rng([case.seed, 1]), case.geometry, case.contents)
    program = Program(
        name="bare",
        geometry=case.geometry,
        instructions=tuple(instructions),
        tensors=tuple(_whole(case.geometry, memory) for memory in Memory),
        arguments=(),
        result=Argument("result", tree.flatten(())[1], ()),
        initial={},
        macs=(0,) * len(instructions),
        sources=tuple(f"instruction {index}" for index in range(len(instructions))),
        loop=loop,
    )
    return Trial(program, words, case.seed, ((),) * case.runs)


def _whole(geometry: Geometry, memory: Memory) -> Tensor:
    """Return all of `memory` as one tensor: instructions may read and write any of it."""
    n = geometry.array
    rows = geometry.depth(memory) // n * n
    return Tensor(
        name=memory.name,
        role=Role.OUTPUT,
        memory=memory,
        base=0,
        rows=rows,
        columns=n,
        shape=(rows, n),
        format=QFormat(geometry.word_bits, 0),
        limit=(1 << geometry.word_bits - 1) - 1,
    )
