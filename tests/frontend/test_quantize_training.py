"""Fake quantization, networks that are aware of it, and quantization after training."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import siligrad as sg
import siligrad.numpy as np
from siligrad import datasets, losses, metrics, nn, optim, quantize
from siligrad.errors import DataError, ShapeError
from siligrad.fixed import QFormat
from siligrad.quantize import fake_quantize
from siligrad.train import fit
from siligrad_sim.reference import ReferenceDevice

formats = st.builds(QFormat, bits=st.integers(2, 16), frac=st.integers(-4, 20))


def inside(x: float, q: QFormat) -> bool:
    """Whether `x` is within the range of `q`, from the definition."""
    return bool(abs(Fraction(x)) <= (2 ** (q.bits - 1) - 1) / Fraction(2) ** q.frac)


# The primitive


@given(q=formats, x=st.floats(-100, 100))
def test_fake_quantization_is_the_nearest_code_ties_to_even(q: QFormat, x: float) -> None:
    limit = 2 ** (q.bits - 1) - 1
    code = max(-limit, min(limit, round(Fraction(x) * Fraction(2) ** q.frac)))
    assert Fraction(float(fake_quantize(x, q))) == code / Fraction(2) ** q.frac


@given(q=formats, x=st.lists(st.floats(-100, 100), min_size=1, max_size=8))
def test_the_gradient_goes_straight_through_within_the_range_and_nowhere_else(
    q: QFormat, x: list[float]
) -> None:
    xs = numpy.append(x, [q.largest, -q.largest, numpy.nextafter(q.largest, numpy.inf)])
    weights = numpy.arange(1.0, len(xs) + 1)
    expected = [w if inside(float(v), q) else 0.0 for v, w in zip(xs, weights, strict=True)]

    def weighted(x: Any) -> Any:
        return np.sum(weights * fake_quantize(x, q))

    assert sg.grad(weighted)(xs).tolist() == expected
    _, forward = sg.jvp(lambda x: fake_quantize(x, q), (xs,), (weights,))
    assert forward.tolist() == expected


def test_it_is_idempotent_and_keeps_shape_and_type() -> None:
    q = QFormat(4, 2)
    x = numpy.linspace(-3, 3, 24, dtype=numpy.float32).reshape(2, 3, 4)
    once = fake_quantize(x, q)
    assert (once.dtype, once.shape) == (numpy.float32, (2, 3, 4))
    numpy.testing.assert_array_equal(fake_quantize(once, q), once)
    assert sg.grad(lambda x: np.sum(fake_quantize(x, q)))(x).dtype == numpy.float32


def test_planned_steps_compute_the_same() -> None:
    q, rng = QFormat(5, 3), numpy.random.default_rng(0)
    W, x = rng.standard_normal((6, 4)), rng.standard_normal((8, 6))

    def loss(W: Any, x: Any) -> Any:
        return np.mean(np.maximum(fake_quantize(x, q) @ fake_quantize(W, q), 0) ** 2)

    slope = sg.grad(loss)
    numpy.testing.assert_array_equal(sg.static(slope)(W, x)(W, x), slope(W, x))


def test_a_nan_has_no_code() -> None:
    with pytest.raises(sg.SiligradError, match="cannot encode NaN"):
        fake_quantize(numpy.array([numpy.nan]), QFormat(8, 4))


# Compiled


def layer(W: Any, x: Any) -> Any:
    return np.maximum(x @ W, 0)


def test_a_compiled_program_holds_what_is_fake_quantized_in_that_format() -> None:
    rng = numpy.random.default_rng(1)
    W, x = rng.uniform(-1, 1, (12, 9)), rng.uniform(-1, 1, (7, 12))
    weights, outputs = QFormat(4, 5), QFormat(16, 9)

    def quantized(W: Any, x: Any) -> Any:
        return fake_quantize(layer(fake_quantize(W, weights), x), outputs)

    target = sg.Target(operand_bits=4, sum_bits=32)
    program = sg.compile(quantized, W, x, resident=0, headroom=5, target=target)
    found = {tensor.name.split()[0]: tensor.format for tensor in program.tensors}
    assert found["W"] == QFormat(16, 5 + 12)  # its top four bits are those of the format
    assert found["relu"] == outputs
    assert program.notes == ()


def test_a_step_with_fake_quantization_is_the_step_without() -> None:
    rng = numpy.random.default_rng(2)
    params = [rng.uniform(-0.4, 0.4, shape) for shape in ((8, 6), (6, 3))]
    x, y = rng.uniform(-1, 1, (16, 8)), rng.choice([-1.0, 1.0], (16, 3))
    q = QFormat(16, 14)

    def step_with(quantized: bool) -> Any:
        def hold(array: Any) -> Any:
            return fake_quantize(array, q) if quantized else array

        def step(params: Any, x: Any, y: Any) -> Any:
            def loss(params: Any) -> Any:
                first, second = map(hold, params)
                return losses.squared_hinge(layer(first, x) @ second, y)

            return [W - 2.0**-4 * dW for W, dW in zip(params, sg.grad(loss)(params), strict=True)]

        return step

    with_it, without = (
        sg.compile(step_with(each), params, x, y, donate=0) for each in (True, False)
    )
    assert with_it.instructions == without.instructions
    assert with_it.formats == without.formats


def test_an_input_that_is_fake_quantized_is_not_clipped_by_that() -> None:
    rng = numpy.random.default_rng(0)
    W, x = rng.uniform(-1, 1, (4, 3)), rng.uniform(-1, 1, (5, 4))
    x[0, 0] = 3.0
    narrow = QFormat(16, 15)  # up to 1
    program = sg.compile(lambda W, x: layer(W, fake_quantize(x, narrow)), W, x, resident=0)
    assert program.formats["x"] == QFormat(16, 13)


def test_of_several_formats_the_narrowest_is_held() -> None:
    W, x = numpy.full((4, 3), 0.25), numpy.full((5, 4), 0.25)
    wide, narrow = QFormat(16, 10), QFormat(16, 14)

    def twice(W: Any, x: Any) -> Any:
        return layer(fake_quantize(W, wide), x) @ fake_quantize(W, narrow).T

    program = sg.compile(twice, W, x, resident=0)
    assert program.formats["W"] == narrow


def test_what_has_no_word_of_its_own_is_noted() -> None:
    rng = numpy.random.default_rng(0)
    W, x = rng.uniform(-1, 1, (4, 3)), rng.uniform(-1, 1, (5, 4))

    def scaled(W: Any, x: Any) -> Any:
        return layer(W, fake_quantize(0.5 * x, QFormat(8, 7)))

    program = sg.compile(scaled, W, x, resident=0)
    (note,) = program.notes
    assert "fake_quantize to 8 bits, 7 of fraction has no effect" in note
    assert "test_quantize_training.py" in note


# Aware networks


def network(*sizes: int, seed: int = 0) -> list[tuple[Any, Any]]:
    rng = numpy.random.default_rng(seed)
    return [
        (rng.standard_normal((i, o)) * (2 / i) ** 0.5, rng.uniform(-0.2, 0.2, o))
        for i, o in pairwise(sizes)
    ]


def residual(params: Any, x: Any) -> Any:
    (W, b), (V, c) = params
    h = np.maximum(x @ W + b, 0)
    return 0.5 * (np.maximum(h @ V + c, 0) + h)


def on_reference(program: sg.Program, x: Any) -> Any:
    with ReferenceDevice(program.geometry) as device:
        device.load(program)
        return quantize.classify(device, x)


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize(("function", "sizes"), [(nn.predict, (9, 7, 8, 3)), (residual, (5, 6, 6))])
def test_aware_scores_are_those_of_the_device_to_the_last_bit(
    bits: int, function: Any, sizes: tuple[int, ...]
) -> None:
    """Where words are as wide as operands there is one rounding, and sums of doubles are exact."""
    params = network(*sizes)
    x = numpy.random.default_rng(3).uniform(-1, 1, (40, sizes[0]))
    target = sg.Target(array=4, operand_bits=bits, word_bits=bits, sum_bits=40 if bits > 8 else 24)
    program = quantize.post_training(function, params, x, batch=8, target=target)
    aware = quantize.aware(program, function, params, x[:8])
    numpy.testing.assert_array_equal(aware(params, x), on_reference(program, x))


def test_with_narrow_operands_aware_scores_differ_by_ties_alone() -> None:
    params = network(9, 7, 3)
    x = numpy.random.default_rng(3).uniform(-1, 1, (64, 9))
    target = sg.Target(operand_bits=8)
    program = quantize.post_training(nn.predict, params, x, batch=8, target=target)
    aware = quantize.aware(program, nn.predict, params, x[:8])
    difference = aware(params, x) - on_reference(program, x)
    assert numpy.mean(difference == 0) > 0.5
    # A tie moves an operand of the hidden layer by one step of it, at most.
    (hidden,) = (tensor for tensor in program.tensors if tensor.name.startswith("relu"))
    step = 2.0 ** (8 - hidden.format.frac)
    assert (numpy.abs(difference) <= step * numpy.abs(params[1][0]).sum(axis=0)).all()


def test_an_aware_network_compiles_to_the_same_formats() -> None:
    params = network(9, 7, 3)
    x = numpy.random.default_rng(3).uniform(-1, 1, (16, 9))
    target = sg.Target(operand_bits=5, sum_bits=32)
    program = quantize.post_training(nn.predict, params, x, batch=8, target=target)
    aware = quantize.aware(program, nn.predict, params, x[:8])
    other = [(0.3 * W, 0.3 * b) for W, b in params]  # would have other formats
    again = quantize.post_training(aware, other, x, batch=8, target=target)
    assert [t.format for t in again.tensors] == [t.format for t in program.tensors]
    assert again.instructions == program.instructions
    plain = quantize.post_training(nn.predict, other, x, batch=8, target=target)
    assert [t.format for t in plain.tensors] != [t.format for t in program.tensors]


def test_a_program_of_another_function_is_refused() -> None:
    params, x = network(9, 7, 3), numpy.ones((8, 9))
    program = quantize.post_training(nn.predict, params, x, batch=8)
    for function, arguments, why in (
        (nn.predict, (network(9, 7, 7, 3), x), "nested in another way"),
        (nn.predict, (network(9, 6, 3), x), r"params\[0\]\[0\] would be 9 x 6, not 9 x 7"),
        (nn.predict, (params, x[:4]), "x would be 4 x 9, not 8 x 9"),
        (lambda params, x: x @ params[0][0], (params, x), "it has no relu 0"),
        (lambda params, x: [layer(params[0][0], x)] * 2, (params, x), "another number of arrays"),
        (
            lambda params, x: layer(params[0][0], x) @ params[1][0] + params[1][1],
            (params, x),
            "instruction 0 computes something else",
        ),
    ):
        with pytest.raises(DataError, match=f"'predict' was not compiled from .*{why}"):
            quantize.aware(program, function, *arguments)


def test_shapes_for_which_the_function_is_another_are_refused() -> None:
    def by_rows(W: Any, x: Any) -> Any:
        return layer(W, x) if x.shape[0] > 4 else x @ W

    W, x = network(6, 3)[0][0], numpy.ones((8, 6))
    program = quantize.post_training(by_rows, W, x, batch=8)
    aware = quantize.aware(program, by_rows, W, x)
    assert aware(W, x[:5]).shape == (5, 3)
    with pytest.raises(ShapeError, match="by_rows computes something else"):
        aware(W, x[:4])


def test_nothing_is_kept_free_above_trained_parameters() -> None:
    params, x = [(numpy.full((4, 3), 0.9), numpy.full(3, -0.4))], numpy.full((16, 4), 0.5)
    for method in quantize.METHODS:
        program = quantize.post_training(nn.predict, params, x, batch=8, method=method)
        found = [tensor.format.frac for tensor in program.tensors]
        assert found == [15, 16, 15, 14]  # 0.9, 0.4, 0.5 (a code more than has), 1.4


def test_too_few_examples_for_a_batch_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"7 examples fill no batch of 8; give more"):
        quantize.post_training(nn.predict, network(4, 3), numpy.ones((7, 4)), batch=8)


# Digits


@pytest.fixture(scope="module")
def digits() -> datasets.Dataset:
    return datasets.optdigits()


def train(
    function: Any, params: Any, data: datasets.Dataset, *, rate: float, epochs: int
) -> list[tuple[Any, Any]]:
    def loss(params: Any, x: Any, y: Any) -> Any:
        return losses.squared_hinge(function(params, x), y)

    targets = losses.one_vs_rest(data.train_labels, data.classes)
    optimizer = optim.Sgd(optim.Halving(rate, every=5 * len(targets) // 32))
    return fit(  # type: ignore[no-any-return]
        loss,
        params,
        data.train_images,
        targets,
        optimizer=optimizer,
        epochs=epochs,
        progress=False,
    ).params


@pytest.fixture(scope="module")
def trained(digits: datasets.Dataset) -> list[tuple[Any, Any]]:
    start = nn.perceptron(numpy.random.default_rng(0), [64, 32, 10])
    return train(nn.predict, start, digits, rate=2.0**-5, epochs=15)


def accuracy(program: sg.Program, data: datasets.Dataset) -> float:
    return metrics.accuracy(on_reference(program, data.test_images), data.test_labels)


@pytest.mark.parametrize(
    ("operand_bits", "word_bits", "loss"), [(16, 16, 0.001), (8, 16, 0.01), (8, 8, 0.01)]
)
@pytest.mark.parametrize("method", quantize.METHODS)
def test_after_training_eight_bits_are_within_a_point_of_float(
    operand_bits: int,
    word_bits: int,
    loss: float,
    method: str,
    digits: datasets.Dataset,
    trained: Any,
) -> None:
    exact = metrics.accuracy(nn.predict(trained, digits.test_images), digits.test_labels)
    assert exact > 0.95
    target = sg.Target(
        operand_bits=operand_bits, word_bits=word_bits, sum_bits=40 if operand_bits == 16 else 32
    )
    program = quantize.post_training(
        nn.predict, trained, digits.train_images[:512], target=target, method=method
    )
    assert accuracy(program, digits) >= exact - loss


def test_at_four_bits_awareness_wins_back_what_quantization_lost(
    digits: datasets.Dataset, trained: Any
) -> None:
    target = sg.Target(operand_bits=4, word_bits=16, sum_bits=32)
    images = digits.train_images[:512]
    program = quantize.post_training(nn.predict, trained, images, target=target)
    aware = quantize.aware(program, nn.predict, trained, images[:64])
    retrained = train(aware, trained, digits, rate=2.0**-6, epochs=15)
    after = quantize.post_training(aware, retrained, images, target=target)
    without = quantize.post_training(
        nn.predict,
        train(nn.predict, trained, digits, rate=2.0**-6, epochs=15),
        images,
        target=target,
    )
    assert accuracy(after, digits) > accuracy(program, digits)
    assert accuracy(after, digits) > accuracy(without, digits)  # it is not the longer training
