"""Laws of every primitive's derivative rules, in both modes, first and second order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siligrad import tree
from siligrad.autodiff import check_grads, grad, jvp, primitives, vjp
from siligrad.autodiff.arrangement import At, Slice

Rng = numpy.random.Generator
Case = tuple[Callable[..., Any], list[Any]]


def smooth(rng: Rng, shape: tuple[int, ...]) -> Any:
    return rng.uniform(-2, 2, shape)


def positive(rng: Rng, shape: tuple[int, ...]) -> Any:
    return rng.uniform(0.5, 2, shape)


def apart(rng: Rng, shape: tuple[int, ...]) -> Any:
    """Values at least 0.1 from zero and from each other: no corner within a finite difference."""
    count = int(numpy.prod(shape))
    return 0.1 * (rng.permutation(2 * count + 2)[:count].reshape(shape) - count - 0.5)


def shape_of(rng: Rng) -> tuple[int, ...]:
    return tuple(int(k) for k in rng.integers(1, 4, rng.integers(0, 4)))


def broadcastable(rng: Rng, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that broadcasts against ``shape``: leading axes dropped, others 1 at random."""
    kept = shape[int(rng.integers(0, len(shape) + 1)) :]
    return tuple(1 if rng.integers(0, 2) else size for size in kept)


def unary(name: str, draw: Callable[[Rng, tuple[int, ...]], Any], **params: Any) -> Any:
    def case(rng: Rng) -> Case:
        return lambda x: primitives[name](x, **params), [draw(rng, shape_of(rng))]

    return case


def binary(name: str, left: Any = smooth, right: Any = smooth) -> Any:
    def case(rng: Rng) -> Case:
        shape = shape_of(rng)
        shapes = [shape, broadcastable(rng, shape)]
        if rng.integers(0, 2):
            shapes.reverse()
        return primitives[name], [left(rng, shapes[0]), right(rng, shapes[1])]

    return case


def extreme(name: str) -> Any:
    def case(rng: Rng) -> Case:
        shape = shape_of(rng)
        pool = apart(rng, (2, *shape))  # never equal, never close
        return primitives[name], [pool[0], pool[1] if rng.integers(0, 2) else 0.0]

    return case


def reduction(name: str, draw: Any) -> Any:
    def case(rng: Rng) -> Case:
        shape = shape_of(rng)
        axes = tuple(k for k in range(len(shape)) if rng.integers(0, 2))
        keepdims = bool(rng.integers(0, 2))
        return (
            lambda x: primitives[name](x, axis=axes, keepdims=keepdims),
            [draw(rng, shape)],
        )

    return case


def where(rng: Rng) -> Case:
    shape = shape_of(rng)
    mask = rng.integers(0, 2, broadcastable(rng, shape)).astype(bool)
    operands = [smooth(rng, shape), smooth(rng, broadcastable(rng, shape))]
    return lambda a, b: primitives["where"](mask, a, b), operands


def matmul(rng: Rng) -> Case:
    m, k, n = rng.integers(1, 4, 3)
    batch = tuple(rng.integers(1, 3, rng.integers(0, 3)))
    a, b = (*batch, m, k), (*broadcastable(rng, batch), k, n)
    return primitives["matmul"], [smooth(rng, a), smooth(rng, b)]


def einsum(rng: Rng) -> Case:
    subscripts = ["ij,jk->ik", "ij,jk->ki", "ij,ij->", "i,j->ij", "bij,bjk->bik", "ij,j->i"]
    chosen = subscripts[int(rng.integers(0, len(subscripts)))]
    size = {letter: int(rng.integers(1, 4)) for letter in "bijk"}
    left, right = chosen.split("->")[0].split(",")
    operands = [smooth(rng, tuple(size[letter] for letter in each)) for each in (left, right)]
    return lambda a, b: primitives["einsum"](a, b, subscripts=chosen), operands


def reshape(rng: Rng) -> Case:
    shape = shape_of(rng)
    new = (1, *shape[::-1])
    return lambda x: primitives["reshape"](x, shape=new), [smooth(rng, shape)]


def transpose(rng: Rng) -> Case:
    shape = shape_of(rng)
    axes = tuple(int(k) for k in rng.permutation(len(shape)))
    return lambda x: primitives["transpose"](x, axes=axes), [smooth(rng, shape)]


