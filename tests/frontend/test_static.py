"""Static execution: the same numbers, in memory that was there before."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import siligrad.numpy as np
from siligrad import losses, nn, tree
from siligrad.autodiff import grad, simplify, static, trace, value_and_grad
from siligrad.autodiff.fusion import fuse
from siligrad.errors import ShapeError, TraceError

RATE = 2**-6


def loss(params: Any, x: Any, y: Any) -> Any:
    return losses.squared_hinge(nn.predict(params, x), y)


def step(params: Any, x: Any, y: Any) -> Any:
    value, grads = value_and_grad(loss)(params, x, y)
    return tree.map(lambda w, g: w - RATE * g, params, grads), value


def example(
    sizes: tuple[int, ...] = (7, 6, 5, 4), dtype: Any = numpy.float32
) -> tuple[Any, Any, Any]:
    rng = numpy.random.default_rng(0)
    params = nn.perceptron(rng, sizes, dtype=dtype)
    x = rng.standard_normal((8, sizes[0])).astype(dtype)
    y = numpy.sign(rng.standard_normal((8, sizes[-1]))).astype(dtype)
    return params, x, y


def same(a: Any, b: Any) -> bool:
    pairs = zip(tree.flatten(a)[0], tree.flatten(b)[0], strict=True)
    return all(numpy.asarray(x).tobytes() == numpy.asarray(y).tobytes() for x, y in pairs)


def copied(value: Any) -> Any:
    return tree.map(numpy.array, value)


@pytest.mark.parametrize("dtype", [numpy.float32, numpy.float64])
@pytest.mark.parametrize("donate", [(), 0, (0,)])
def test_steps_are_those_of_eager_execution_to_the_last_bit(dtype: Any, donate: Any) -> None:
    params, x, y = example(dtype=dtype)
    program = static(step, donate=donate)(params, x, y)
    eager, planned = params, copied(params)
    for _ in range(20):
        eager, expected = step(eager, x, y)
        planned, value = program(planned, x, y)
        assert value == expected
        assert same(planned, eager)
    assert program.allocating == ()


def test_donated_arrays_are_written_in_place() -> None:
    params, x, y = example()
    program = static(step, donate=0)(params, x, y)
    working = copied(params)
    result, _ = program(working, x, y)
    for (W, b), (new_W, new_b) in zip(working, result, strict=True):
        assert W is new_W
        assert b is new_b


def test_arguments_that_are_not_donated_are_left_alone() -> None:
    params, x, y = example()
    before = copied((params, x, y))
    static(step)(params, x, y)(params, x, y)
    assert same((params, x, y), before)


def test_a_result_lives_until_the_call_after_the_next() -> None:
    program = static(lambda x: x + 1)(numpy.zeros(3))
    first = program(numpy.zeros(3))
    second = program(numpy.ones(3))
    numpy.testing.assert_array_equal(first, [1, 1, 1])
    third = program(numpy.full(3, 2.0))
    assert third is first
    numpy.testing.assert_array_equal(second, [2, 2, 2])


def test_an_older_result_may_be_an_argument_again() -> None:
    # its memory is the memory of this run's result: it must be read before it is written
    program = static(lambda a: (a + 1, a[::-1] * a))(numpy.zeros(3))
    first = program(numpy.array([1.0, 2.0, 3.0]))[0]
    program(first)
    plus, product = program(first)
    numpy.testing.assert_array_equal(plus, [3, 4, 5])
    numpy.testing.assert_array_equal(product, [8, 9, 8])


def test_numbers_are_copies() -> None:
    program = static(np.sum)(numpy.zeros(3))
    values = [program(numpy.full(3, float(k))) for k in range(4)]
    assert values == [0, 3, 6, 9]


def test_memory_is_constant_and_no_array_is_allocated() -> None:
    params, x, y = example((64, 32, 10))
    program = static(step, donate=0)(params, x, y)
    working = copied(params)
    for _ in range(3):
        program(working, x, y)
    tracemalloc.start()
    try:
        for _ in range(10):
            program(working, x, y)
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for _ in range(200):
            program(working, x, y)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    smallest = 10 * 4  # bytes of the smallest array in the step
    assert after - before < smallest * 10
    assert peak - before < 4096  # the containers of the result; the activations have 5 KiB


def test_memory_is_less_than_all_values_need() -> None:
    params, x, y = example((64, 32, 10))
    program = static(step, donate=0)(params, x, y)
    everything = sum(node.size * node.dtype.itemsize for node in program.graph.nodes if node.inputs)
    assert program.nbytes < everything / 2


def test_the_program_can_be_read() -> None:
    text = str(static(lambda x, w: np.maximum(x @ w, 0))(numpy.ones((2, 3)), numpy.ones((3, 4))))
    assert "dot(i0, i1, b0)  # float64[2,4]" in text
    assert "maximum(b0, c0, out=o0)" in text


# --- arguments


class Layer(NamedTuple):
    W: Any
    b: Any


@dataclass
class Model:
    layers: Any
    scale: Any


def test_any_tree_goes_in_and_out() -> None:
    def f(model: Model, options: Any) -> Any:
        (layer,) = model.layers
        y = layer.W * model.scale + layer.b
        return {"model": Model([layer], model.scale), "y": (y, [options["shift"] + y], None)}

    model = Model([Layer(numpy.ones(2), numpy.zeros(2))], numpy.array(3.0))
    options = {"shift": numpy.array(1.0), "none": None}
    program = static(f)(model, options)
    expected, result = f(model, options), program(model, options)
    assert tree.flatten(result)[1] == tree.flatten(expected)[1]
    assert same(result, expected)
    assert same(program(model, {"none": None, "shift": 1.0}), expected)


def test_lists_numbers_and_other_types_are_converted() -> None:
    program = static(lambda x, rate: x * rate)(numpy.ones(2), 1.0)
    numpy.testing.assert_array_equal(program(numpy.array([1, 2]), 2), [2, 4])
    numpy.testing.assert_array_equal(
        program(numpy.array([1, 2], numpy.float32), numpy.float32(3)), [3, 6]
    )
    numpy.testing.assert_array_equal(program(numpy.arange(4.0)[::2], 1.0), [0, 2])


def test_arguments_that_do_not_fit() -> None:
    params, x, y = example()
    program = static(step, donate=0)(params, x, y)
    with pytest.raises(ShapeError, match=r"x must have the shape \(8, 7\), not \(9, 7\)"):
        program(params, numpy.ones((9, 7)), y)
    with pytest.raises(ShapeError, match="params must have 3 elements, not 2"):
        program(params[:2], x, y)
    with pytest.raises(TraceError, match=r"params\[0\]\[0\] is donated: it must be float32\[7,6\]"):
        program(copied(example(dtype=float)[0]), x, y)
    with pytest.raises(TypeError, match="positional argument"):
        program(params, x)
    with pytest.raises(TypeError, match="Cannot cast"):
        static(lambda k: k + 1)(numpy.ones(2, int))(numpy.ones(2))
    scalar = static(lambda x: x + 1, donate=0)(1.0)
    with pytest.raises(TraceError, match=r"x is donated: it must be an array, not 1\.0"):
        scalar(1.0)
    with pytest.raises(TraceError, match="a and b are the same array, and it is donated"):
        static(lambda a, b: a + b, donate=0)(x, x.copy())(x, x)
    with pytest.raises(TraceError, match="donate names argument 3 of step, which has 3 arguments"):
        static(step, donate=3)(params, x, y)
    with pytest.raises(TraceError, match="cannot become a numpy array"):
        grad(lambda x: np.sum(static(np.exp)(numpy.ones(2))(x)))(numpy.ones(2))


# --- every primitive, and random graphs

A = numpy.array([[0.5, -1.25, 2.0], [1.5, 0.75, -0.5]])
B = numpy.array([[1.0, 2.0, -1.0], [0.5, -2.0, 3.0], [-0.75, 0.25, 1.25]])

FUNCTIONS: dict[str, Any] = {
    "powers": lambda x: [x**n for n in (0, 1, 2, 3, -1, -2)] + [abs(x) ** 0.5],
    "unary": lambda x: [np.exp(x), np.tanh(x), np.sin(x), np.cos(x), np.expm1(x), -x, abs(x)],
    "positive": lambda x: [np.log(x * x), np.log1p(x * x), np.sqrt(x * x), np.sign(x)],
    "binary": lambda x: [x + 1, x - A, A / x, np.power(x * x, x), np.minimum(x, A[0])],
    "compare": lambda x: [
        x > 0,
        x >= 0,
        x < 0,
        x <= 0,
        x == A,
        x != 0,
        ~(x > 0),
        (x > 0) & (x < 1),
    ],
    "where": lambda x: [np.where(x > 0, x, 0.0), np.where(A > 0, 1.0, x[0])],
    "sum": lambda x: [np.sum(x), np.sum(x, 0), np.sum(x, 1, keepdims=True), np.mean(x)],
    "extreme": lambda x: [np.max(x, 0), np.min(x), np.argmax(x, 1), np.argmin(x)],
    "products": lambda x: [x @ B, x.T @ x, x @ x.T, x[0] @ B, np.einsum("ij,kj->ik", x, x)],
    "moves": lambda x: [x.T, x.reshape(3, 2), x.T.reshape(2, 3), x.T.reshape(6).T, x[:, ::-1]],
    "copies of moves": lambda x: [(x + 1).T.reshape(2, 3), np.broadcast_to(x[0], (4, 3)), x[None]],
    "join": lambda x: [np.concatenate([x, A, x], 1), np.stack([x, 2 * x])],
    "gather": lambda x: [x[[1, 0, 0]], x[[0, 1], [2, 2]], x[A > 0]],
    "same twice": lambda x: [x, x, x + 1, x + 1, 3.0, A],
    "derivatives": lambda x: [
        grad(lambda x: np.sum(x[[0, 0, 1]] ** 2))(x),
        grad(lambda x: np.sum(x[:, 1] ** 2))(x),
        grad(lambda x: np.sum(np.max(x, 1) * np.min(x, 0)[0]))(x),
        grad(lambda x: np.sum(np.logsumexp(x, 1)))(x),
    ],
    "astype": lambda x: [np.astype(x, np.float32), np.astype(x * 10, np.int32)],
    "constant": lambda x: [np.exp(numpy.ones((2, 2))), x * 0],
}


@pytest.mark.parametrize("donate", [(), 0])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_primitive_is_executed(name: str, donate: Any) -> None:
    function = FUNCTIONS[name]
    expected = function(A)
    program = static(function, donate=donate)(A)
    for _ in range(3):
        result = program(A.copy())
        for mine, theirs in zip(result, expected, strict=True):
            assert mine.dtype == numpy.asarray(theirs).dtype
            numpy.testing.assert_allclose(mine, theirs, rtol=1e-15)


operations = st.sampled_from([
    "+",
    "-",
    "*",
    "relu",
    "exp",
    "sum",
    "T",
    "@",
    "neg",
    "mask",
    "slice",
    "flat",
    "half",
])


@given(st.lists(operations, max_size=14), st.integers(0, 2**32 - 1), st.booleans())
def test_random_graphs_keep_their_numbers(program: list[str], seed: int, donate: bool) -> None:
    rng = numpy.random.default_rng(seed)
    picks = rng.integers(0, 100, (len(program), 2))

    def function(x: Any, y: Any) -> Any:
        values = [x, y]
        for name, (i, j) in zip(program, picks, strict=True):
            a, b = values[i % len(values)], values[j % len(values)]
            match name:
                case "+":
                    new = a + b
                case "-":
                    new = a - 0.5 * b
                case "*":
                    new = a * b
                case "relu":
                    new = np.maximum(a, 0)
                case "exp":
                    new = np.exp(-np.abs(a))
                case "sum":
                    new = np.sum(a, axis=0, keepdims=True) * b
                case "T":
                    new = a.T
                case "@":
                    new = a @ b
                case "neg":
                    new = -(2.0 * a)
                case "mask":
                    new = a * (b > 0)
                case "slice":
                    new = a[::-1, ::-1]
                case "flat":
                    new = a.T.reshape(9).reshape(3, 3)
                case _:
                    new = 0.5 * (0.3 * a)
            values.append(new)
        return values[-3:], np.sum(values[-1])

    def derived(x: Any, y: Any) -> Any:
        values, gradient = value_and_grad(lambda x: tuple(function(x, y))[::-1], has_aux=True)(x)
        return x - 0.25 * gradient, values

    x, y = rng.standard_normal((2, 3, 3)) / 2
    expected = derived(x, y)
    planned = static(derived, donate=(0, 1) if donate else ())(x, y)
    with numpy.errstate(over="ignore", invalid="ignore"):
        for _ in range(2):
            result = planned(x.copy(), y.copy())
            for mine, theirs in zip(
                tree.flatten(result)[0], tree.flatten(expected)[0], strict=True
            ):
                numpy.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-9)


# --- fusion


def fused(function: Any, *args: Any) -> dict[str, int]:
    graph = simplify(trace(function, *args))
    result = fuse(graph)
    assert same(result(*args), graph(*args))
    return result.count()


def test_what_fuses() -> None:
    assert fused(lambda x: 0.5 * (3.0 * x), A) == {"multiply": 1}
    assert fused(lambda x: 0.3 * (3.0 * x), A) == {"multiply": 2}  # rounding would differ
    assert fused(lambda x: 2.0**-1000 * (2.0**-500 * x), A) == {"multiply": 2}  # it would underflow
    assert fused(lambda x: -(3.0 * x), A) == {"multiply": 1}
    assert fused(lambda x: (3.0 * nn.relu(x)) * (x > 0), A) == {"maximum": 1, "multiply": 1}
    assert fused(lambda x: (3.0 * nn.relu(x)) * (x > 1), A)["greater"] == 1
    assert fused(lambda x: np.maximum(x, 1) * (x > 0), A)["greater"] == 1


def test_the_step_fuses_to_what_one_writes_by_hand() -> None:
    params, x, y = example((7, 5, 4))
    graph = fuse(simplify(trace(lambda p: step(p, x, y)[0], params)))
    operations = {name: n for name, n in graph.count().items() if name != "transpose"}
    # by hand: 5 products, 2 biases, 2 relus, 1 mask and its product, 2 bias sums,
    # 4 for the margin and its derivative with every factor, 4 for the update
    assert sum(operations.values()) == 21
    assert operations["greater"] == 1


def test_one_power_of_two_is_carried_to_the_error() -> None:
    def update(rate: float) -> Any:
        def apply(W: Any, V: Any, x: Any) -> Any:
            loss = lambda W, V: np.sum(np.tanh(np.tanh(x @ W) @ V) ** 3)  # noqa: E731
            dW, dV = grad(loss, (0, 1))(W, V)
            return W - rate * dW, V - rate * dV

        return apply

    rng = numpy.random.default_rng(0)
    args = rng.standard_normal((3, 4, 4))
    scaled = [fused(update(rate), *args)["multiply"] for rate in (0.125, 0.1)]
    assert scaled[0] == scaled[1] - 2  # both join the 3 of the cube; 0.1 would round differently


def test_a_scalar_is_not_carried_past_a_value_that_is_returned() -> None:
    def f(W: Any, x: Any) -> Any:
        gradient = grad(lambda W: np.sum(np.tanh(x @ W) ** 2))(W)
        return W - 0.25 * gradient, gradient

    rng = numpy.random.default_rng(0)
    fused(f, *rng.standard_normal((2, 3, 3)))
