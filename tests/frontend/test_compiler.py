from __future__ import annotations

import inspect
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy
import pytest

import siligrad as sg
import siligrad.numpy as np
from siligrad.errors import DataError
from siligrad.fixed import QFormat
from siligrad.isa import Gate, Memory, Rounding
from siligrad.program import Program, Role

RATE = 2.0**-4


def predict(params: Any, x: Any) -> Any:
    for W, b in params[:-1]:
        x = np.maximum(x @ W + b, 0)
    W, b = params[-1]
    return x @ W + b


def loss(params: Any, x: Any, y: Any) -> Any:
    margin = np.maximum(1 - y * predict(params, x), 0)
    return np.mean(np.sum(margin**2, axis=1))


def step(params: Any, x: Any, y: Any) -> Any:
    grads = sg.grad(loss)(params, x, y)
    return [(W - RATE * dW, b - RATE * db) for (W, b), (dW, db) in zip(params, grads, strict=True)]


def parameters(*sizes: int) -> list[tuple[Any, Any]]:
    rng = numpy.random.default_rng(0)
    return [
        (rng.standard_normal((i, o)) * math.sqrt(2 / i), numpy.zeros(o)) for i, o in pairwise(sizes)
    ]


def batch(rows: int, inputs: int, classes: int) -> tuple[Any, Any]:
    rng = numpy.random.default_rng(1)
    labels = rng.integers(0, classes, (rows, 1))
    return rng.random((rows, inputs)), numpy.where(labels == numpy.arange(classes), 1.0, -1.0)


def perceptron_step(*sizes: int, rows: int = 16, array: int = 8) -> Program:
    x, y = batch(rows, sizes[0], sizes[-1])
    return sg.compile(step, parameters(*sizes), x, y, donate=0, target=sg.Target(array=array))


def listing(program: Program) -> str:
    """The program as text, a line an instruction: what a compiler change would change."""
    lines = [f"cycles {program.cycles}", program.memory_map()]
    for instruction, source in zip(program.instructions, program.sources, strict=True):
        segments = " + ".join(
            f"{'ones' if s.ones else 'A'}[{s.k}]" + f"(pad {s.pad})" * bool(s.pad)
            for s in instruction.segments
        )
        lines.append(
            f"{instruction.product.name} -> {instruction.destination.name}@{instruction.d_base} "
            f"{instruction.m_tiles}x{instruction.p_tiles} tiles of {segments} "
            f"delay {instruction.delay} shift {instruction.shift} {instruction.rounding.name} "
            f"{instruction.aux_mode.name} {instruction.gate.name}"
            f"{' negated' * instruction.negate}  # {source}"
        )
    return "\n".join(lines) + "\n"


def test_the_step_of_the_demo_is_the_golden_program(request: pytest.FixtureRequest) -> None:
    golden = Path(__file__).parent / "golden" / "step_64_32_10.txt"
    text = listing(perceptron_step(64, 32, 10))
    if request.config.getoption("--update-golden"):
        golden.write_text(text)
    assert text == golden.read_text()


def test_utilisation_counts_the_matrix_products_alone() -> None:
    program = perceptron_step(64, 32, 10)
    forward = 16 * (64 * 32 + 32 * 10)
    backward = 16 * 10 * 32
    assert sum(program.macs) == 2 * forward + backward
    assert program.utilisation == sum(program.macs) / (64 * program.cycles)
    assert program.utilisation >= 0.80


def test_a_step_takes_about_four_instructions_a_layer() -> None:
    for depth in (1, 2, 3, 5):
        program = perceptron_step(*[8] * (depth + 1), rows=8, array=4)
        assert len(program.instructions) == 4 * depth - 1  # the first layer sends no error back


def test_inference_is_an_instruction_a_layer() -> None:
    program = sg.compile(
        predict,
        parameters(64, 48, 32, 10),
        numpy.ones((8, 64)),
        resident=0,
        target=sg.Target(array=8),
    )
    gates = [instruction.gate for instruction in program.instructions]
    assert gates == [Gate.RELU, Gate.RELU, Gate.NONE]
    assert [tensor.role for tensor in program.tensors].count(Role.RESIDENT) == 6


