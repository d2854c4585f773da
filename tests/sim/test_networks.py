"""Networks that are no plain perceptrons: against floating point, and on the hardware."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy
import pytest

import siligrad as sg
import siligrad.numpy as np
from siligrad import tree
from siligrad.isa import Rounding
from siligrad_sim.lockstep import Lockstep
from siligrad_sim.pysim import PysimDevice
from siligrad_sim.reference import ReferenceDevice

RATE = 2.0**-5
BATCH = 8


def hinge(scores: Any, y: Any) -> Any:
    return np.mean(np.sum(np.maximum(1 - y * scores, 0) ** 2, axis=1))


def squares(scores: Any, y: Any) -> Any:
    return np.mean(np.sum((scores - y) ** 2, axis=1))


def relu(x: Any) -> Any:
    return np.maximum(x, 0)


def gradient_descent(loss: Callable[..., Any]) -> Callable[..., Any]:
    def step(params: Any, *data: Any) -> Any:
        leaves, structure = tree.flatten(params)
        slopes, _ = tree.flatten(sg.grad(loss)(params, *data))
        new = [p - RATE * slope for p, slope in zip(leaves, slopes, strict=True)]
        return tree.unflatten(structure, new)

    return step


@dataclass(frozen=True)
class Network:
    """A step, and the sizes of its parameters and inputs."""

    step: Callable[..., Any]
    params: Any
    inputs: Any = (BATCH, 6)


def no_bias(p: Any, x: Any, y: Any) -> Any:
    return hinge(relu(x @ p[0]) @ p[1], y)


def shared_weights(p: Any, x: Any, y: Any) -> Any:
    return hinge(relu(relu(x @ p["twice"]) @ p["twice"]) @ p["last"], y)


def residual_after(p: Any, x: Any, y: Any) -> Any:
    h = relu(x @ p[0])
    return squares((relu(h @ p[1]) + h) @ p[2], y)


def residual_before(p: Any, x: Any, y: Any) -> Any:
    h = relu(x @ p[0])
    return squares(relu(h @ p[1] + h) @ p[2], y)


def residual_of_the_input(p: Any, x: Any, y: Any) -> Any:
    return squares(relu(x @ p[0] + x) @ p[1], y)


def recurrent(p: Any, xs: Any, y: Any) -> Any:
    h = relu(xs[0] @ p["in"] + p["b"])
    for x in xs[1:]:
        h = relu(x @ p["in"] + h @ p["again"] + p["b"])
    return hinge(h @ p["out"], y)


def composed(modules: Any, x: Any, y: Any) -> Any:
    (encoder, bias), (hidden, last) = modules
    return hinge(relu(relu(x @ encoder + bias) @ hidden) @ last, y)


def step_with_predictions(p: Any, x: Any, y: Any) -> Any:
    new = gradient_descent(no_bias)(p, x, y)
    return new, relu(x @ p[0]) @ p[1]


def step_with_input_gradient(p: Any, x: Any, y: Any) -> Any:
    slopes, slope_of_x = sg.grad(no_bias, argnums=(0, 1))(p, x, y)
    return [w - RATE * slope for w, slope in zip(p, slopes, strict=True)], slope_of_x


def step_with_activations(p: Any, x: Any, y: Any) -> Any:
    return gradient_descent(no_bias)(p, x, y), relu(x @ p[0])


NETWORKS = {
    "no bias": Network(gradient_descent(no_bias), [(6, 5), (5, 3)]),
    "shared weights": Network(gradient_descent(shared_weights), {"twice": (6, 6), "last": (6, 3)}),
    "residual after": Network(gradient_descent(residual_after), [(6, 5), (5, 5), (5, 3)]),
    "residual before": Network(gradient_descent(residual_before), [(6, 5), (5, 5), (5, 3)]),
    "residual of the input": Network(gradient_descent(residual_of_the_input), [(6, 6), (6, 3)]),
    "recurrent": Network(
        gradient_descent(recurrent),
        {"in": (6, 5), "again": (5, 5), "b": (5,), "out": (5, 3)},
        [(BATCH, 6)] * 4,
    ),
    "composed": Network(gradient_descent(composed), (((6, 5), (5,)), ((5, 4), (4, 3)))),
    "predictions": Network(step_with_predictions, [(6, 5), (5, 3)]),
    "input gradient": Network(step_with_input_gradient, [(6, 5), (5, 3)]),
    "activations": Network(step_with_activations, [(6, 5), (5, 3)]),
}


def filled(shapes: Any, make: Callable[[tuple[int, ...]], Any]) -> Any:
    """The nested shapes as arrays."""
    if isinstance(shapes, tuple) and isinstance(shapes[0], int):
        return make(shapes)
    if isinstance(shapes, dict):
        return {name: filled(shape, make) for name, shape in shapes.items()}
    return type(shapes)(filled(shape, make) for shape in shapes)


def arguments(network: Network, seed: int) -> tuple[Any, Any, Any]:
    rng = numpy.random.default_rng(seed)
    params = filled(network.params, lambda shape: rng.standard_normal(shape) * shape[0] ** -0.5)
    x = filled(network.inputs, rng.random)
    y = numpy.where(rng.integers(0, 3, (BATCH, 1)) == numpy.arange(3), 1.0, -1.0)
    return params, x, y


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_is_that_of_floating_point_but_for_rounding(name: str) -> None:
    network = NETWORKS[name]
    for seed in range(5):
        args = arguments(network, seed)
        target = sg.Target(array=4, update_rounding=Rounding.HALF_EVEN)
        program = sg.compile(network.step, *args, donate=0, target=target, headroom=0)
        device = ReferenceDevice(program.geometry)
        device.load(program)
        device.run(*args[1:])
        expected = network.step(*args)
        expected = expected if isinstance(expected, tuple) else (expected,)
        got_leaves, got_structure = tree.flatten(device.read())
        leaves, structure = tree.flatten(expected)
        if name != "composed":  # its result is a tuple already
            assert got_structure == structure
        for got, want, index in zip(got_leaves, leaves, program.result.tensors, strict=True):
            tensor = program.tensors[index]
            # A few codes of what rounding does to what it is computed from.
            tolerance = 12 * tensor.format.resolution * tensor.scale
            numpy.testing.assert_allclose(got, want, atol=tolerance, rtol=0, err_msg=tensor.name)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_hardware_does_the_same(name: str) -> None:
    network = NETWORKS[name]
    args = arguments(network, 0)
    program = sg.compile(network.step, *args, donate=0, target=sg.Target(array=3))
    with PysimDevice(program.geometry) as device:
        pair = Lockstep(ReferenceDevice(program.geometry), device)
        pair.load(program, seed=7)
        for seed in range(2):
            _, x, y = arguments(network, seed)
            result = pair.run(x, y)
            assert result.first is None, str(result.first)
            assert result.words_different == 0
            assert result.device.cycles == program.cycles


def test_a_result_keeps_its_words_when_others_are_computed_after_its_last_use() -> None:
    def deep(params: Any, x: Any) -> Any:
        first = h = relu(x @ params[0])
        for w in params[1:]:
            h = relu(h @ w)
        return h, first

    rng = numpy.random.default_rng(0)
    params, x = [rng.random((6, 6)) / 2 for _ in range(5)], rng.random((BATCH, 6))
    program = sg.compile(deep, params, x, resident=0, target=sg.Target(array=4), headroom=0)
    device = ReferenceDevice(program.geometry)
    device.load(program)
    device.run(x)
    for got, want in zip(device.read(), deep(params, x), strict=True):
        numpy.testing.assert_allclose(got, want, atol=0.01)
