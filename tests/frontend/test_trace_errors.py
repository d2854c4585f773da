"""Every refusal of the autodiff frontend, by its message."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy
import pytest

import siligrad.numpy as np
from siligrad.autodiff import Graph, grad, jvp, primitives, register, trace, value_and_grad, vjp
from siligrad.autodiff.graph import Node
from siligrad.errors import GraphError, ShapeError, SiligradError, TraceError


def test_errors_are_what_python_calls_them() -> None:
    assert issubclass(ShapeError, ValueError)
    assert issubclass(TraceError, TypeError)
    assert issubclass(ShapeError, SiligradError)


def refuse(function: Any, message: str, error: type[Exception] = TraceError, at: Any = 1.5) -> str:
    """Both `grad` and `trace` must refuse, with the same message and the user's line."""
    texts = []
    for transformation in (lambda: grad(function)(at), lambda: trace(function, at)):
        with pytest.raises(error, match=message) as caught:
            transformation()
        texts.append(str(caught.value))
    return texts[0]


def test_an_if_on_a_traced_value() -> None:
    text = refuse(
        lambda x: x if x > 0 else -x,
        r"the truth of a traced value of shape \(\) \(from 'greater'\) is not known.*where\(",
    )
    assert "test_trace_errors.py:" in text
    assert "lambda x: x if x > 0 else -x," in text


@pytest.mark.parametrize(
    "call", [lambda x: np.sum(x) and 1.0, lambda x: not x, lambda x: 1.0 in [x]]
)
def test_other_uses_of_truth(call: Any) -> None:
    refuse(call, "the truth of a traced value", at=numpy.ones(2))


@pytest.mark.parametrize(
    "call",
    [
        float,
        int,
        complex,
        range,
        lambda x: x.item(),
        lambda x: [1.0, 2.0][x],
    ],
)
def test_a_number_of_a_traced_value(call: Any) -> None:
    refuse(call, r"a traced value of shape \(\) \(from 'input'\) has no number yet.*has_aux=True")


def test_an_assignment_to_an_element() -> None:
    def f(x: Any) -> Any:
        x[0] = 1.0
        return x

    refuse(f, "a traced value cannot be written in place.*concatenate or stack", at=numpy.ones(2))


def test_an_in_place_operator_on_an_array_of_numpy() -> None:
    def f(x: Any) -> Any:
        total = numpy.zeros(2)
        total += x
        return total

    refuse(f, r"write `x = x \+ y`, not `x \+= y`", at=numpy.ones(2))


def test_a_traced_value_stored_in_an_array_of_numpy() -> None:
    def f(x: Any) -> Any:
        total = numpy.zeros(2)
        total[0] = x
        return total

    # numpy puts an error of its own before ours
    for transformation in (grad(f), lambda x: trace(f, x)):
        with pytest.raises(ValueError, match="setting an array element") as caught:
            transformation(1.5)
        assert "keep it an array" in str(caught.value.__cause__)
    refuse(numpy.array, "cannot become a numpy array.*siligrad.numpy")


def test_an_in_place_operator_on_a_traced_value_rebinds_it() -> None:
    def f(x: Any) -> Any:
        y = x
        y += x
        return y

    assert grad(f)(2.0) == 2.0


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (numpy.sinh, "sinh"),
        (numpy.linalg.det, r"linalg\.det"),
        (numpy.add.accumulate, r"add\.accumulate"),
        (numpy.cumsum, "cumsum"),
    ],
)
def test_a_numpy_function_without_namesake(call: Any, name: str) -> None:
    message = (
        f"numpy.{name} cannot take a traced value and siligrad.numpy has no {name}.*register it"
    )
    refuse(call, message, at=numpy.ones((2, 2)))


