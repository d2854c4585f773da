"""The compiler's algebra on paper: whatever it answers has the value that was asked for."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from siligrad.compiler.algebra import (
    Core,
    Gated,
    Impossible,
    OneSided,
    Positive,
    Rectified,
    Signed,
    Stored,
    Sum,
    Uniform,
    Value,
    add,
    as_sum,
    multiply,
    positive,
    rectify,
    scalar,
)
from siligrad.compiler.ir import Matrix, Term, View
from siligrad.program import Role

Array = NDArray[np.float64]

N = 7
RNG = np.random.default_rng(0)
HELD: dict[View, Array] = {}


def view(name: str, values: Array) -> View:
    made = View(Matrix(name, Role.RESIDENT, N, N, (N, N), None))
    HELD[made] = values
    return made


def codes() -> Array:
    """Small whole numbers, zeros among them: every result is exact."""
    return RNG.integers(-3, 4, (N, N)).astype(np.float64)


A, B, C = (view(name, codes()) for name in "ABC")
SIGN, OTHER_SIGN = (view(name, RNG.choice([-1.0, 1.0], (N, N))) for name in ("s", "t"))

U = Sum((Term(1.0, A, B),))
V = Sum((Term(-2.0, None, C), Term(0.5, B, A)), ((2.0, B), (-1.0, C)))
SU = Signed(SIGN, U)
CORES: dict[str, Core] = {
    "one": Uniform(),
    "A": Stored(A),
    "B": Stored(B),
    "sign": Stored(SIGN),
    "other sign": Stored(OTHER_SIGN),
    "u": U,
    "v": V,
    "only parts": Sum(parts=((1.0, A), (2.0, B))),
    "sign u": SU,
    "max u": Rectified(U, 1),
    "max -u": Rectified(U, -1),
    "max A": Rectified(Stored(A), 1),
    "max sign u": Rectified(SU, 1),
    "max -sign u": Rectified(SU, -1),
    "u > 0": Positive(U, 1),
    "-u > 0": Positive(U, -1),
    "v > 0": Positive(V, 1),
    "sign u > 0": Positive(SU, 1),
    "-sign u > 0": Positive(SU, -1),
    "gated": Gated(Positive(U, 1), V),
    "one-sided": OneSided(SIGN, U),
    "one-sided by another": OneSided(OTHER_SIGN, U),
    "one-sided v": OneSided(SIGN, V),
}
FACTORS = (1.0, -1.0, 0.5, -2.0, 0.0)


def of_core(core: Core) -> Array:
    """Return what `core` is, from what its docstring says."""
    match core:
        case Uniform():
            return np.ones((N, N))
        case Stored(seen):
            return HELD[seen]
        case Sum(terms, parts):
            total = np.zeros((N, N))
            for term in terms:
                a = np.ones((N, N)) if term.a is None else HELD[term.a]
                total = total + term.coefficient * (a @ HELD[term.b])
            for factor, seen in parts:
                total = total + factor * HELD[seen]
            return total
        case Signed(sign, inner):
            return HELD[sign] * of_core(inner)
        case Rectified(inner, sign):
            return np.maximum(sign * of_core(inner), 0.0)
        case Positive(inner, sign):
            return np.where(sign * of_core(inner) > 0, 1.0, 0.0)
        case Gated(mask, inner):
            return of_core(mask) * of_core(inner)
        case OneSided(sign, inner):
            u = of_core(inner)
            return u * (HELD[sign] * u > 0)


def of(value: Value) -> Array:
    return value.factor * of_core(value.core)


VALUES = {
    f"{factor} {name}": Value(factor, core)
    for (name, core), factor in product(CORES.items(), FACTORS)
}


@pytest.mark.parametrize(
    ("operation", "law", "least"),
    [(add, np.add, 2000), (multiply, np.multiply, 1500)],
    ids=["add", "multiply"],
)
def test_two_values_make_what_numpy_makes_of_them(
    operation: Callable[[Value, Value], Value], law: Callable[[Array, Array], Array], least: int
) -> None:
    answered = 0
    for (name, left), (other, right) in product(VALUES.items(), repeat=2):
        try:
            got = operation(left, right)
        except Impossible:
            continue
        answered += 1
        np.testing.assert_array_equal(of(got), law(of(left), of(right)), f"{name}, {other}")
    assert answered > least


@pytest.mark.parametrize(
    ("operation", "law"),
    [
        (rectify, lambda x: np.maximum(x, 0)),
        (positive, lambda x: (x > 0) * 1.0),
        (lambda value: Value(1.0, as_sum(value)), lambda x: x),
    ],
    ids=["rectify", "positive", "as_sum"],
)
def test_one_value_makes_what_numpy_makes_of_it(
    operation: Callable[[Value], Value], law: Callable[[Array], Array]
) -> None:
    answered = 0
    for name, value in VALUES.items():
        if value.factor == 0:
            continue  # the lowering folds zeros before it asks
        try:
            got = operation(value)
        except Impossible:
            continue
        answered += 1
        np.testing.assert_array_equal(of(got), law(of(value)), name)
    assert answered >= 28


def test_what_is_shared_is_added_and_what_cancels_is_gone() -> None:
    core = CORES["max u"]
    doubled = add(Value(2.0, core), Value(3.0, core))
    assert (doubled.factor, doubled.core) == (5.0, core)
    total = add(Value(1.0, Stored(A)), Value(-1.0, Sum(parts=((1.0, A), (1.0, B)))))
    assert total.core.parts == ((-1.0, B),)  # type: ignore[union-attr]


def test_what_is_one_instruction_stays_one() -> None:
    value = rectify(Value(2.0, U))
    for factor in (3.0, 0.25, 0.0):
        assert rectify(value.scaled(factor)) == value.scaled(factor)
    assert multiply(positive(Value(1.0, U)), value).core is value.core
    hinge = rectify(Value(1.0, SU))
    error = multiply(Value(1.0, Stored(SIGN)), hinge)
    assert isinstance(error.core, OneSided)
    assert multiply(positive(Value(1.0, SU)), error).core is error.core


@pytest.mark.parametrize(
    ("operation", "left", "right", "message"),
    [
        (add, "u", "one", "a constant other than zero can only be added to sign"),
        (add, "one", "u", "a constant other than zero can only be added to sign"),
        (add, "sign u", "u", "a product with the targets can only be added to a constant"),
        (add, "u", "sign u", "a product with the targets can only be added to a constant"),
        (add, "u", "max u", "a rectified value cannot be added to anything before"),
        (add, "gated", "u", "a masked value cannot be added"),
        (add, "A", "one-sided", "a hinge's error cannot be added"),
        (add, "A", "u > 0", "a comparison cannot be added"),
        (multiply, "u", "v", "two computed arrays cannot be multiplied"),
        (multiply, "A", "B", "two computed arrays cannot be multiplied"),
        (multiply, "A", "only parts", "two computed arrays cannot be multiplied"),
        (multiply, "sign", "max -sign u", "two computed arrays cannot be multiplied"),
        (multiply, "other sign", "max sign u", "two computed arrays cannot be multiplied"),
        (multiply, "u > 0", "max -u", "a rectified value cannot be masked"),
        (multiply, "-u > 0", "max u", "a rectified value cannot be masked"),
        (multiply, "-sign u > 0", "one-sided", "a hinge's error cannot be masked"),
        (multiply, "sign u > 0", "one-sided v", "a hinge's error cannot be masked"),
        (multiply, "sign u > 0", "one-sided by another", "a hinge's error cannot be masked"),
        (multiply, "u > 0", "v > 0", "a comparison cannot be masked"),
        (multiply, "u > 0", "sign u", "a product with the targets cannot be masked"),
    ],
)
def test_what_no_instruction_computes_is_refused(
    operation: Callable[[Value, Value], Value], left: str, right: str, message: str
) -> None:
    with pytest.raises(Impossible, match=message):
        operation(Value(2.0, CORES[left]), Value(3.0, CORES[right]))


@pytest.mark.parametrize(
    ("operation", "value", "message"),
    [
        (rectify, Value(-1.0, CORES["max u"]), "a rectified value cannot be rectified"),
        (rectify, Value(1.0, CORES["gated"]), "a masked value cannot be rectified"),
        (positive, Value(-1.0, CORES["max u"]), "a rectified value cannot be compared"),
        (positive, Value(0.0, CORES["max u"]), "a rectified value cannot be compared"),
        (positive, scalar(1.0), "a constant cannot be compared"),
        (as_sum, scalar(1.0), "a constant cannot be added"),
    ],
)
def test_one_value_that_no_instruction_takes_is_refused(
    operation: Callable[[Value], Any], value: Value, message: str
) -> None:
    with pytest.raises(Impossible, match=message):
        operation(value)


def test_a_scalar_is_rectified_on_paper() -> None:
    for factor in (-2.0, 0.0, 0.5, 3.0):
        assert rectify(scalar(factor)).factor == max(factor, 0.0)
