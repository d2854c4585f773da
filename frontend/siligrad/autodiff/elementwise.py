"""Elementwise primitives and their rules.

In the derivations ``<a, b>`` is the sum of products of corresponding elements, ``d`` a small
change and ``g`` the cotangent of the result: a vjp rule is read off ``<g, d out> = <vjp(g), d
operand>``. Rules may return the shape of the result; the walk sums over what was broadcast.

Where a function has a corner the rules choose one side, so that the derivative of relu at zero is
zero: ``maximum(a, b)`` gives its cotangent to ``a`` where ``a > b`` and to ``b`` elsewhere,
``minimum`` likewise with ``a < b``, and ``absolute`` has the derivative ``sign``, zero at zero. A
mask is recorded as ``multiply(g, greater(a, b))``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from siligrad.autodiff.tracer import Array, Primitive, Rule, register

__all__ = [
    "absolute",
    "add",
    "astype",
    "cos",
    "divide",
    "equal",
    "exp",
    "expm1",
    "greater",
    "greater_equal",
    "isfinite",
    "less",
    "less_equal",
    "log",
    "log1p",
    "logical_and",
    "logical_not",
    "logical_or",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "not_equal",
    "power",
    "raise_to",
    "sign",
    "sin",
    "sqrt",
    "stop_gradient",
    "subtract",
    "tanh",
    "where",
]

_RULE = "the shapes must be equal from the right, or 1, or missing"


def _elementwise(name: str, function: Callable[..., Any], *rules: Rule | None) -> Primitive:
    """Register a primitive whose derivative is diagonal: one rule serves both modes.

    The matrix ``d out / d operand`` is diagonal (after broadcasting), hence symmetric, and
    multiplying a cotangent or a tangent by it is the same expression. Without rules the primitive
    is piecewise constant.
    """
    table = rules or None
    return register(name, function, vjp=table, jvp=table, elementwise=True, shape_rule=_RULE)


# --- one operand

# d(-x) = -dx
negative: Primitive = _elementwise("negative", np.negative, lambda g, out, x: -g)
# d exp(x) = exp(x) dx
exp: Primitive = _elementwise("exp", np.exp, lambda g, out, x: g * out)
# d (exp(x) - 1) = exp(x) dx = (out + 1) dx
expm1: Primitive = _elementwise("expm1", np.expm1, lambda g, out, x: g * (out + 1))
# d log(x) = dx / x
log: Primitive = _elementwise("log", np.log, lambda g, out, x: g / x)
# d log(1 + x) = dx / (1 + x)
log1p: Primitive = _elementwise("log1p", np.log1p, lambda g, out, x: g / (1 + x))
# d tanh(x) = (1 - tanh(x)**2) dx
tanh: Primitive = _elementwise("tanh", np.tanh, lambda g, out, x: g * (1 - out**2))
# d sin(x) = cos(x) dx
sin: Primitive = _elementwise("sin", np.sin, lambda g, out, x: g * cos(x))
# d cos(x) = -sin(x) dx
cos: Primitive = _elementwise("cos", np.cos, lambda g, out, x: -(g * sin(x)))
# out**2 = x, so 2 out d(out) = dx
sqrt: Primitive = _elementwise("sqrt", np.sqrt, lambda g, out, x: g / (2 * out))
# d|x| = sign(x) dx away from zero
absolute: Primitive = _elementwise("absolute", np.absolute, lambda g, out, x: g * sign(x))


def _power(x: Array, *, exponent: float) -> Array:
    return x**exponent


def _power_rule(g: Array, out: Array, x: Array, *, exponent: float) -> Array:
    # d x**n = n x**(n - 1) dx
    if exponent == 0:
        return None
    if exponent == 1:
        return g
    if exponent == 2:
        return g * (2 * x)
    return g * (exponent * power(x, exponent=exponent - 1))


power: Primitive = _elementwise("power", _power, _power_rule)


def _astype(x: Array, *, dtype: str) -> Array:
    return np.asarray(x).astype(dtype)


def _astype_rule(g: Array, out: Array, x: Array, *, dtype: str) -> Array:
    # Between floating types the identity, up to rounding; to integers it is piecewise constant.
    return g if np.dtype(dtype).kind == "f" else None


astype: Primitive = _elementwise("astype", _astype, _astype_rule)


# --- two operands

# d(a + b) = da + db
add: Primitive = _elementwise("add", np.add, lambda g, out, a, b: g, lambda g, out, a, b: g)
# d(a - b) = da - db
subtract: Primitive = _elementwise(
    "subtract", np.subtract, lambda g, out, a, b: g, lambda g, out, a, b: -g
)
# d(a b) = da b + a db
multiply: Primitive = _elementwise(
    "multiply", np.multiply, lambda g, out, a, b: g * b, lambda g, out, a, b: g * a
)
# d(a / b) = da / b - (a / b) db / b
divide: Primitive = _elementwise(
    "divide", np.divide, lambda g, out, a, b: g / b, lambda g, out, a, b: -(g * out) / b
)


def _raise_to_base(g: Array, out: Array, a: Array, b: Array) -> Array:
    # d a**b = b a**(b - 1) da at constant b; zero where b is, also at a = 0
    return g * (b * raise_to(a, where(equal(b, 0), 1.0, b - 1)))


def _raise_to_exponent(g: Array, out: Array, a: Array, b: Array) -> Array:
    # d a**b = a**b log(a) db at constant a; at a = 0 the limit is zero
    return g * (out * log(where(greater(a, 0), a, 1.0)))


raise_to: Primitive = _elementwise("raise_to", np.power, _raise_to_base, _raise_to_exponent)
# d maximum(a, b) = [a > b] da + [a <= b] db
maximum: Primitive = _elementwise(
    "maximum",
    np.maximum,
    lambda g, out, a, b: g * greater(a, b),
    lambda g, out, a, b: g * less_equal(a, b),
)
# d minimum(a, b) = [a < b] da + [a >= b] db
minimum: Primitive = _elementwise(
    "minimum",
    np.minimum,
    lambda g, out, a, b: g * less(a, b),
    lambda g, out, a, b: g * greater_equal(a, b),
)
# d where(c, a, b) = [c] da + [not c] db; not a product, so that a NaN on the side not taken stays
# there
where: Primitive = _elementwise(
    "where",
    np.where,
    None,
    lambda g, out, c, a, b: where(c, g, 0),
    lambda g, out, c, a, b: where(c, 0, g),
)


# --- piecewise constant: derivatives stop here

sign: Primitive = _elementwise("sign", np.sign)
greater: Primitive = _elementwise("greater", np.greater)
greater_equal: Primitive = _elementwise("greater_equal", np.greater_equal)
less: Primitive = _elementwise("less", np.less)
less_equal: Primitive = _elementwise("less_equal", np.less_equal)
equal: Primitive = _elementwise("equal", np.equal)
not_equal: Primitive = _elementwise("not_equal", np.not_equal)
logical_and: Primitive = _elementwise("logical_and", np.logical_and)
logical_or: Primitive = _elementwise("logical_or", np.logical_or)
logical_not: Primitive = _elementwise("logical_not", np.logical_not)
isfinite: Primitive = _elementwise("isfinite", np.isfinite)
stop_gradient: Primitive = _elementwise("stop_gradient", np.positive)
