"""The report, against numbers computed again from the words of memory and the specification."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy
import pytest

import siligrad as sg
import siligrad.numpy as np
from siligrad import losses, nn, quantize
from siligrad.errors import DataError
from siligrad.isa import Gate, Memory
from siligrad.program import Role
from siligrad.quantize.report import QuantizationReport, TensorQuantization
from siligrad_sim.reference import ReferenceDevice

Params = list[tuple[Any, Any]]


def network(*sizes: int) -> Params:
    rng = numpy.random.default_rng(0)
    return [
        (rng.standard_normal((i, o)) * (2 / i) ** 0.5, rng.uniform(-0.2, 0.2, o))
        for i, o in pairwise(sizes)
    ]


def step(params: Any, x: Any, y: Any) -> Any:
    def loss(params: Any) -> Any:
        return losses.squared_hinge(nn.predict(params, x), y)

    grads = sg.grad(loss)(params)
    return [
        (W - 2.0**-4 * dW, b - 2.0**-4 * db) for (W, b), (dW, db) in zip(params, grads, strict=True)
    ]


def measured(program: sg.Program, function: Any, examples: Any) -> QuantizationReport:
    with ReferenceDevice(program.geometry) as device:
        return quantize.measure(device, program, function, examples)


def named(report: QuantizationReport) -> dict[str, TensorQuantization]:
    return {tensor.name.partition(" (")[0]: tensor for tensor in report.tensors}


# A layer, computed by hand


def by_hand(codes_x: Any, codes_w: Any, dropped: int, shift: int) -> Any:
    """A ReLU layer in exact integers, after docs/spec/numerics.md."""

    def operand(codes: Any) -> Any:
        if not dropped:
            return codes.astype(object)
        limit = 2 ** (15 - dropped) - 1
        return numpy.clip((codes + 2 ** (dropped - 1)) >> dropped, -limit, limit).astype(object)

    sums = operand(codes_x).dot(operand(codes_w)) * 2**dropped
    rounded = numpy.vectorize(lambda v: round(v / 2**shift))(sums)
    return numpy.maximum(numpy.minimum(rounded, 32767), 0).astype(float)


@pytest.mark.parametrize("operand_bits", [16, 8])
def test_every_number_of_a_layer(operand_bits: int) -> None:
    rng = numpy.random.default_rng(4)
    W, x = rng.uniform(-1, 1, (10, 6)), rng.uniform(-2, 2, (8, 10))
    examples = [(W, x), (W, 0.5 * x)]

    def layer(W: Any, x: Any) -> Any:
        return np.maximum(x @ W, 0)

    program = sg.compile(
        layer, W, x, resident=0, headroom=0, target=sg.Target(operand_bits=operand_bits)
    )
    dropped = 16 - operand_bits
    report = measured(program, layer, examples)
    found = named(report)
    assert list(found) == ["W", "x", "relu 0"]
    fw, fx, fr = (found[name].format.frac for name in found)
    wide = [numpy.maximum(x @ W, 0) for _, x in examples]
    codes = [
        by_hand(
            numpy.rint(numpy.ldexp(x, fx)).astype(int),
            numpy.rint(numpy.ldexp(W, fw)).astype(int),
            dropped,
            fw + fx - dropped - fr,
        )
        for _, x in examples
    ]
    noise = sum(((numpy.ldexp(c, -fr) - v) ** 2).sum() for c, v in zip(codes, wide, strict=True))
    signal = sum((v**2).sum() for v in wide)
    relu = found["relu 0"]
    assert relu.sqnr == pytest.approx(10 * math.log10(signal / noise))
    assert relu.seen == pytest.approx(max(v.max() for v in wide))
    assert relu.operand_sqnr is None  # nothing multiplies it
    assert relu.magnitudes.count == 2 * 48
    rounded = numpy.ldexp(numpy.rint(numpy.ldexp(W, fw)), -fw)
    assert found["W"].sqnr == pytest.approx(
        10 * math.log10((W**2).sum() / ((rounded - W) ** 2).sum())
    )
    top = numpy.clip(numpy.floor(numpy.ldexp(rounded, fw - dropped) + 0.5), -127, 127)
    top = numpy.ldexp(top, dropped - fw) if dropped else rounded
    assert found["W"].operand_sqnr == pytest.approx(
        10 * math.log10((W**2).sum() / ((top - W) ** 2).sum())
    )
    assert found["W"].operand_bits == operand_bits
    assert (found["W"].largest, found["W"].resolution) == (32767 * 2.0**-fw, 2.0**-fw)
    assert report.saturations == (0,)


def test_unused_and_clipped() -> None:
    W, x = numpy.full((4, 4), 0.25), numpy.full((4, 4), 0.5)

    def layer(W: Any, x: Any) -> Any:
        return np.maximum(x @ W, 0)

    program = sg.compile(layer, W, x, resident=0, headroom=0)
    found = named(measured(program, layer, [(0.01 * W, x), (numpy.zeros((4, 4)), x)]))
    assert found["W"].unused_bits == 7  # up to 0.5; 0.0025 is under a 128th of it
    assert found["W"].clipped == 0
    found = named(measured(program, layer, [(numpy.where(numpy.eye(4) > 0, 4 * W, W), x)]))
    assert (found["W"].unused_bits, found["W"].clipped) == (-2, 4)
    found = named(measured(program, layer, [(numpy.zeros((4, 4)), x)]))
    assert (found["W"].unused_bits, found["W"].sqnr) == (None, None)


def test_a_value_is_clipped_from_half_a_step_beyond_the_largest() -> None:
    W, x = numpy.full((1, 3), 0.25), numpy.full((4, 1), 0.5)
    program = sg.compile(lambda W, x: x @ W, W, x, resident=0, headroom=0)
    (weights,) = (tensor.format for tensor in program.tensors if tensor.name == "W")
    step = weights.resolution
    edge = numpy.array([[0.0, 0.49, 0.51]]) * step + weights.largest
    with ReferenceDevice(program.geometry) as device:
        report = quantize.measure(device, program, lambda W, x: x @ W, [(edge, x), (-edge, x)])
    assert named(report)["W"].clipped == 2


def test_saturations_are_those_of_the_instructions_that_write_the_tensor() -> None:
    params = network(6, 5, 5, 3)
    rng = numpy.random.default_rng(1)
    x, y = rng.uniform(-1, 1, (8, 6)), rng.choice([-1.0, 1.0], (8, 3))
    program = sg.compile(step, params, x, y, donate=0)
    large = [(8 * W, b) for W, b in params]
    with ReferenceDevice(program.geometry) as device:
        device.load(program)
        device.write("params", large)
        saturations = device.run(x, y).saturations
        report = quantize.measure(device, program, step, [(large, x, y)] * 3)
    assert report.saturations == tuple(3 * each for each in saturations)
    assert sum(report.saturations) > 0
    found = named(report)
    for gate, names in (
        (Gate.RELU, ["relu 0", "relu 1"]),
        (Gate.HINGE, ["hinge 2"]),
        (Gate.MASK, ["masked 3", "masked 4"]),
    ):
        counts = [
            count
            for instruction, count in zip(program.instructions, report.saturations, strict=True)
            if instruction.gate == gate
        ]
        assert [found[name].saturations for name in names] == counts
    for tensor in program.tensors:
        if tensor.role == Role.RESIDENT:
            counts = [
                count
                for instruction, count in zip(program.instructions, report.saturations, strict=True)
                if (instruction.destination, instruction.d_base) == (tensor.memory, tensor.base)
            ]
            assert [found[tensor.name].saturations] == counts
        elif tensor.role == Role.INPUT:
            assert found[tensor.name].saturations == 0


def test_updated_parameters_are_compared_after_the_update() -> None:
    params = network(6, 3)
    rng = numpy.random.default_rng(1)
    x, y = rng.uniform(-1, 1, (8, 6)), rng.choice([-1.0, 1.0], (8, 3))
    program = sg.compile(step, params, x, y, donate=0)
    found = named(measured(program, step, [(params, x, y)]))
    with ReferenceDevice(program.geometry) as device:
        device.load(program, seed=0)
        device.run(x, y)
        ((after,),) = device.read()
    ((W, _),) = step(params, x, y)
    noise = ((after[0] - W) ** 2).sum()
    assert found["params[0][0]"].sqnr == pytest.approx(10 * math.log10((W**2).sum() / noise))


def test_what_is_overwritten_is_read_before() -> None:
    """Layers alternate between words; each is compared with what it is in floating point."""
    params = network(8, 8, 8, 8, 8, 8, 4)
    x = numpy.random.default_rng(2).uniform(-1, 1, (8, 8))
    program = sg.compile(nn.predict, params, x, resident=0, target=sg.Target(array=4))
    hidden = [t for t in program.tensors if t.role == Role.TEMPORARY]
    assert len({(t.memory, t.base) for t in hidden}) < len(hidden)  # words are used again
    report = measured(program, nn.predict, [(params, x)])
    found = named(report)
    value = x
    for number, (W, b) in enumerate(params[:-1]):
        value = numpy.maximum(value @ W + b, 0)
        assert found[f"relu {number}"].seen == pytest.approx(value.max())
        ratio = found[f"relu {number}"].sqnr
        assert ratio is not None
        assert ratio > 60


def test_results_scaled_or_read_as_magnitudes_are_compared_as_the_user_reads_them() -> None:
    rng = numpy.random.default_rng(1)
    params, x = network(6, 3), rng.uniform(-1, 1, (8, 6))
    y = rng.choice([-1.0, 1.0], (8, 3))

    def margins(params: Any, x: Any, y: Any) -> Any:
        return np.maximum(1 - y * nn.predict(params, x), 0), 0.25 * nn.predict(params, x)

    program = sg.compile(margins, params, x, y, resident=0)
    found = named(measured(program, margins, [(params, x, y)]))
    for tensor in found.values():
        assert tensor.sqnr is not None
        assert tensor.sqnr > 70, tensor.name


def test_the_table_and_the_json_say_the_same() -> None:
    params, x = network(6, 5, 3), numpy.random.default_rng(2).uniform(-1, 1, (8, 6))
    for operand_bits, columns in ((16, 9), (8, 10)):
        program = sg.compile(
            nn.predict, params, x, resident=0, target=sg.Target(operand_bits=operand_bits)
        )
        report = measured(program, nn.predict, [(params, x)])
        head, *lines = str(report).splitlines()
        assert len(head.split()) == columns
        content = report.as_json()
        assert len(lines) == len(content["tensors"]) == 7
        for line, tensor in zip(lines, content["tensors"], strict=True):
            assert line.startswith(tensor["name"].partition(" (")[0])
            assert Memory[tensor["memory"]].name in line.split()
            assert f".{tensor['frac']}" in line
            if tensor["sqnr_db"] is not None:
                assert f"{tensor['sqnr_db']:.1f}" in line


def test_runs_of_several_steps_and_no_examples_are_refused() -> None:
    params, x = network(6, 3), numpy.ones((4, 6))
    program = sg.compile(nn.predict, params, x, resident=0, steps=2)
    with pytest.raises(DataError, match="runs 2 steps, of which only the last could be read"):
        measured(program, nn.predict, [(params, x)])
    program = sg.compile(nn.predict, params, x, resident=0)
    with pytest.raises(DataError, match="no examples to measure with"):
        measured(program, nn.predict, [])


def test_an_input_that_would_be_clipped_is_refused_by_name() -> None:
    params, x = network(6, 3), numpy.ones((4, 6))
    program = sg.compile(nn.predict, params, x, resident=0)
    with pytest.raises(DataError, match="x reaches 3, but was calibrated for magnitudes up to"):
        measured(program, nn.predict, [(params, 3 * x)])


def test_another_device_gives_the_same_report() -> None:
    """`measure` uses nothing of a device but its words."""
    pysim = pytest.importorskip("siligrad_sim.pysim")
    params, x = network(3, 3, 2), numpy.random.default_rng(2).uniform(-1, 1, (2, 3))
    target = sg.Target(array=2, x_depth=16, w_depth=32, e_depth=16)
    program = sg.compile(nn.predict, params, x, resident=0, target=target)
    with pysim.PysimDevice(program.geometry) as device:
        found = quantize.measure(device, program, nn.predict, [(params, x)])
    assert found.as_json() == measured(program, nn.predict, [(params, x)]).as_json()
    assert replace(found, tensors=()).saturations == (0, 0)