def test_parameters_that_nothing_changes_get_no_update() -> None:
    def frozen(params: Any, x: Any, y: Any) -> Any:
        fixed = sg.stop_gradient(params[0])
        grads = sg.grad(lambda last: loss([fixed, last], x, y))(params[1])
        return [params[0], tuple(p - RATE * d for p, d in zip(params[1], grads, strict=True))]

    x, y = batch(16, 6, 3)
    program = sg.compile(frozen, parameters(6, 5, 3), x, y, donate=0)
    assert len(program.instructions) == 4  # two layers forward, W and b of the second


def test_formats_agree_with_those_handed_in() -> None:
    training = perceptron_step(12, 7, 3)
    params = parameters(12, 7, 3)
    inference = sg.compile(
        predict, params, numpy.ones((16, 12)), resident=0, formats=training.formats
    )
    for name, chosen in inference.formats.items():
        if name.startswith("params"):
            assert chosen == training.formats[name]


def test_every_word_of_the_memory_map_has_one_owner_at_a_time() -> None:
    program = perceptron_step(20, 9, 17, 5, rows=8, array=4)
    kept = [tensor for tensor in program.tensors if tensor.role != Role.TEMPORARY]
    for memory in Memory:
        spans = sorted((t.base, t.base + t.words(4)) for t in kept if t.memory == memory)
        for (_, end), (start, _) in pairwise(spans):
            assert end <= start
    text = program.memory_map()
    for tensor in program.tensors:
        assert tensor.name in text


# Refusals: what, where, which value, what to do.


def refused(function: Any, *args: Any, match: str, **options: Any) -> None:
    with pytest.raises(sg.SiligradError, match=match):
        sg.compile(function, *args, **options)


def line_of(function: Any, text: str) -> str:
    lines, first = inspect.getsourcelines(function)
    number = next(index for index, line in enumerate(lines) if text in line)
    return f"{Path(__file__).name}:{first + number}"


def test_what_cannot_be_lowered_names_the_primitive_the_line_and_the_alternative() -> None:
    def soft(x: Any, W: Any) -> Any:
        return np.tanh(x @ W)

    where = line_of(soft, "tanh")
    x, W = numpy.ones((4, 4)), numpy.eye(4)
    refused(
        soft, x, W, match=rf"{where}: return np.tanh\(x @ W\): tanh has no lowering: use np.maximum"
    )
    refused(
        lambda x, W: np.exp(x @ W), x, W, match="exp has no lowering: softmax cross-entropy stays"
    )
    refused(lambda x, W: (x @ W) / (x @ W), x, W, match="divides by an array; the hardware scales")
    refused(lambda x, W: np.maximum(x @ W, 1), x, W, match="only the maximum with zero")
    refused(lambda x, W: (x @ W) * (W @ x), x, W, match="cannot be multiplied element by element")
    refused(lambda x, W: np.sum(x @ W, axis=1), x, W, match="only rows can be summed")
    refused(lambda x, W: np.sum(x @ W), x, W, match="only rows can be summed")
    refused(lambda x, W: x @ W + 1, x, W, match="constant other than zero can only be added")
    refused(lambda x, W: (x @ W).reshape(2, 8), x, W, match="moves elements between rows")


def test_a_learning_rate_that_is_no_power_of_two_is_refused_or_rounded_and_reported() -> None:
    def slow(params: Any, x: Any, y: Any) -> Any:
        grads = sg.grad(loss)(params, x, y)
        return [
            (W - 0.01 * dW, b - 0.01 * db) for (W, b), (dW, db) in zip(params, grads, strict=True)
        ]

    params, (x, y) = parameters(4, 3), batch(16, 4, 3)
    refused(
        slow,
        params,
        x,
        y,
        donate=0,
        match=r"params\[0\]\[\d\] is changed by 0.00125 times a product, which is no power of "
        r"two; multiply the learning rate by 0.78125 \(or by 1.5625\), or compile with "
        r"round_factors=True",
    )
    program = sg.compile(slow, params, x, y, donate=0, round_factors=True)
    assert len(program.notes) == 2
    assert all("0.00125 times a product; rounded to 2**-10" in note for note in program.notes)


