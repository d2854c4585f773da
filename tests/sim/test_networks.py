"""Networks that are no plain perceptrons: against floating point, and on the hardware."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy
import pytest

import siligrad as sg
import siligrad.numpy as np
from siligrad import tree
from siligrad.device import device_class
from siligrad.isa import Rounding
from siligrad_sim.lockstep import Lockstep
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


def biased(p: Any, x: Any, y: Any) -> Any:
    for w, b in p[:-1]:
        x = relu(x @ w + b)
    w, b = p[-1]
    return hinge(x @ w + b, y)


def biased_squares(p: Any, x: Any, y: Any) -> Any:
    (w0, b0), (w1, b1) = p
    return squares(relu(x @ w0 + b0) @ w1 + b1, y)


def frozen_encoder(modules: Any, x: Any, y: Any) -> Any:
    encoder, classifier = modules
    return composed((sg.stop_gradient(encoder), classifier), x, y)


def step_with_margins(p: Any, x: Any, y: Any) -> Any:
    return gradient_descent(no_bias)(p, x, y), relu(1 - y * (relu(x @ p[0]) @ p[1]))


def step_with_errors(p: Any, x: Any, y: Any) -> Any:
    return gradient_descent(biased_squares)(p, x, y), biased_scores(p, x) - y


def biased_scores(p: Any, x: Any) -> Any:
    (w0, b0), (w1, b1) = p
    return relu(x @ w0 + b0) @ w1 + b1


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
    "four layers": Network(
        gradient_descent(biased),
        [((6, 5), (5,)), ((5, 7), (7,)), ((7, 4), (4,)), ((4, 3), (3,))],
    ),
    "mean squared error": Network(
        gradient_descent(biased_squares), [((6, 5), (5,)), ((5, 3), (3,))]
    ),
    "frozen": Network(gradient_descent(frozen_encoder), (((6, 5), (5,)), ((5, 4), (4, 3)))),
    "margins": Network(step_with_margins, [(6, 5), (5, 3)]),
    "errors": Network(step_with_errors, [((6, 5), (5,)), ((5, 3), (3,))]),
}

# One geometry for all networks, so that a compiled device is built once.
WIDE = sg.Target(array=3, x_depth=512, w_depth=256, e_depth=256, program_depth=128)
NARROW = replace(WIDE, operand_bits=8, sum_bits=32)


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
        if name not in ("composed", "frozen"):  # their result is a tuple already
            assert got_structure == structure
        for got, want, index in zip(got_leaves, leaves, program.result.tensors, strict=True):
            tensor = program.tensors[index]
            # A few codes of what rounding does to what it is computed from.
            tolerance = 12 * tensor.format.resolution * abs(tensor.scale)
            numpy.testing.assert_allclose(got, want, atol=tolerance, rtol=0, err_msg=tensor.name)


def in_lockstep(device: str, program: sg.Program, *inputs: Any) -> None:
    """Run the program with each of the inputs on both and compare everything."""
    reason = device_class(device).available()
    if reason is not None:
        pytest.skip(reason)
    with device_class(device)(program.geometry) as machine:
        pair = Lockstep(ReferenceDevice(program.geometry), machine)
        pair.load(program, seed=7)
        for values in inputs:
            result = pair.run(*values)
            assert result.first is None, str(result.first)
            assert result.words_different == 0
            assert result.device.cycles == program.cycles


UNLIKE = ("recurrent", "residual before", "frozen", "errors")
"""Networks that are least alike."""


@pytest.mark.parametrize(
    ("device", "name"),
    [
        *(("verilator", name) for name in NETWORKS),
        *(
            pytest.param("cxxrtl", name, marks=() if name in UNLIKE else pytest.mark.extended)
            for name in NETWORKS
        ),
        *(
            pytest.param("pysim", name, marks=() if name in UNLIKE[:2] else pytest.mark.extended)
            for name in UNLIKE
        ),
    ],
)
def test_the_hardware_does_the_same(device: str, name: str) -> None:
    network = NETWORKS[name]
    program = sg.compile(network.step, *arguments(network, 0), donate=0, target=WIDE)
    in_lockstep(device, program, *(arguments(network, seed)[1:] for seed in range(2)))


@pytest.mark.parametrize("name", NETWORKS)
def test_with_narrow_operands_and_steps_too(name: str) -> None:
    network = NETWORKS[name]
    program = sg.compile(network.step, *arguments(network, 0), donate=0, target=NARROW, steps=3)
    data = [
        stacked([arguments(network, seed)[1:] for seed in (at, at + 1, at + 2)]) for at in (0, 3)
    ]
    in_lockstep("verilator", program, *data)


def stacked(values: Any) -> Any:
    """Several of a nesting of arrays as one, along a new first axis of each array."""
    leaves = [tree.flatten(value)[0] for value in values]
    structure = tree.flatten(values[0])[1]
    return tree.unflatten(structure, [numpy.stack(each) for each in zip(*leaves, strict=True)])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_run_of_three_steps_is_three_runs(name: str) -> None:
    network = NETWORKS[name]
    args = arguments(network, 0)
    data = [arguments(network, seed)[1:] for seed in range(3)]
    # The same tensors in other places: everything but the addresses is equal.
    one = sg.compile(network.step, *args, donate=0, target=WIDE)
    three = sg.compile(network.step, *args, donate=0, target=WIDE, steps=3)
    stepwise, at_once = ReferenceDevice(one.geometry), ReferenceDevice(three.geometry)
    stepwise.load(one, seed=3)
    at_once.load(three, seed=3)
    reports, results = [], []
    for inputs in data:
        reports.append(stepwise.run(*inputs))
        results.append(stepwise.read())
    report = at_once.run(*stacked(data))
    assert three.cycles <= 3 * one.cycles  # no host between, and no pipeline that runs empty
    assert report.saturations == tuple(
        sum(counts) for counts in zip(*(r.saturations for r in reports), strict=True)
    )
    assert at_once.read_lfsr() == stepwise.read_lfsr()
    argument = tree.flatten(args[0])[1].leaf_count
    each = [tree.flatten(result)[0] for result in results]
    for index, got in enumerate(tree.flatten(at_once.read())[0]):
        kept = index < argument  # of the last step; other results are there for every step
        want = each[-1][index] if kept else numpy.stack([leaves[index] for leaves in each])
        numpy.testing.assert_array_equal(got, want)


def test_what_is_frozen_is_not_written() -> None:
    network = NETWORKS["frozen"]
    program = sg.compile(network.step, *arguments(network, 0), donate=0, target=WIDE)
    written = {(i.destination, i.d_base) for i in program.instructions}
    for index, tensor in enumerate(program.tensors[:4]):
        assert ((tensor.memory, tensor.base) in written) == (index >= 2), tensor.name


def test_nothing_is_computed_twice_or_in_vain() -> None:
    def wasteful(p: Any, x: Any) -> Any:
        unused = relu(x @ p[1]) @ p[0]  # noqa: F841  what no output needs
        return relu(x @ p[0]) @ p[1] + relu(x @ p[0]) @ p[1]

    rng = numpy.random.default_rng(0)
    params, x = [rng.random((6, 6)), rng.random((6, 6))], rng.random((BATCH, 6))
    program = sg.compile(wasteful, params, x, resident=0)
    assert len(program.instructions) == 2
    assert sum(program.macs) == 2 * BATCH * 6 * 6
    device = ReferenceDevice(program.geometry)
    device.load(program)
    device.run(x)
    numpy.testing.assert_allclose(device.read()[0], wasteful(params, x), rtol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (np.tanh, r"test_networks.py:\d+: .*tanh has no lowering: use np.maximum"),
        (np.exp, r"exp has no lowering: softmax cross-entropy stays on the host"),
        (lambda z: np.mean(z**2), r"powers are taken in losses only"),
    ],
)
def test_what_the_hardware_cannot_do_is_refused(change: Any, message: str) -> None:
    def function(w: Any, x: Any) -> Any:
        return change(x @ w)

    with pytest.raises(sg.LoweringError, match=message):
        sg.compile(function, numpy.ones((4, 4)), numpy.ones((4, 4)), resident=0)


def test_a_scalar_loss_is_refused_with_what_to_return_instead() -> None:
    def scalar(w: Any, x: Any, y: Any) -> Any:
        return hinge(x @ w, y)

    y = numpy.where(numpy.eye(4) > 0, 1.0, -1.0)
    with pytest.raises(sg.LoweringError, match="powers are taken in losses only"):
        sg.compile(scalar, numpy.ones((4, 4)), numpy.ones((4, 4)), y, resident=0)


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
