"""What a value of the graph is to the hardware, before it is computed.

The array computes sums of products, and an epilogue thresholds them. Everything else in a graph -
scalar factors, transposes, broadcasts, sign targets, masks - is algebra about these, done here on
paper: a :class:`Value` is a factor times a *core*, and cores are the few shapes that one
instruction can finish. Each function raises :class:`Impossible` where the algebra has no answer;
the lowering adds who asked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from siligrad.compiler.ir import Matrix, Term, View

__all__ = [
    "Core",
    "Gated",
    "Impossible",
    "OneSided",
    "Positive",
    "Rectified",
    "Signed",
    "Stored",
    "Sum",
    "Uniform",
    "Value",
    "add",
    "as_sum",
    "multiply",
    "positive",
    "rectify",
    "scalar",
]


class Impossible(Exception):
    """No instruction computes this; the argument is the end of a sentence that says why."""


@dataclass(frozen=True, eq=False, slots=True)
class Uniform:
    """One: a :class:`Value` of it is a scalar, broadcast to whatever shape."""


@dataclass(frozen=True, eq=False, slots=True)
class Stored:
    """What a memory holds, or will when it is loaded."""

    view: View


@dataclass(frozen=True, eq=False, slots=True)
class Sum:
    """Products, and stored matrices with their factors, added up."""

    terms: tuple[Term, ...] = ()
    parts: tuple[tuple[float, View], ...] = ()

    @property
    def reads(self) -> set[Matrix]:
        """The matrices that it is computed from."""
        views = [view for _, view in self.parts]
        views += [view for term in self.terms for view in (term.a, term.b) if view is not None]
        return {view.matrix for view in views}


@dataclass(frozen=True, eq=False, slots=True)
class Signed:
    """``sign * inner``, element by element; every element of `sign` is +1 or -1."""

    sign: View
    inner: Sum


@dataclass(frozen=True, eq=False, slots=True)
class Rectified:
    """``max(inner, 0)``."""

    inner: Sum | Signed | Stored
    sign: int


@dataclass(frozen=True, eq=False, slots=True)
class Positive:
    """1 where ``sign * inner > 0``, else 0."""

    inner: Sum | Signed | Stored
    sign: int


@dataclass(frozen=True, eq=False, slots=True)
class Gated:
    """`inner` where `mask` is 1, else 0."""

    mask: Positive
    inner: Sum


@dataclass(frozen=True, eq=False, slots=True)
class OneSided:
    """`inner` where it has the sign of `sign`, else 0.

    It is what rectified hinges leave of their argument.
    """

    sign: View
    inner: Sum


Core = Uniform | Stored | Sum | Signed | Rectified | Positive | Gated | OneSided

ONE = Uniform()


@dataclass(frozen=True, slots=True)
class Value:
    """``factor * core``."""

    factor: float
    core: Core

    def scaled(self, factor: float) -> Value:
        """Return the value times `factor`."""
        return replace(self, factor=self.factor * factor)


def scalar(value: float) -> Value:
    """Return a scalar."""
    return Value(value, ONE)


def as_sum(value: Value) -> Sum:
    """Return `value` as a sum whose factors hold `value`'s."""
    core = value.core
    if isinstance(core, Stored):
        return Sum(parts=((value.factor, core.view),))
    if isinstance(core, Sum):
        return Sum(
            tuple(replace(t, coefficient=t.coefficient * value.factor) for t in core.terms),
            tuple((factor * value.factor, view) for factor, view in core.parts),
        )
    raise Impossible(f"a {_describe(core)} cannot be added to anything before it is stored")


def add(left: Value, right: Value) -> Value:
    """Return ``left + right``, both of the result's shape."""
    if right.factor == 0:
        return left
    if left.factor == 0:
        return right
    if left.core is right.core:
        return Value(left.factor + right.factor, left.core)
    if isinstance(left.core, Uniform) and isinstance(right.core, Uniform):
        return scalar(left.factor + right.factor)
    if isinstance(left.core, Uniform):
        left, right = right, left
    if isinstance(right.core, Uniform):
        if isinstance(left.core, Signed):
            # c = sign * (c * sign), because sign * sign = 1
            sign = left.core.sign
            inner = as_sum(Value(left.factor, left.core.inner))
            parts = _merge((*inner.parts, (right.factor, sign)))
            return Value(1.0, Signed(sign, Sum(inner.terms, parts)))
        raise Impossible("a constant other than zero can only be added to sign * (a product)")
    if isinstance(left.core, Signed) or isinstance(right.core, Signed):
        raise Impossible("a product with the targets can only be added to a constant")
    a, b = as_sum(left), as_sum(right)
    return Value(1.0, Sum(a.terms + b.terms, _merge(a.parts + b.parts)))