def test_an_option_that_the_namesake_does_not_have() -> None:
    refuse(
        lambda x: numpy.sum(x, dtype=numpy.float32),
        r"siligrad\.numpy\.sum: .*unexpected keyword argument 'dtype'",
        at=numpy.ones(2),
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: x @ numpy.ones((4, 2)), r"matmul of shapes \(2, 3\) and \(4, 2\): .*\(k, n\)"),
        (
            lambda x: x + numpy.ones(2),
            r"add of shapes \(2, 3\) and \(2,\): the shapes must be equal",
        ),
        (lambda x: x.reshape(5), r"reshape of shape \(2, 3\): the number of elements"),
        (lambda x: x.sum(axis=2), r"sum over axis 2 of an array of shape \(2, 3\): .*no such axis"),
        (lambda x: x[7], r"index of shape \(2, 3\): index 7 is out of bounds"),
        (lambda x: np.concatenate([x, x.T]), r"concatenate of shapes \(2, 3\) and \(3, 2\)"),
        (lambda x: np.einsum("ij,ij->i", x, x.T), r"einsum of shapes \(2, 3\) and \(3, 2\)"),
        (lambda x: np.squeeze(x, 0), r"squeeze of shape \(2, 3\) over axis 0: its size must be 1"),
        (lambda x: np.split(x, 2, axis=1), r"split of shape \(2, 3\) along axis 1 into 2 equal"),
        (lambda x: np.matmul(x, 2.0), r"matmul of shapes \(2, 3\) and \(\): use \*"),
        (lambda x: np.broadcast_to(x, (3, 3)), r"broadcast_to of shape \(2, 3\)"),
    ],
)
def test_shapes_that_do_not_fit(call: Any, message: str) -> None:
    text = refuse(call, message, ShapeError, at=numpy.ones((2, 3)))
    assert re.search(r"test_trace_errors\.py:\d+: ", text)


def test_a_shape_error_outside_of_a_trace_is_the_same() -> None:
    with pytest.raises(ShapeError, match=r"tanh|add of shapes \(2,\) and \(3,\)"):
        np.add(numpy.ones(2), numpy.ones(3))


def test_a_gradient_of_what_is_no_scalar() -> None:
    def f(x: Any) -> Any:
        return x * 2

    with pytest.raises(ShapeError, match=r"grad needs a scalar, but f returns .* shape \(2,\)"):
        grad(f)(numpy.ones(2))
    with pytest.raises(ShapeError, match=r"returns \(\*, \*\): return one number \(has_aux=True"):
        grad(lambda x: (x, x))(1.0)
    with pytest.raises(
        TraceError, match=r"grad needs a floating-point scalar, but .* returns bool"
    ):
        grad(lambda x: x > 0)(1.0)


def test_a_gradient_by_integers() -> None:
    with pytest.raises(
        TraceError, match=r"with respect to x \(leaf 0\): it has the type int64.*1\.0"
    ):
        grad(lambda x: x**2)(3)


def test_argnums_outside_of_the_arguments() -> None:
    with pytest.raises(TraceError, match=r"argnums names argument 2 of .*called with 1 positional"):
        grad(lambda x: x, 2)(1.0)


def test_a_function_without_result() -> None:
    with pytest.raises(TraceError, match=r"(returned None|must return arrays, not None)"):
        trace(lambda x: None, 1.0)
    with pytest.raises(ShapeError, match="returns None"):
        grad(lambda x: None)(1.0)


def test_a_result_that_is_no_array() -> None:
    with pytest.raises(TraceError, match="must return arrays, not 'text'"):
        trace(lambda x: "text", 1.0)


def test_aux_that_is_missing() -> None:
    with pytest.raises(TraceError, match=r"with has_aux=True .* must return \(result, aux\)"):
        value_and_grad(lambda x: x, has_aux=True)(1.0)


def test_a_traced_value_that_escaped() -> None:
    kept: list[Any] = []

    def f(x: Any) -> Any:
        kept.append(x * 2)
        return x

    grad(f)(1.0)
    with pytest.raises(TraceError, match="escaped from the function it was traced in"):
        kept[0] + 1
    with pytest.raises(TraceError, match="escaped"):
        grad(lambda x: x * kept[0])(1.0)
    trace(f, 1.0)
    with pytest.raises(TraceError, match=r"made at .*test_trace_errors\.py:\d+"):
        kept[-1] + 1


def test_a_mask_as_an_index() -> None:
    refuse(lambda x: x[x > 0], "a traced mask cannot index.*where", at=numpy.ones(3))
    refuse(lambda x: x[1.5], "an index must be integers", at=numpy.ones(3))