def broadcast_to(rng: Rng) -> Case:
    shape = shape_of(rng)
    return (
        lambda x: primitives["broadcast_to"](x, shape=(2, *shape)),
        [smooth(rng, broadcastable(rng, shape))],
    )


def concatenate(rng: Rng) -> Case:
    shape = (2, *shape_of(rng))
    axis = int(rng.integers(0, len(shape)))
    parts = [
        smooth(rng, (*shape[:axis], int(size), *shape[axis + 1 :]))
        for size in rng.integers(1, 3, 3)
    ]
    return lambda *xs: primitives["concatenate"](*xs, axis=axis), parts


KEYS: list[Any] = [
    (0,),
    (Slice(1, None, 2),),
    (Ellipsis, Slice(None, None, -1)),
    (None, 1, Slice(0, 2, None)),
]


def index(rng: Rng) -> Case:
    key = KEYS[int(rng.integers(0, len(KEYS)))]
    return lambda x: primitives["index"](x, key=key), [smooth(rng, (3, 4))]


def scatter(rng: Rng) -> Case:
    key = KEYS[int(rng.integers(0, len(KEYS)))]
    inner = primitives["index"](numpy.zeros((3, 4)), key=key).shape
    return lambda x: primitives["scatter"](x, key=key, shape=(3, 4)), [smooth(rng, inner)]


def gather(rng: Rng) -> Case:
    rows = rng.integers(0, 3, (2, 2))
    return lambda x: primitives["gather"](x, rows, key=(At(0),)), [smooth(rng, (3, 4))]


def scatter_add(rng: Rng) -> Case:
    rows = rng.integers(0, 3, (2, 2))
    return (
        lambda x: primitives["scatter_add"](x, rows, key=(At(0),), shape=(3, 4)),
        [smooth(rng, (2, 2, 4))],
    )


CASES: dict[str, Callable[[Rng], Case]] = {
    "negative": unary("negative", smooth),
    "exp": unary("exp", smooth),
    "expm1": unary("expm1", smooth),
    "log": unary("log", positive),
    "log1p": unary("log1p", positive),
    "tanh": unary("tanh", smooth),
    "sin": unary("sin", smooth),
    "cos": unary("cos", smooth),
    "sqrt": unary("sqrt", positive),
    "absolute": unary("absolute", apart),
    "astype": unary("astype", smooth, dtype="float64"),
    "add": binary("add"),
    "subtract": binary("subtract"),
    "multiply": binary("multiply"),
    "divide": binary("divide", right=positive),
    "raise_to": binary("raise_to", left=positive),
    "maximum": extreme("maximum"),
    "minimum": extreme("minimum"),
    "where": where,
    "sum": reduction("sum", smooth),
    "max": reduction("max", apart),
    "min": reduction("min", apart),
    "matmul": matmul,
    "einsum": einsum,
    "reshape": reshape,
    "transpose": transpose,
    "broadcast_to": broadcast_to,
    "concatenate": concatenate,
    "index": index,
    "scatter": scatter,
    "gather": gather,
    "scatter_add": scatter_add,
}
for exponent in (-2, -1, 0, 0.5, 1, 2, 3):
    CASES[f"power {exponent}"] = unary("power", positive, exponent=exponent)


def test_every_differentiable_primitive_has_a_case() -> None:
    differentiable = {name for name, primitive in primitives.items() if primitive.vjp is not None}
    # Its derivative is a definition and no limit of differences: tests/frontend/test_quantize_*.py
    straight_through = {"fake_quantize"}
    assert differentiable - straight_through == {name.split()[0] for name in CASES}


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=12)
@given(seed=st.integers(0, 2**32 - 1))
def test_derivatives_agree_with_differences_and_with_each_other(name: str, seed: int) -> None:
    function, operands = CASES[name](numpy.random.default_rng(seed))
    check_grads(function, operands, order=2, seed=seed)


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=12)
@given(seed=st.integers(0, 2**32 - 1))
def test_inner_products_agree_to_rounding(name: str, seed: int) -> None:
    rng = numpy.random.default_rng(seed)
    function, operands = CASES[name](rng)
    directions = [rng.standard_normal(numpy.shape(operand)) for operand in operands]
    operands = [numpy.asarray(operand, dtype=float) for operand in operands]
    result, tangent = jvp(function, operands, directions)
    _, pullback = vjp(function, *operands)
    g = rng.standard_normal(result.shape)
    cotangents = pullback(g)
    expected = numpy.vdot(g, tangent)
    backward = sum(numpy.vdot(c, v) for c, v in zip(cotangents, directions, strict=True))
    numpy.testing.assert_allclose(backward, expected, rtol=1e-10, atol=1e-10)
    for cotangent, operand in zip(cotangents, operands, strict=True):
        assert cotangent.shape == operand.shape
        assert cotangent.dtype == operand.dtype


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("astype")])
def test_single_precision_stays_single(name: str) -> None:
    function, operands = CASES[name](numpy.random.default_rng(1))
    singles = [numpy.asarray(operand, numpy.float32) for operand in operands]
    result, pullback = vjp(function, *singles)
    assert result.dtype == numpy.float32
    for cotangent in pullback(numpy.ones(result.shape, numpy.float32)):
        assert cotangent.dtype == numpy.float32
    _, tangent = jvp(function, singles, singles)
    assert tangent.dtype == numpy.float32


