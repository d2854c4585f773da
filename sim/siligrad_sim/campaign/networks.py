"""Networks of random cases as a user writes them: ordinary functions, and example arguments.

:func:`compiled` turns a :class:`~siligrad_sim.campaign.case.NetworkCase` into a program by way of
:func:`siligrad.grad` and :func:`siligrad.compile`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy
from numpy.typing import NDArray

import siligrad as sg
import siligrad.numpy as np
from siligrad import tree
from siligrad.program import Program
from siligrad_sim.campaign.case import NetworkCase

__all__ = ["Network", "compiled", "network"]

EXAMPLES = 3
"""Sets of arguments that formats are chosen with."""


@dataclass(frozen=True)
class Network:
    """A function to be compiled, and examples of its arguments: parameters first.

    Parameters
    ----------
    function
        Returns new parameters, and what is asked for besides; or predictions alone.
    examples
        Arguments in order, several sets; the parameters are those of the first.
    trains
        Whether the parameters are replaced.
    """

    function: Callable[..., Any]
    examples: tuple[tuple[Any, ...], ...]
    trains: bool


def compiled(case: NetworkCase) -> tuple[Program, tuple[tuple[Any, ...], ...]]:
    """Compile the network of `case`; return the program and examples of what a run is given.

    Raises
    ------
    siligrad.compiler.CapacityError, siligrad.compiler.LoweringError, siligrad.checker.CheckError
        If this network does not fit, or has no translation.
    """
    made = network(case)
    geometry = case.geometry
    target = sg.Target(
        array=geometry.array,
        operand_bits=geometry.operand_bits,
        sum_bits=geometry.sum_bits,
        x_depth=geometry.x_depth,
        w_depth=geometry.w_depth,
        e_depth=geometry.e_depth,
        program_depth=geometry.program_depth,
        word_bits=geometry.word_bits,
        rounding=case.rounding,
        update_rounding=case.update_rounding,
    )
    declared = case.formats == "declared"
    options: dict[str, Any] = {
        "target": target,
        "donate": 0 if made.trains else (),
        "resident": () if made.trains else 0,
        "calibration": made.examples[1:],
        "method": "max" if declared else case.formats,
        "headroom": case.headroom,
        "round_factors": True,
        "steps": case.steps,
    }
    program = sg.compile(made.function, *made.examples[0], **options)
    if declared:
        options["formats"] = {
            name: sg.QFormat(chosen.bits, chosen.frac - 1 - index % 3)
            for index, (name, chosen) in enumerate(program.formats.items())
        }
        program = sg.compile(made.function, *made.examples[0], **options)
    return program, tuple(example[1:] for example in made.examples)


def network(case: NetworkCase) -> Network:
    """Return the network of `case` as a function and examples of its arguments."""
    if case.loss == "none":

        def predict(params: Any, x: Any) -> Any:
            return _outputs(case, params, x)

        return Network(predict, _examples(case), trains=False)

    def step(params: Any, x: Any, y: Any) -> Any:
        return _step(case, params, x, y)

    return Network(step, _examples(case), trains=True)


# The network.


def _matrices(case: NetworkCase) -> list[int]:
    """Return for each layer which set of parameters it uses."""
    chosen = list(range(len(case.widths) - 1))
    if case.shared:
        shapes = list(zip(case.widths, case.widths[1:], case.biases, strict=False))
        for layer in range(2, len(chosen) - 1):
            if shapes[layer] == shapes[layer - 1]:
                chosen[layer] = chosen[layer - 1]
    return chosen


def _forward(case: NetworkCase, params: Any, x: Any) -> list[Any]:
    """Return what each layer computes: activations, and the scores last."""
    sets = params[0] + params[1] if case.modules else params
    numbers = sorted(set(_matrices(case)))
    layers = [sets[numbers.index(number)] for number in _matrices(case)]
    results = []
    first = layers[0]
    state = x
    if case.times > 1:
        state = None
        for each in x:
            total = each @ first["W"]
            if state is not None:
                total = total + state @ first["again"]
            state = np.maximum(total + first["b"] if "b" in first else total, 0)
        results.append(state)
        layers = layers[1:]
    for number, layer in enumerate(layers):
        total = state @ layer["W"]
        if "b" in layer:
            total = total + layer["b"]
        last = number == len(layers) - 1
        fits = not last and case.residual != "none" and total.shape == state.shape
        if fits and case.residual == "before":
            total = total + state
        result = total if last else np.maximum(total, 0)
        if fits and case.residual == "after":
            result = result + state
        state = result
        results.append(state)
    return results


def _loss(case: NetworkCase, params: Any, x: Any, y: Any) -> Any:
    if case.modules and case.frozen:
        params = (sg.stop_gradient(params[0]), params[1])
    scores = _forward(case, params, x)[-1]
    if case.loss == "hinge":
        return np.mean(np.sum(np.maximum(1 - y * scores, 0) ** 2, axis=1))
    return np.mean(np.sum((scores - y) ** 2, axis=1))


def _step(case: NetworkCase, params: Any, x: Any, y: Any) -> Any:
    def loss(params: Any, x: Any) -> Any:
        return _loss(case, params, x, y)

    slope_of_x = None
    if case.output == "input gradient":
        slopes, slope_of_x = sg.grad(loss, argnums=(0, 1))(params, x)
    else:
        slopes = sg.grad(loss)(params, x)
    leaves, structure = tree.flatten(params)
    down, _ = tree.flatten(slopes)
    rate = 2.0**-case.rate
    new = tree.unflatten(structure, [p - rate * s for p, s in zip(leaves, down, strict=True)])
    if case.output == "none":
        return new
    if slope_of_x is not None:
        return new, slope_of_x
    results = _forward(case, params, x)
    scores = results[-1]
    if case.output == "activations":
        return new, results[0]
    if case.output == "margins":
        return new, np.maximum(1 - y * scores, 0)
    return new, scores - y if case.output == "errors" else scores


def _outputs(case: NetworkCase, params: Any, x: Any) -> Any:
    results = _forward(case, params, x)
    if case.output == "activations" and len(results) > 1:
        return results[-1], results[0]
    return results[-1]


# Its arguments.


def _examples(case: NetworkCase) -> tuple[tuple[Any, ...], ...]:
    rng = numpy.random.default_rng(case.seed)
    params = _parameters(case, rng)
    return tuple((params, *_inputs(case, rng)) for _ in range(EXAMPLES))


def _parameters(case: NetworkCase, rng: numpy.random.Generator) -> Any:
    sets = []
    shapes = list(zip(case.widths, case.widths[1:], strict=False))
    for number in sorted(set(_matrices(case))):
        rows, columns = shapes[number]
        made = {"W": rng.standard_normal((rows, columns)) * rows**-0.5}
        if number == 0 and case.times > 1:
            made["again"] = rng.standard_normal((columns, columns)) * columns**-0.5
        if case.biases[number]:
            made["b"] = rng.standard_normal(columns) / 4
        sets.append(made)
    if case.modules:
        return sets[: len(sets) // 2], sets[len(sets) // 2 :]
    return sets


def _inputs(case: NetworkCase, rng: numpy.random.Generator) -> tuple[Any, ...]:
    def draw() -> NDArray[Any]:
        return rng.random((case.batch, case.widths[0]))

    x: Any = [draw() for _ in range(case.times)] if case.times > 1 else draw()
    if case.loss == "none":
        return (x,)
    shape = (case.batch, case.widths[-1])
    if case.loss == "hinge":
        return x, rng.choice([-1.0, 1.0], shape)
    return x, rng.standard_normal(shape)