def test_operands_that_are_no_numbers() -> None:
    refuse(lambda x: x + "text", r"'text' \(str\) is not an array of real numbers")
    refuse(lambda x: x * 1j, r"1j \(complex\) is not an array of real numbers")


def test_tangents_and_cotangents_of_other_shapes() -> None:
    with pytest.raises(ShapeError, match=r"tangent must have the shape \(2,\), not \(3,\)"):
        jvp(np.tanh, (numpy.ones(2),), (numpy.ones(3),))
    with pytest.raises(ShapeError, match="jvp of 1 arguments got 2 tangents"):
        jvp(np.tanh, (1.0,), (1.0, 1.0))
    with pytest.raises(TraceError, match="jvp takes a tuple"):
        jvp(np.tanh, 1.0, 1.0)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"cotangent\['a'\] must have the shape \(\), not \(2,\)"):
        vjp(lambda x: {"a": x}, 1.0)[1]({"a": numpy.ones(2)})


def test_a_trace_inside_a_transformation() -> None:
    with pytest.raises(TraceError, match="call trace outside of transformations"):
        grad(lambda x: trace(np.tanh, x))(1.0)
    with pytest.raises(TraceError, match="call trace outside"):
        grad(lambda x: trace(lambda y: x * y, 1.0))(1.0)


def test_an_example_that_is_no_array() -> None:
    with pytest.raises(TraceError, match=r"options\['name'\] must be an array of real numbers"):
        trace(lambda options: options["x"], {"x": 1.0, "name": "text"})


def test_a_rule_that_returns_another_shape() -> None:
    try:
        bad = register("bad_shape", numpy.tanh, vjp=lambda g, out, x: g.sum())
        with pytest.raises(ShapeError, match=r"the vjp rule of bad_shape returned .* shape \(\)"):
            grad(lambda x: np.sum(bad(x)))(numpy.ones(2))
    finally:
        del primitives["bad_shape"]


def test_a_len_of_no_dimensions() -> None:
    refuse(len, "without dimensions has no len")


def test_graphs_that_break_their_rules() -> None:
    graph = trace(lambda x, y: x * y + 1, numpy.ones(2), numpy.ones(2))
    multiply, add = [node for node in graph.nodes if node.inputs]

    def broken(**changes: Any) -> Graph:
        return replace(graph, **changes)

    with pytest.raises(GraphError, match="which does not come before it"):
        broken(nodes=(*graph.nodes[:2], add, multiply)).check()
    with pytest.raises(GraphError, match="occurs twice"):
        broken(nodes=(*graph.nodes, multiply)).check()
    with pytest.raises(GraphError, match="not in the graph"):
        broken(nodes=graph.nodes[:-1]).check()
    odd = Node("odd", (graph.inputs[0],))
    with pytest.raises(GraphError, match="unknown primitive"):
        broken(nodes=(*graph.nodes, odd)).check()
    wrong = Node("negative", (graph.inputs[0],), shape=(3,))
    with pytest.raises(GraphError, match=r"gives float64\[2\]"):
        broken(nodes=(*graph.nodes, wrong)).check()
    with pytest.raises(GraphError, match="2 outputs cannot fill"):
        broken(outputs=(add, add)).check()
    with pytest.raises(GraphError, match="do not cover the inputs"):
        broken(arguments=graph.arguments[:1]).check()


def test_arrays_that_do_not_fit_a_graph() -> None:
    graph = trace(lambda params, y: params["a"] * y, {"a": numpy.ones(2)}, 1.0)
    with pytest.raises(ShapeError, match=r"has 2 inputs, got 1 arrays"):
        graph.evaluate(numpy.ones(2))
    with pytest.raises(ShapeError, match=r"params\['a'\] must have the shape \(2,\), not \(3,\)"):
        graph.evaluate(numpy.ones(3), 1.0)
    with pytest.raises(ShapeError, match=r"params must have the keys \('a',\)"):
        graph({"b": numpy.ones(2)}, 1.0)
    with pytest.raises(ShapeError, match="takes 2 arguments, got 1"):
        graph({"a": numpy.ones(2)})
    with pytest.raises(TypeError, match="Cannot cast"):
        trace(lambda k: k + 1, 1).evaluate(1.5)