@pytest.mark.parametrize("name", [name for name, p in primitives.items() if p.vjp is None])
def test_piecewise_constant_primitives_have_zero_derivative(name: str) -> None:
    primitive = primitives[name]
    x = numpy.array([-1.5, 0.5])
    if name.startswith("arg"):
        operands: tuple[Any, ...] = (x,)
        result = vjp(lambda x: primitive(x, axis=None) * x, x)[1](x)[0]
        numpy.testing.assert_array_equal(result, int(primitive(x, axis=None)) * x)
        return
    unary_names = {"sign", "logical_not", "isfinite", "stop_gradient", "is_within"}
    params = {"bits": 8, "frac": 6} if name == "is_within" else {}
    operands = (x,) if name in unary_names else (x, numpy.array([0.5, -1.0]))
    for position in range(len(operands)):
        derivative = grad(lambda *xs: tree.map(float_sum, primitive(*xs, **params) * 1.0), position)
        numpy.testing.assert_array_equal(derivative(*operands), 0 * x)


def float_sum(x: Any) -> Any:
    return x.sum()


# --- corners


def test_relu_is_flat_at_zero() -> None:
    assert grad(primitives["maximum"], 0)(0.0, 0.0) == 0
    assert jvp(lambda x: primitives["maximum"](x, 0), (0.0,), (1.0,))[1] == 0


@pytest.mark.parametrize(
    ("a", "b", "to_a", "to_b"), [(2.0, 1.0, 1, 0), (1.0, 2.0, 0, 1), (1.0, 1.0, 0, 1)]
)
def test_maximum_sends_a_tie_to_the_second(a: float, b: float, to_a: int, to_b: int) -> None:
    assert grad(primitives["maximum"], (0, 1))(a, b) == (to_a, to_b)


@pytest.mark.parametrize(
    ("a", "b", "to_a", "to_b"), [(2.0, 1.0, 0, 1), (1.0, 2.0, 1, 0), (1.0, 1.0, 0, 1)]
)
def test_minimum_sends_a_tie_to_the_second(a: float, b: float, to_a: int, to_b: int) -> None:
    assert grad(primitives["minimum"], (0, 1))(a, b) == (to_a, to_b)


def test_equal_largest_elements_share_the_cotangent() -> None:
    shared = grad(lambda x: primitives["max"](x, axis=(0,), keepdims=False))
    numpy.testing.assert_array_equal(shared(numpy.array([3.0, 1.0, 3.0])), [0.5, 0, 0.5])


def test_absolute_is_flat_at_zero() -> None:
    assert grad(primitives["absolute"])(0.0) == 0


def test_a_not_a_number_behind_a_mask_stays_there() -> None:
    log = primitives["log"]
    safe = grad(lambda x: primitives["where"](x > 0, log(primitives["where"](x > 0, x, 1.0)), 0.0))
    assert safe(-1.0) == 0
    assert safe(2.0) == 0.5


def test_an_element_gathered_twice_receives_both_cotangents() -> None:
    result = grad(lambda x: x[numpy.array([0, 0, 2])].sum())(numpy.ones(3))
    numpy.testing.assert_array_equal(result, [2, 0, 1])


def test_zero_to_a_variable_power_has_a_finite_derivative() -> None:
    raise_to = primitives["raise_to"]
    assert grad(raise_to)(0.0, 2.0) == 0
    assert grad(raise_to)(0.0, 1.0) == 1
    assert grad(raise_to, 1)(0.0, 2.0) == 0
