"""Compiled training steps on the reference, against a model written by hand from
docs/spec/numerics.md.

The model knows nothing of tiles, memories or instructions: it is matrices of integers and the
epilogue's formulas, layer by layer, with the backward pass as a person would write it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import siligrad as sg
import siligrad.numpy as np
from siligrad.fixed import Rounding
from siligrad.isa import SEGMENT_LINE, SEGMENTS_MAX, Geometry
from siligrad.lfsr import step as lfsr_step
from siligrad.program import Program, Role, Tensor
from siligrad_sim.reference import ReferenceDevice

Codes = NDArray[numpy.int64]
RATE = 2.0**-3


def predict(params: Any, x: Any) -> Any:
    for W, b in params[:-1]:
        x = np.maximum(x @ W + b, 0)
    W, b = params[-1]
    return x @ W + b


def hinge(params: Any, x: Any, y: Any) -> Any:
    margin = np.maximum(1 - y * predict(params, x), 0)
    return np.mean(np.sum(margin**2, axis=1))


def squares(params: Any, x: Any, y: Any) -> Any:
    return np.mean(np.sum((predict(params, x) - y) ** 2, axis=1))


def training_step(loss: Any, batch: int) -> Any:
    rate = RATE * batch / 16  # a power of two after the mean over any batch

    def step(params: Any, x: Any, y: Any) -> Any:
        grads = sg.grad(loss)(params, x, y)
        return [
            (W - rate * dW, b - rate * db) for (W, b), (dW, db) in zip(params, grads, strict=True)
        ]

    return step


def network(sizes: list[int], seed: int) -> list[tuple[Any, Any]]:
    rng = numpy.random.default_rng(seed)
    return [
        (rng.standard_normal((i, o)) * math.sqrt(2 / i), rng.standard_normal(o) / 10)
        for i, o in pairwise(sizes)
    ]


def examples(sizes: list[int], batch: int, seed: int) -> tuple[Any, Any]:
    rng = numpy.random.default_rng(seed)
    x = rng.random((batch, sizes[0]))
    y = numpy.where(rng.integers(0, sizes[-1], (batch, 1)) == numpy.arange(sizes[-1]), 1.0, -1.0)
    return x, y


def half_even(total: Codes, shift: int) -> Codes:
    return numpy.array(
        [[round(Fraction(int(code), 1 << shift)) for code in row] for row in total],
        dtype=numpy.int64,
    ).reshape(total.shape)


def clip(codes: Codes) -> Codes:
    return numpy.clip(codes, -32767, 32767)


class Draws:
    """The draws of the lanes, one step at a time, handed out in the specified order."""

    def __init__(self, states: tuple[int, ...]) -> None:
        self.states = list(states)

    def matrix(self, rows: int, columns: int) -> Codes:
        n = len(self.states)
        m_tiles, p_tiles = -(-rows // n), -(-columns // n)
        draws = numpy.zeros((m_tiles * n, p_tiles * n), dtype=numpy.int64)
        for i in range(m_tiles):
            for j in range(p_tiles):
                for row in reversed(range(n)):
                    for lane in range(n):
                        for _ in range(16):
                            self.states[lane] = lfsr_step(self.states[lane])
                        draws[i * n + row, j * n + lane] = self.states[lane] % 65536
        return draws[:rows, :columns]


class Model:
    """One training step of a perceptron in integers."""

    def __init__(self, program: Program, layers: int, kind: str) -> None:
        self.kind = kind
        self.layers = layers
        tensors = {tensor.name: tensor for tensor in program.tensors}
        self.frac = {name: tensor.format.frac for name, tensor in tensors.items()}
        temporaries = [t for t in program.tensors if t.role.name == "TEMPORARY"]
        self.hidden = [t.format.frac for t in temporaries if t.name.startswith("relu")]
        (self.error_tensor,) = [t for t in temporaries if t.name.startswith(("hinge", "sum"))]
        self.masked = [t.format.frac for t in temporaries if t.name.startswith("masked")]
        self.order = [self.destination(program, i) for i in range(len(program.instructions))]

    @staticmethod
    def destination(program: Program, index: int) -> str:
        """Name of what an instruction writes; of several that share the words, the parameter."""
        instruction = program.instructions[index]
        owners = [
            tensor
            for tensor in program.tensors
            if (tensor.memory, tensor.base) == (instruction.destination, instruction.d_base)
        ]
        return min(owners, key=lambda tensor: tensor.role != Role.RESIDENT).name

    def step(
        self, params: Sequence[tuple[Codes, ...]], x: Codes, y: Codes, draws: Draws | None
    ) -> list[tuple[Codes, ...]]:
        frac = self.frac
        activations, fracs = [x], [frac["x"]]
        for layer, (W, b) in enumerate(params):
            f = fracs[-1] + frac[f"params[{layer}][0]"]
            total = activations[-1] @ W + (b << (f - frac[f"params[{layer}][1]"]))
            if layer < self.layers - 1:
                h = numpy.maximum(clip(half_even(total, f - self.hidden[layer])), 0)
                activations.append(h)
                fracs.append(self.hidden[layer])
            else:
                fe = self.error_tensor.format.frac
                error = clip(half_even(total - (y << (f - fe)), f - fe))
                if self.kind == "hinge":
                    error = numpy.where(y > 0, numpy.minimum(error, 0), numpy.maximum(error, 0))
        errors, error_fracs = [error], [fe]
        for layer in reversed(range(1, self.layers)):
            W = params[layer][0]
            f = error_fracs[0] + frac[f"params[{layer}][0]"]
            to = self.masked[self.layers - 1 - layer]
            back = clip(half_even(errors[0] @ W.T, f - to))
            errors.insert(0, numpy.where(activations[layer] > 0, back, 0))
            error_fracs.insert(0, to)
        # The mean over the batch, the two of the square and the rate meet here.
        rate = Fraction(RATE) / 16 * 2
        new = [list(pair) for pair in params]
        for name in self.order:
            if not name.startswith("params"):
                continue
            layer, part = int(name[7]), int(name[10])
            old = params[layer][part]
            e, fe = errors[layer], error_fracs[layer]
            if part == 0:
                gradient, f = activations[layer].T @ e, fracs[layer] + fe
            else:
                gradient, f = e.sum(axis=0), fe
            exponent = f - frac[name] - round(math.log2(rate))
            # old - gradient * 2**-exponent, rounded once
            total = (old << exponent) - gradient if exponent >= 0 else old - (gradient << -exponent)
            shift = max(exponent, 0)
            total2 = total.reshape(1, -1) if part else total
            if draws is None:
                rounded = half_even(total2, shift)
            else:
                addend = (draws.matrix(*total2.shape) << shift) >> 16
                rounded = (total2 + addend) >> shift
            new[layer][part] = clip(rounded).reshape(old.shape)
        return [tuple(pair) for pair in new]


def codes(tensors: dict[str, Tensor], name: str, values: Any) -> Codes:
    return tensors[name].format.encode(values).astype(numpy.int64)


@pytest.mark.parametrize("loss", [hinge, squares])
@pytest.mark.parametrize("rounding", [Rounding.HALF_EVEN, Rounding.STOCHASTIC])
@given(
    sizes=st.lists(st.integers(1, 13), min_size=2, max_size=4),
    batch=st.sampled_from([1, 2, 4, 8, 16]),
    array=st.integers(2, 9),
    seed=st.integers(0, 2**16),
)
def test_training_steps_equal_the_model(
    loss: Any, rounding: Rounding, sizes: list[int], batch: int, array: int, seed: int
) -> None:
    params = network(sizes, seed)
    data = [examples(sizes, batch, seed + turn) for turn in range(2)]
    program = sg.compile(
        training_step(loss, batch),
        params,
        *data[0],
        donate=0,
        calibration=[(params, *data[1])],
        target=sg.Target(array=array, update_rounding=rounding),
    )
    device = ReferenceDevice(program.geometry)
    device.load(program, seed=seed)
    tensors = {tensor.name: tensor for tensor in program.tensors}
    model = Model(program, len(params), loss.__name__)
    state = [
        tuple(codes(tensors, f"params[{i}][{j}]", part) for j, part in enumerate(pair))
        for i, pair in enumerate(params)
    ]
    draws = Draws(device.read_lfsr()) if rounding == Rounding.STOCHASTIC else None
    for x, y in data:
        device.run(x, y)
        state = model.step(state, codes(tensors, "x", x), codes(tensors, "y", y), draws)
        for layer, pair in enumerate(device.read()[0]):
            for part, got in enumerate(pair):
                tensor = tensors[f"params[{layer}][{part}]"]
                expected = tensor.format.decode(state[layer][part])
                numpy.testing.assert_array_equal(got, expected, err_msg=tensor.name)
    if draws is not None:
        assert device.read_lfsr() == tuple(draws.states)


def test_saturations_are_counted() -> None:
    def product(x: Any, w: Any) -> Any:
        return x @ w

    x, w = numpy.ones((3, 5)), numpy.full((5, 2), 0.5)
    program = sg.compile(product, x, w, target=sg.Target(array=4), headroom=0)
    device = ReferenceDevice(program.geometry)
    device.load(program)
    assert device.run(x, w).saturations == (0,)
    numpy.testing.assert_allclose(device.read()[0], 2.5, atol=1e-3)
    # The result's format covers 2.5 and ends below 4; twice the weights reach 5, in all six
    # elements.
    w2 = numpy.full((5, 2), 0.999)
    assert device.run(x, w2).saturations == (6,)
    assert (device.read()[0] == 4 - 2.0**-13).all()


def test_no_sum_leaves_float64() -> None:
    # Every sum that an instruction can ask for is exact in float64, whatever the words hold.
    terms = (1 << next(field.width for field in SEGMENT_LINE if field.name == "k")) - 1
    largest = 1 << max(Geometry(operand_bits=16).operand_bits, Geometry().word_bits) - 1
    assert SEGMENTS_MAX * terms * largest**2 < 2**53