def test_a_learning_rate_too_small_to_have_an_effect_is_refused() -> None:
    def still(params: Any, x: Any, y: Any) -> Any:
        grads = sg.grad(loss)(params, x, y)
        return [
            (W - 2**-40 * dW, b - 2**-40 * db)
            for (W, b), (dW, db) in zip(params, grads, strict=True)
        ]

    refused(
        still,
        parameters(4, 3),
        *batch(16, 4, 3),
        donate=0,
        match=r"params\[0\]\[\d\] would need a shift of \d+ bits, but 47 is the most; .*rate",
    )


def test_a_mean_over_a_batch_that_is_no_power_of_two_can_be_made_up_for() -> None:
    def scaled(params: Any, x: Any, y: Any) -> Any:
        rate = (
            12 / 2**8
        )  # times the mean over 12: a power of two, but for floating point's rounding
        grads = sg.grad(loss)(params, x, y)
        return [
            (W - rate * dW, b - rate * db) for (W, b), (dW, db) in zip(params, grads, strict=True)
        ]

    program = sg.compile(scaled, parameters(4, 3), *batch(12, 4, 3), donate=0)
    assert not program.notes


def test_a_network_that_does_not_fit_says_what_would() -> None:
    x, y = batch(16, 64, 10)
    refused(
        step,
        parameters(64, 32, 10),
        x,
        y,
        donate=0,
        target=sg.Target(array=8, w_depth=256),
        match=r"memory W is 112 words a bank over: the program needs 368, the target has 256. "
        r"Most is taken by params\[0\]\[0\] \(64 x 32, 256 words\), .*"
        r"What would fit: fewer channels, or a target with w_depth=512",
    )
    refused(
        step,
        parameters(64, 32, 10),
        x,
        y,
        donate=0,
        target=sg.Target(program_depth=8),
        match="the program takes 23 lines, but the program memory has 8",
    )


def test_the_batch_and_the_steps_that_would_fit_do() -> None:
    tight = sg.Target(array=8, x_depth=256)
    params = parameters(64, 32, 10)
    refused(
        step,
        params,
        *batch(64, 64, 10),
        donate=0,
        target=tight,
        match="memory X is 512 words a bank over.*What would fit: a batch of 16 instead of 64, "
        "or a target with x_depth=1024",
    )
    sg.compile(step, params, *batch(16, 64, 10), donate=0, target=tight)
    # An input of a step takes 128 words of X, and what is computed from it 64.
    deep = sg.Target(array=8, x_depth=1024)
    refused(
        step,
        params,
        *batch(16, 64, 10),
        donate=0,
        steps=20,
        target=deep,
        match="memory X is 1600 words a bank over.*What would fit: 7 steps instead of 20",
    )
    assert sg.compile(step, params, *batch(16, 64, 10), donate=0, steps=7, target=deep).cycles
    refused(
        step,
        params,
        *batch(16, 64, 10),
        donate=0,
        steps=9000,
        target=sg.Target(array=8),
        match="the target has 65536.*What would fit: 511 steps instead of 9000$",
    )


def test_an_input_gives_way_where_a_sum_could_overflow() -> None:
    def product(x: Any, W: Any) -> Any:
        return x @ W

    # Just below one, so that 15 bits of fraction hold it in codes of almost full scale: 784
    # products of such codes with full-scale weights need 41 bits.
    x, W = numpy.full((2, 784), 0.9999), numpy.full((784, 2), 0.9)
    few = sg.compile(product, x[:, :4], W[:4], resident=1, headroom=0, target=sg.Target(array=2))
    assert few.formats["x"].frac == 15
    program = sg.compile(product, x, W, resident=1, headroom=0, target=sg.Target(array=2))
    assert program.formats["x"].frac == 14
    (tensor,) = [tensor for tensor in program.tensors if tensor.name == "x"]
    assert 784 * tensor.limit * (2**15 - 1) < 2**39


def test_a_sum_that_could_overflow_is_refused() -> None:
    def product(x: Any, W: Any) -> Any:
        return x @ W

    x, W = numpy.ones((4, 600)), numpy.full((600, 4), 0.01)
    # 600 products of two full-scale codes need 41 bits; inputs that are known to be smaller need
    # 40.
    program = sg.compile(product, x, W, resident=1)
    assert program.tensors[0].limit == 2**14
    refused(
        product,
        x,
        W,
        resident=(0, 1),
        match=r"its sums may reach \d+, which needs 41 bits, but .* have 40",
    )
    assert sg.compile(product, x, W, resident=(0, 1), target=sg.Target(sum_bits=41)).cycles > 0


