"""Graphs: what is recorded, what a node says, and what simplification keeps."""

from __future__ import annotations

import inspect
import itertools
from typing import Any, NamedTuple

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import siligrad.numpy as np
from siligrad import tree
from siligrad.autodiff import Graph, Node, grad, jvp, simplify, stop_gradient, trace, value_and_grad

RATE = 2**-6


def predict(params: Any, x: Any) -> Any:
    for W, b in params[:-1]:
        x = np.maximum(x @ W + b, 0)
    W, b = params[-1]
    return x @ W + b


def loss(params: Any, x: Any, y: Any) -> Any:
    margin = np.maximum(1 - y * predict(params, x), 0)
    return np.mean(np.sum(margin**2, axis=1))


def step(params: Any, x: Any, y: Any) -> Any:
    grads = grad(loss)(params, x, y)
    return [(W - RATE * dW, b - RATE * db) for (W, b), (dW, db) in zip(params, grads, strict=True)]


def example(sizes: tuple[int, ...] = (6, 5, 4, 3), dtype: Any = float) -> tuple[Any, Any, Any]:
    rng = numpy.random.default_rng(0)
    params = [
        (rng.standard_normal((m, n)).astype(dtype), rng.standard_normal(n).astype(dtype))
        for m, n in itertools.pairwise(sizes)
    ]
    x = rng.standard_normal((16, sizes[0])).astype(dtype)
    y = numpy.sign(rng.standard_normal((16, sizes[-1]))).astype(dtype)
    return params, x, y


def same(a: Any, b: Any) -> bool:
    pairs = zip(tree.flatten(a)[0], tree.flatten(b)[0], strict=True)
    return all(x.dtype == y.dtype and x.tobytes() == y.tobytes() for x, y in pairs)


# --- the training step of the design


@pytest.mark.parametrize("dtype", [numpy.float32, numpy.float64])
def test_the_graph_of_a_step_computes_the_step_to_the_last_bit(dtype: Any) -> None:
    args = example(dtype=dtype)
    expected = step(*args)
    graph = trace(step, *args)
    assert same(graph(*args), expected)
    assert same(simplify(graph)(*args), expected)


def test_the_step_of_a_perceptron_is_small() -> None:
    # The products of the design's section 3, and around them only what a step needs.
    graph = simplify(trace(step, *example((6, 4, 3))))
    assert graph.count() == {
        "multiply": 10,
        "matmul": 5,
        "subtract": 5,
        "transpose": 3,
        "add": 2,
        "maximum": 2,
        "greater": 2,
        "sum": 2,
        "negative": 1,
    }
    constants = [node for node in graph.nodes if node.primitive == "constant"]
    assert all(node.shape == () for node in constants)


def test_inputs_are_named_as_python_reaches_them() -> None:
    graph = trace(step, *example((6, 4, 3)))
    names = ["params[0][0]", "params[0][1]", "params[1][0]", "params[1][1]", "x", "y"]
    assert [node.name for node in graph.inputs] == names
    assert [argument.name for argument in graph.arguments] == ["params", "x", "y"]
    assert [argument.slice for argument in graph.arguments] == [
        slice(0, 4),
        slice(4, 5),
        slice(5, 6),
    ]
    assert str(graph.out_tree) == "[(*, *), (*, *)]"


def test_a_backward_node_has_the_line_of_its_forward_node() -> None:
    graph = trace(step, *example((6, 4, 3)))
    lines, start = inspect.getsourcelines(loss)
    margin_line = start + next(k for k, line in enumerate(lines) if "margin = " in line)
    forward = [n for n in graph.nodes if n.primitive == "maximum" and not n.backward]
    assert [n.source.line for n in forward if n.source][-1] == margin_line
    masks = [n for n in graph.nodes if n.primitive == "greater"]
    assert all(n.backward for n in masks)
    assert margin_line in {n.source.line for n in masks if n.source}
    updates = [n for n in graph.nodes if n.primitive == "subtract" and n in graph.outputs]
    assert len(updates) == 4
    assert not any(n.backward for n in updates)
    assert all(n.source and "W - RATE * dW" in n.source.code for n in updates)


def test_a_relu_is_one_maximum_with_a_scalar_and_its_mask_one_product() -> None:
    graph = trace(grad(lambda x: np.sum(np.maximum(x, 0))), numpy.ones((2, 3)))
    forward = next(n for n in graph.nodes if n.primitive == "maximum")
    assert forward.inputs[1].shape == ()
    assert forward.inputs[1].value == 0
    mask = next(n for n in graph.nodes if n.primitive == "greater")
    assert mask.inputs[0] is graph.inputs[0]
    product = simplify(graph).outputs[0]
    assert product.primitive == "multiply"
    assert product.inputs[1].primitive == "greater"


# --- what a graph says


