"""Transformations: composition, trees, arguments, and functions with known derivatives."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any, NamedTuple

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import siligrad.numpy as np
from siligrad import tree
from siligrad.autodiff import (
    check_grads,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    primitives,
    register,
    stop_gradient,
    trace,
    value_and_grad,
    vjp,
)
from siligrad.errors import GradientError


def tanh(x: Any) -> Any:
    return (1.0 - np.exp(-2.0 * x)) / (1.0 + np.exp(-2.0 * x))


@given(st.floats(-3, 3))
def test_the_lectures_tanh_has_its_derivatives(x: float) -> None:
    y = numpy.tanh(x)
    first = 1 - y**2
    second = -2 * y * first
    third = -2 * (first**2 + y * second)
    assert grad(tanh)(x) == pytest.approx(first, abs=1e-12)
    assert grad(grad(tanh))(x) == pytest.approx(second, abs=1e-12)
    assert grad(grad(grad(tanh)))(x) == pytest.approx(third, abs=1e-11)


@given(st.integers(1, 7), st.floats(0.5, 2))
def test_a_derivative_of_any_order_of_a_power(order: int, x: float) -> None:
    function: Any = lambda x: x**6  # noqa: E731
    expected = 1.0
    for k in range(order):
        function = grad(function)
        expected *= 6 - k
    assert function(x) == pytest.approx(expected * x ** max(6 - order, 0), rel=1e-12)


def test_modes_nest_in_every_order() -> None:
    f = lambda x: np.sin(x) * np.exp(x)  # noqa: E731
    second = 2 * numpy.cos(0.7) * numpy.exp(0.7)

    def forward(function: Any) -> Any:
        return lambda x: jvp(function, (x,), (1.0,))[1]

    for outer in (grad, forward):
        for inner in (grad, forward):
            assert outer(inner(f))(0.7) == pytest.approx(second, rel=1e-13)


def test_an_inner_derivative_may_depend_on_an_outer_variable() -> None:
    # d/dx [ x * d/dy (x * y) ] = d/dx x**2: perturbations must not be confused
    def outer(x: Any) -> Any:
        return x * grad(lambda y: x * y)(1.0)

    assert grad(outer)(3.0) == 6.0
    assert jvp(outer, (3.0,), (1.0,))[1] == 6.0
    assert jvp(lambda x: x * jvp(lambda y: x + y, (1.0,), (1.0,))[1], (2.0,), (1.0,))[1] == 1.0


class Layer(NamedTuple):
    W: Any
    b: Any


def test_a_gradient_is_a_tree_like_its_argument() -> None:
    params = {"hidden": Layer(numpy.ones((2, 3)), numpy.zeros(3)), "scale": [(2.0,), None]}

    def loss(params: Any) -> Any:
        layer = params["hidden"]
        return np.sum(numpy.ones((4, 2)) @ layer.W + layer.b) * params["scale"][0][0]

    gradient = grad(loss)(params)
    assert tree.flatten(gradient)[1] == tree.flatten(params)[1]
    numpy.testing.assert_array_equal(gradient["hidden"].W, numpy.full((2, 3), 8.0))
    numpy.testing.assert_array_equal(gradient["hidden"].b, numpy.full(3, 8.0))
    assert gradient["scale"][0][0] == 24.0


def test_argnums_chooses_arguments() -> None:
    f = lambda a, b, c: a * b + c  # noqa: E731
    assert grad(f, 1)(2.0, 3.0, 4.0) == 2.0
    assert grad(f, (0, 2))(2.0, 3.0, 4.0) == (3.0, 1.0)
    assert grad(f, -1)(2.0, 3.0, 4.0) == 1.0


def test_keyword_arguments_are_passed_on() -> None:
    assert grad(lambda x, power: x**power)(3.0, power=2) == 6.0


def test_aux_comes_back_as_plain_arrays() -> None:
    def f(x: Any) -> Any:
        return np.sum(x**2), {"double": 2 * x, "text": "kept"}

    (value, aux), gradient = value_and_grad(f, has_aux=True)(numpy.array([1.0, 2.0]))
    assert value == 5.0
    assert type(aux["double"]) is numpy.ndarray
    numpy.testing.assert_array_equal(aux["double"], gradient)
    assert aux["text"] == "kept"
    gradient, aux = grad(f, has_aux=True)(numpy.array([1.0, 2.0]))
    numpy.testing.assert_array_equal(gradient, [2.0, 4.0])
    _, pullback, aux = vjp(f, numpy.array([1.0, 2.0]), has_aux=True)
    numpy.testing.assert_array_equal(pullback(1.0)[0], aux["double"])


def test_a_pullback_can_be_called_again() -> None:
    _, pullback = vjp(lambda x: x**2, numpy.array([1.0, 2.0]))
    first = pullback(numpy.array([1.0, 0.0]))[0]
    second = pullback(numpy.array([0.0, 1.0]))[0]
    numpy.testing.assert_array_equal(first + second, [2.0, 4.0])


def test_what_is_not_used_has_zero_derivative() -> None:
    assert grad(lambda x, y: y * 1.0)(2.0, 3.0) == 0.0
    assert grad(lambda x: 5.0)(2.0) == 0.0
    assert jvp(lambda x: 5.0, (2.0,), (1.0,)) == (5.0, 0.0)


def test_results_do_not_share_memory() -> None:
    a, b = numpy.ones(3), numpy.ones(3)
    da, db = grad(lambda a, b: np.sum(a + b), (0, 1))(a, b)
    da *= 2
    numpy.testing.assert_array_equal(db, [1, 1, 1])
    g = numpy.ones((2, 3))
    (dx,) = vjp(lambda x: x.T, numpy.ones((3, 2)))[1](g)
    dx *= 2
    numpy.testing.assert_array_equal(g, numpy.ones((2, 3)))


def test_arguments_are_not_changed_and_plain_outside() -> None:
    x = numpy.array([1.0, 2.0])
    result = grad(lambda x: np.sum(x * x))(x)
    assert type(result) is numpy.ndarray
    numpy.testing.assert_array_equal(x, [1.0, 2.0])


@given(st.integers(0, 2**32 - 1))
def test_jacobians_agree_in_both_modes(seed: int) -> None:
    rng = numpy.random.default_rng(seed)
    A, x = rng.standard_normal((4, 3)), rng.standard_normal(3)
    f = lambda x: np.tanh(A @ x)  # noqa: E731
    expected = (1 - numpy.tanh(A @ x) ** 2)[:, None] * A
    numpy.testing.assert_allclose(jacobian(f)(x), expected, atol=1e-14)
    numpy.testing.assert_allclose(jacobian(f, mode="fwd")(x), expected, atol=1e-14)


def test_a_jacobian_of_trees_is_a_tree_of_trees() -> None:
    def f(p: Any, x: Any) -> Any:
        return {"sum": p["a"] + x, "product": p["a"] * p["b"]}

    p = {"a": numpy.ones(2), "b": numpy.full(2, 3.0)}
    for mode in ("rev", "fwd"):
        result = jacobian(f, (0, 1), mode=mode)(p, numpy.zeros(2))
        eye = numpy.eye(2)
        numpy.testing.assert_array_equal(result["sum"][0]["a"], eye)
        numpy.testing.assert_array_equal(result["sum"][0]["b"], 0 * eye)
        numpy.testing.assert_array_equal(result["sum"][1], eye)
        numpy.testing.assert_array_equal(result["product"][0]["a"], 3 * eye)
        numpy.testing.assert_array_equal(result["product"][0]["b"], eye)


def test_a_jacobian_can_be_differentiated() -> None:
    f = lambda x: x**3  # noqa: E731
    x = numpy.array([1.0, 2.0])
    for mode in ("rev", "fwd"):
        third = jacobian(jacobian(f, mode=mode), mode=mode)(x)
        expected = numpy.zeros((2, 2, 2))
        expected[0, 0, 0], expected[1, 1, 1] = 6.0, 12.0
        numpy.testing.assert_array_equal(third, expected)


@given(st.integers(0, 2**32 - 1))
def test_a_hessian_is_symmetric_and_its_products_agree(seed: int) -> None:
    rng = numpy.random.default_rng(seed)
    A, x, v = rng.standard_normal((3, 3)), rng.standard_normal(3), rng.standard_normal(3)
    f = lambda x: np.sum(np.tanh(A @ x) ** 2)  # noqa: E731
    H = hessian(f)(x)
    numpy.testing.assert_allclose(H, H.T, atol=1e-13)
    numpy.testing.assert_allclose(hvp(f, x, v), H @ v, atol=1e-12)
    numpy.testing.assert_allclose(jacobian(jacobian(f))(x), H, atol=1e-12)


def test_rosenbrocks_hessian_is_the_known_one() -> None:
    f = lambda x: 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2  # noqa: E731
    numpy.testing.assert_array_equal(
        hessian(f)(numpy.array([1.0, 1.0])), [[802, -400], [-400, 200]]
    )


def test_stop_gradient_takes_trees() -> None:
    def f(x: Any) -> Any:
        held = stop_gradient({"x": x})
        return x * held["x"]

    assert grad(f)(3.0) == 3.0
    assert grad(grad(f))(3.0) == 0.0


def test_single_precision_parameters_get_single_gradients_from_double_data() -> None:
    W = numpy.ones((2, 2), numpy.float32)
    gradient = grad(lambda W: np.sum(numpy.ones((3, 2)) @ W))(W)
    assert gradient.dtype == numpy.float32


def test_numpys_own_functions_reach_their_namesakes() -> None:
    x = numpy.array([0.5, 1.0])
    numpy.testing.assert_array_equal(
        grad(lambda x: numpy.sum(numpy.tanh(x)))(x), 1 - numpy.tanh(x) ** 2
    )
    numpy.testing.assert_array_equal(grad(lambda x: np.sum(numpy.ones(2) * x))(x), [1, 1])
    numpy.testing.assert_array_equal(grad(lambda x: (numpy.ones((1, 2)) @ x)[0])(x), [1, 1])
    numpy.testing.assert_array_equal(grad(lambda x: numpy.concatenate([x, x]).sum())(x), [2, 2])
    assert grad(lambda x: numpy.linalg.norm(x))(numpy.array([3.0, 4.0]))[1] == 0.8  # noqa: PLW0108


def test_the_fan_out_of_a_value_adds_up() -> None:
    assert grad(lambda x: x * x * x + x)(2.0) == 13.0


def test_a_python_loop_and_plain_conditions_are_fine() -> None:
    def f(x: Any, n: int) -> Any:
        for k in range(n):
            x = x * 2 if k % 2 else x * x
        return x

    assert grad(f)(3.0, 3) == grad(lambda x: (2 * x**2) ** 2)(3.0)


# --- extension and checks


@pytest.fixture
def names() -> Any:
    before = set(primitives)
    yield
    for name in set(primitives) - before:
        del primitives[name]


@pytest.mark.usefixtures("names")
def test_a_user_registers_a_primitive_in_three_lines() -> None:
    softplus = register(
        "softplus", lambda x: numpy.logaddexp(x, 0), elementwise=True,
        vjp=lambda g, out, x: g / (1 + np.exp(-x)),
    )  # fmt: skip
    check_grads(softplus, (numpy.array([-1.0, 0.5]),), order=3)


@pytest.mark.usefixtures("names")
def test_forward_mode_follows_from_the_vjp_also_with_broadcasting() -> None:
    scaled = register(
        "scaled",
        lambda a, b: 2 * a * b,
        elementwise=True,
        vjp=(lambda g, out, a, b: 2 * g * b, lambda g, out, a, b: 2 * g * a),
    )
    check_grads(scaled, (numpy.ones((2, 3)), numpy.array([1.0, 2.0, 3.0])), order=2)


@pytest.mark.usefixtures("names")
def test_a_name_is_registered_once() -> None:
    register("mine", numpy.sinh)
    with pytest.raises(ValueError, match="there is a primitive 'mine' already"):
        register("mine", numpy.cosh)
    with pytest.raises(ValueError, match="there is a primitive 'tanh' already"):
        register("tanh", numpy.tanh)


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize("mode", ["fwd", "rev"])
def test_a_wrong_rule_is_found_and_named(mode: str) -> None:
    wrong = register(
        "wrong_square",
        numpy.square,
        vjp=lambda g, out, x: g * 3 * x,
        jvp=lambda t, out, x: t * 3 * x,
        elementwise=True,
    )
    with pytest.raises(
        GradientError, match=r"the rules of 'wrong_square' on shapes .2,. are wrong"
    ):
        check_grads(lambda x: np.sum(np.exp(wrong(x))), (numpy.ones(2),), order=1, modes=(mode,))


@pytest.mark.usefixtures("names")
def test_a_wrong_second_order_rule_is_found() -> None:
    # the first derivative is right, but its rule hides its dependence on x
    hidden = register(
        "hidden",
        numpy.square,
        vjp=lambda g, out, x: g * 2 * stop_gradient(x),
        elementwise=True,
    )
    check_grads(hidden, (1.5,), order=1)
    with pytest.raises(GradientError):
        check_grads(hidden, (1.5,), order=2)


def test_check_grads_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match=r"modes must be 'fwd', 'rev' or both, not \('back',\)"):
        check_grads(np.tanh, (0.5,), modes=("back",))
    with pytest.raises(ValueError, match="order must be at least 1, not 0"):
        check_grads(np.tanh, (0.5,), order=0)
    with pytest.raises(ValueError, match="mode must be 'rev' or 'fwd', not 'both'"):
        jacobian(np.tanh, mode="both")


def test_check_grads_accepts_single_precision() -> None:
    check_grads(np.tanh, (numpy.array([0.3, -0.2], numpy.float32),), order=1)


def test_intermediate_values_are_freed_without_the_garbage_collector() -> None:
    x = numpy.ones((100, 1000))

    def loss(x: Any) -> Any:
        return np.sum(np.exp(np.tanh(x) * 2) ** 2)

    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        grad(loss)(x)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(5):
            grad(loss)(x)
            value_and_grad(loss)(x)
            vjp(loss, x)[1](1.0)
            jvp(loss, (x,), (x,))
            trace(grad(loss), x)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert after - before < x.nbytes / 4