def test_arguments_of_other_sizes_are_refused() -> None:
    def scalar_rate(x: Any, W: Any, rate: Any) -> Any:
        return rate * (x @ W)

    x, W = numpy.ones((4, 4)), numpy.eye(4)
    refused(scalar_rate, x, W, 0.5, match="argument rate has shape .*must be a Python number")
    refused(lambda x, W: x @ W, x, W, donate=1, match="W is donated, but no result|replaces W")
    refused(lambda x, W: x @ W, x, W, donate=2, match="positions of arguments, 0 to 1, not 2")
    refused(lambda x, W: W, x, W, resident=1, match="argument handed back|computes nothing")
    refused(lambda x, W: x @ W, x, W, calibration=[(x, [W])], match="argument W nested like")


def test_a_target_that_does_not_exist_is_refused() -> None:
    with pytest.raises(sg.SiligradError, match="array must be from 2 to 16, not 17"):
        sg.Target(array=17)


def test_data_that_does_not_fit_the_program_is_refused() -> None:
    program = perceptron_step(4, 3)
    x, y = (
        program.tensors[program.arguments[1].tensors[0]],
        program.tensors[program.arguments[2].tensors[0]],
    )
    good = numpy.ones((16, 4))
    with pytest.raises(DataError, match=r"x has shape \(16, 4\), not \(15, 4\)"):
        x.encode(good[:15])
    bad = good.copy()
    bad[2, 1] = numpy.nan
    with pytest.raises(DataError, match=r"x\[2, 1\] is nan; only finite values"):
        x.encode(bad)
    with pytest.raises(
        DataError, match=r"y\[0, 0\] is 0.5, but the loss was compiled for targets of"
    ):
        y.encode(numpy.full((16, 3), 0.5))
    with pytest.raises(DataError, match="x reaches 9, but was calibrated for magnitudes up to"):
        x.encode(good * 9)
    with pytest.raises(
        DataError, match=r"argument params must be nested like \[\(\*, \*\)\], not like \*"
    ):
        program.encode(0, good)


def test_a_hinge_needs_targets_of_plus_and_minus_one() -> None:
    x, _ = batch(16, 4, 3)
    with pytest.raises(
        sg.SiligradError, match=r"y\[0, 0\] is 0.25, but the loss was compiled for targets"
    ):
        sg.compile(step, parameters(4, 3), x, numpy.full((16, 3), 0.25), donate=0)


def test_a_product_that_no_memories_serve_is_refused_with_what_to_write() -> None:
    refused(lambda x: x @ x.T, numpy.ones((4, 8)), match="no choice of memories .* samples as rows")


def test_samples_may_be_columns_in_inference() -> None:
    def columns(x: Any, W: Any, V: Any) -> Any:
        return V @ np.maximum(W @ x, 0)

    program = sg.compile(
        columns, numpy.ones((8, 4)), numpy.ones((3, 8)), numpy.ones((2, 3)), resident=(1, 2)
    )
    assert len(program.instructions) == 2


def test_rounding_is_the_targets() -> None:
    x, y = batch(16, 4, 3)
    target = sg.Target(rounding=Rounding.HALF_UP, update_rounding=Rounding.FLOOR)
    program = sg.compile(step, parameters(4, 3), x, y, donate=0, target=target)
    roundings = [instruction.rounding for instruction in program.instructions]
    assert roundings == [Rounding.HALF_UP, Rounding.FLOOR, Rounding.FLOOR]


def test_a_format_of_a_tensor_covers_what_was_seen_with_the_headroom_asked_for() -> None:
    def product(x: Any, W: Any) -> Any:
        return x @ W

    x, W = numpy.full((4, 4), 0.9), numpy.full((4, 4), 0.9)
    for headroom in (0, 1, 3):
        program = sg.compile(product, x, W, headroom=headroom)
        output = program.tensors[program.result.tensors[0]]
        assert output.format == QFormat.covering(16, 4 * 0.81 * 2**headroom)