def test_text_has_a_line_for_each_operation() -> None:
    def f(x: Any) -> Any:
        return {"y": np.sum(x * 2.0, axis=0)}

    text = str(trace(f, numpy.ones((2, 3))))
    first, *body, last = text.split("\n")
    assert first == "f(x: float64[2,3]):"
    assert body[0].startswith("  %0 = multiply(x, 2.0) ")
    assert body[1].startswith(
        "  %1 = sum(%0, axis=(0,), keepdims=False)  float64[3]  # test_graph.py:"
    )
    assert last == "  return {'y': %1}"


def test_values_has_every_node() -> None:
    graph = trace(lambda x: np.exp(x) + 1, 0.0)
    values = graph.values(1.0)
    assert set(values) == set(graph.nodes)
    assert values[graph.outputs[0]] == numpy.e + 1
    assert all(isinstance(value, numpy.ndarray) for value in values.values())


def test_constants_are_copies_that_cannot_be_written() -> None:
    weights = numpy.ones(3)
    graph = trace(lambda x: x * weights, numpy.ones(3))
    weights[:] = 5
    node = next(node for node in graph.nodes if node.primitive == "constant")
    assert node.value is not None
    numpy.testing.assert_array_equal(node.value, [1, 1, 1])
    assert not node.value.flags.writeable


def test_a_python_number_takes_the_type_of_the_operation() -> None:
    x = numpy.ones(2, numpy.float32)
    graph = trace(lambda x: np.where(x > 0, x * 0.1, 0), x)
    constants = [node for node in graph.nodes if node.primitive == "constant"]
    assert [node.dtype for node in constants] == [numpy.float32] * 3
    assert graph.outputs[0].dtype == numpy.float32


def test_an_array_used_twice_is_one_constant() -> None:
    c = numpy.ones(3)
    graph = trace(lambda x: x * c + c, numpy.ones(3))
    assert len([node for node in graph.nodes if node.primitive == "constant"]) == 1


def test_results_may_be_inputs_constants_and_repeated() -> None:
    graph = trace(lambda x: (x, x, 2.0, numpy.ones(2)), 1.0)
    a, b, c, d = graph(5.0)
    assert (a, b, c) == (5.0, 5.0, 2.0)
    numpy.testing.assert_array_equal(d, [1, 1])
    assert simplify(graph)(3.0)[0] == 3.0


def test_integers_and_booleans_can_be_inputs() -> None:
    graph = trace(lambda x, k, m: np.where(m, x[k], 0.0), numpy.ones(3), numpy.array([0, 2]), True)
    assert [node.dtype.kind for node in graph.inputs] == ["f", "i", "b"]
    numpy.testing.assert_array_equal(
        graph(numpy.array([1.0, 2.0, 3.0]), numpy.array([2, 0]), True), [3, 1]
    )


def test_variadic_and_unnamed_arguments_have_names() -> None:
    assert [n.name for n in trace(lambda *xs: xs[0], 1.0, 2.0).inputs] == ["xs[0]", "xs[1]"]
    assert [n.name for n in trace(np.tanh, 1.0).inputs] == ["operands[0]"]


class Model(NamedTuple):
    W: Any
    b: Any


def test_named_tuples_and_dicts_as_arguments() -> None:
    graph = trace(lambda m, o: m.W * o["rate"] + m.b, Model(numpy.ones(2), 1.0), {"rate": 2.0})
    assert [node.name for node in graph.inputs] == ["m.W", "m.b", "o['rate']"]
    numpy.testing.assert_array_equal(graph(Model(numpy.array([1, 2]), 3), {"rate": 10}), [13, 23])


def test_derivatives_of_any_kind_can_be_traced() -> None:
    f = lambda x: np.sum(np.tanh(x) ** 3)  # noqa: E731
    x = numpy.array([0.3, -0.2])
    derivatives: list[Any] = [
        grad(f),
        grad(lambda x: np.sum(grad(f)(x))),
        lambda x: jvp(f, (x,), (x,))[1],
        value_and_grad(f),
        lambda x: jvp(grad(f), (x,), (x,))[1],
    ]
    for derived in derivatives:
        graph = trace(derived, x)
        assert same(graph(x), derived(x))
        assert same(simplify(graph)(x), derived(x))


def test_lines_are_not_recorded_outside_of_a_trace() -> None:
    seen: list[Any] = []

    def f(x: Any) -> Any:
        seen.append(x * 2)
        return x

    grad(f)(1.0)
    assert seen[0].source is None
    trace(f, 1.0)
    assert seen[1].source is not None


# --- simplification


def simplified(function: Any, *args: Any) -> Graph:
    graph = trace(function, *args)
    result = simplify(graph)
    assert same(result(*args), graph(*args))
    return result