def _merge(parts: tuple[tuple[float, View], ...]) -> tuple[tuple[float, View], ...]:
    merged: dict[View, float] = {}
    for factor, view in parts:
        merged[view] = merged.get(view, 0.0) + factor
    return tuple((factor, view) for view, factor in merged.items() if factor != 0)


def multiply(left: Value, right: Value) -> Value:
    """Return ``left * right``, element by element, both of the result's shape."""
    if isinstance(left.core, Uniform):
        return right.scaled(left.factor)
    if isinstance(right.core, Uniform):
        return left.scaled(right.factor)
    factor = left.factor * right.factor
    for mask, other in ((left.core, right.core), (right.core, left.core)):
        if isinstance(mask, Positive):
            return Value(factor, _gate(mask, other))
    for sign, other in ((left.core, right.core), (right.core, left.core)):
        if isinstance(sign, Stored):
            core = _sign_times(sign.view, other)
            if core is not None:
                return Value(factor, core)
    raise Impossible(
        "two computed arrays cannot be multiplied element by element; the hardware multiplies "
        "matrices (@), masks by a ReLU's derivative, and multiplies by targets of +1 and -1"
    )


def _gate(mask: Positive, other: Core) -> Core:
    if isinstance(other, Rectified) and (other.inner, other.sign) == (mask.inner, mask.sign):
        return other  # max(u, 0) is zero already where its own derivative is
    if (
        isinstance(other, OneSided)
        and isinstance(mask.inner, Signed)
        and other.inner is mask.inner.inner
        and other.sign == mask.inner.sign
        and mask.sign > 0
    ):
        return other
    if isinstance(other, Stored):
        return Gated(mask, Sum(parts=((1.0, other.view),)))
    if isinstance(other, Sum):
        return Gated(mask, other)
    raise Impossible(f"a {_describe(other)} cannot be masked before it is stored")


def _sign_times(sign: View, other: Core) -> Core | None:
    if isinstance(other, Sum) and other.terms:
        return Signed(sign, other)
    if isinstance(other, Rectified) and isinstance(other.inner, Signed):
        inner = other.inner
        if inner.sign == sign and other.sign > 0:
            # sign * max(sign * u, 0) is u where sign * u > 0
            return OneSided(sign, inner.inner)
    return None


def rectify(value: Value) -> Value:
    """Return ``max(value, 0)``."""
    core = value.core
    if isinstance(core, Uniform):
        return scalar(max(value.factor, 0.0))
    if isinstance(core, Rectified) and value.factor >= 0:
        return value
    if isinstance(core, Sum | Signed | Stored):
        return Value(abs(value.factor), Rectified(core, 1 if value.factor >= 0 else -1))
    raise Impossible(f"a {_describe(core)} cannot be rectified before it is stored")


def positive(value: Value) -> Value:
    """Return 1 where ``value > 0``, else 0."""
    core = value.core
    if isinstance(core, Sum | Signed | Stored):
        return Value(1.0, Positive(core, 1 if value.factor >= 0 else -1))
    if isinstance(core, Rectified) and value.factor > 0:
        return Value(1.0, Positive(core.inner, core.sign))  # max(u, 0) > 0 exactly where u > 0
    raise Impossible(f"a {_describe(core)} cannot be compared with zero")


def _describe(core: Core) -> str:
    return {
        Uniform: "constant",
        Stored: "stored array",
        Sum: "sum of products",
        Signed: "product with the targets",
        Rectified: "rectified value",
        Positive: "comparison",
        Gated: "masked value",
        OneSided: "hinge's error",
    }[type(core)]