X = numpy.array([[1.0, -2.0, 0.5], [3.0, 0.25, -1.0]])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * 1,
        lambda x: 1 * x,
        lambda x: x / 1,
        lambda x: x + 0,
        lambda x: 0 + x,
        lambda x: x - 0,
        lambda x: x**1,
        lambda x: np.negative(-x),
        lambda x: x.T.T,
        lambda x: x.reshape(3, 2).reshape(2, 3),
        lambda x: np.broadcast_to(x, (2, 3)),
        lambda x: np.sum(x, axis=()),
        lambda x: np.astype(x, float),
        stop_gradient,
        lambda x: x * (numpy.ones(3) * 1.0),
        lambda x: x * (np.exp(np.zeros(())) + 0),
    ],
)
def test_what_changes_nothing_disappears(function: Any) -> None:
    graph = simplified(function, X)
    assert graph.outputs == graph.inputs


@pytest.mark.parametrize(
    ("function", "count"),
    [
        (lambda x: x + numpy.zeros((4, 2, 3)), {"add": 1}),  # it broadcasts
        (lambda x: x * numpy.float32(1), {}),
        (lambda x: (x @ x.T) + (x @ x.T), {"matmul": 1, "transpose": 1, "add": 1}),
        (lambda x: x * 2 + 2 * x, {"multiply": 1, "add": 1}),
        (lambda x: (x - 2) + (2 - x), {"subtract": 2, "add": 1}),
        (lambda x: x * np.sum(numpy.ones(3)) * 2, {"multiply": 2}),
        (lambda x: (x.T + 1).T, {"transpose": 2, "add": 1}),
        (lambda x: np.transpose(x.reshape(1, 2, 3), (2, 0, 1)).transpose(1, 2, 0), {"reshape": 1}),
        (lambda x: np.maximum(x, np.broadcast_to(0.0, (2, 3))), {"maximum": 1}),
        (lambda x: (np.exp(x), np.tanh(x))[0], {"exp": 1}),
    ],
)
def test_what_is_left(function: Any, count: dict[str, int]) -> None:
    assert simplified(function, X).count() == count


def test_unused_inputs_stay() -> None:
    graph = simplified(lambda x, y: y * 2, 1.0, 2.0)
    assert [node.name for node in graph.inputs] == ["x", "y"]


def test_simplified_nodes_keep_their_lines_and_their_order() -> None:
    graph = simplified(step, *example((6, 4, 3)))
    assert all(node.source for node in graph.nodes if node.inputs)
    where = {node: k for k, node in enumerate(graph.nodes)}
    assert all(where[operand] < where[node] for node in graph.nodes for operand in node.inputs)
    products = [n.backward for n in graph.nodes if n.primitive == "matmul"]
    assert products == [False, False, True, True, True]


def test_simplification_is_done_after_one_pass() -> None:
    once = simplify(trace(step, *example()))
    assert str(simplify(once)) == str(once)


operations = st.sampled_from(["+", "-", "*", "max", "exp", "sum", "T", "cast", "neg", "mask"])


@given(st.lists(operations, max_size=12), st.integers(0, 2**32 - 1))
def test_random_graphs_keep_their_bits(program: list[str], seed: int) -> None:
    rng = numpy.random.default_rng(seed)
    picks = rng.integers(0, 100, (len(program), 2))
    numbers = rng.choice([0.0, 1.0, -1.0, 2.0, 0.5], len(program))

    def function(x: Any) -> Any:
        values = [x]
        for name, (i, j), number in zip(program, picks, numbers, strict=True):
            a, b = values[i % len(values)], values[j % len(values)]
            match name:
                case "+":
                    values.append(a + b if j % 3 else a + float(number))
                case "-":
                    values.append(a - b if j % 3 else float(number) - a)
                case "*":
                    values.append(a * b if j % 3 else a * float(number))
                case "max":
                    values.append(np.maximum(a, b if j % 2 else float(number)))
                case "exp":
                    values.append(np.exp(-np.abs(a)))
                case "sum":
                    values.append(np.sum(a, axis=0, keepdims=True) + numpy.zeros((3, 3)))
                case "T":
                    values.append(a.T)
                case "cast":
                    values.append(np.broadcast_to(np.sum(a), (3, 3)))
                case "neg":
                    values.append(-a)
                case _:
                    values.append(a * (b > 0))
        return np.sum(values[-1]), values[-1]

    x = rng.standard_normal((3, 3)) / 4
    derived = value_and_grad(function, has_aux=True)
    graph = trace(derived, x)
    with numpy.errstate(over="ignore", invalid="ignore"):
        mine, theirs = tree.flatten(simplify(graph)(x))[0], tree.flatten(derived(x))[0]
    for a, b in zip(mine, theirs, strict=True):
        if "T" in program:  # numpy may sum in another order
            numpy.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
        else:
            numpy.testing.assert_array_equal(a, b)


def test_a_node_is_compared_by_identity() -> None:
    graph = trace(lambda x: x + x, 1.0)
    assert isinstance(graph.nodes[0], Node)
    assert len(set(graph.nodes)) == len(graph.nodes)
    assert repr(graph.inputs[0]) == "<input x float64[]>"
