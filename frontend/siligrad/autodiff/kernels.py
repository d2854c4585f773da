"""How a planned program computes each primitive into memory that it was given.

A kernel is a line of Python: ``out`` and the operands are names of arrays. The table has a row for
every primitive that numpy can compute without allocating; all others are computed and copied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from siligrad.autodiff.arrangement import At, Slice
from siligrad.autodiff.graph import Node
from siligrad.autodiff.reduction import is_product_with_ones, ones
from siligrad.autodiff.tracer import primitives

__all__ = ["NAMESPACE", "allocates", "constants", "index_text", "statement"]

Kernel: TypeAlias = Callable[[Node, str, Sequence[str]], str]

_UFUNCS = {
    "absolute": "absolute",
    "add": "add",
    "cos": "cos",
    "divide": "divide",
    "equal": "equal",
    "exp": "exp",
    "expm1": "expm1",
    "greater": "greater",
    "greater_equal": "greater_equal",
    "isfinite": "isfinite",
    "less": "less",
    "less_equal": "less_equal",
    "log": "log",
    "log1p": "log1p",
    "logical_and": "logical_and",
    "logical_not": "logical_not",
    "logical_or": "logical_or",
    "multiply": "multiply",
    "negative": "negative",
    "not_equal": "not_equal",
    "raise_to": "power",
    "sign": "sign",
    "sin": "sin",
    "sqrt": "sqrt",
    "stop_gradient": "positive",
    "subtract": "subtract",
    "tanh": "tanh",
}
_POWERS = {-1: "reciprocal", 0.5: "sqrt", 1: "positive", 2: "square"}

NAMESPACE: Mapping[str, Any] = {
    **{name: getattr(np, name) for name in (*_UFUNCS.values(), *_POWERS.values())},
    "add_at": np.add.at,
    "argmax": np.argmax,
    "argmin": np.argmin,
    "broadcast_to": np.broadcast_to,
    "concatenate": np.concatenate,
    "copyto": np.copyto,
    "dot": np.dot,
    "einsum": np.einsum,
    "matmul": np.matmul,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "primitives": primitives,
    "reduce_add": np.add.reduce,
    "reduce_max": np.maximum.reduce,
    "reduce_min": np.minimum.reduce,
}
"""The names that statements use."""


def statement(node: Node, out: str, operands: Sequence[str]) -> str:
    """Return the Python statements that compute ``node`` into the array called ``out``."""
    if node.primitive in _UFUNCS:
        return f"{_UFUNCS[node.primitive]}({', '.join(operands)}, {out})"
    if node.primitive in _KERNELS:
        return _KERNELS[node.primitive](node, out, operands)
    params = "".join(f", {key}={value!r}" for key, value in node.params.items())
    call = f"primitives[{node.primitive!r}].implementation({', '.join(operands)}{params})"
    return f"copyto({out}, {call})"


def constants(node: Node) -> dict[str, Any]:
    """Return the arrays that the statement of ``node`` uses besides its operands."""
    if node.primitive != "sum" or not _by_ones(node):
        return {}
    (x,) = node.inputs
    return {_ones(node): ones(x.shape[0], x.dtype.char)}


def allocates(node: Node) -> bool:
    """Whether computing ``node`` allocates a temporary array."""
    if node.primitive == "power":
        return node.params["exponent"] not in _POWERS
    if node.primitive in {"input", "constant", "reshape", "transpose"}:
        return False
    known = node.primitive in _UFUNCS or node.primitive in _KERNELS
    return not known or node.primitive in {"gather", "scatter_add"}


def index_text(key: Sequence[Any], arrays: Sequence[str] = ()) -> str:
    """Return an index as it is written between brackets."""

    def item(each: Any) -> str:
        if isinstance(each, Slice):
            return f"slice({each.start}, {each.stop}, {each.step})"
        if isinstance(each, At):
            return arrays[each.operand]
        return "..." if each is Ellipsis else repr(each)

    return f"({''.join(item(each) + ', ' for each in key)})"


def _power(node: Node, out: str, operands: Sequence[str]) -> str:
    exponent = node.params["exponent"]
    if exponent in _POWERS:
        return f"{_POWERS[exponent]}({operands[0]}, {out})"
    return f"copyto({out}, {operands[0]} ** {exponent!r})"


def _matmul(node: Node, out: str, operands: Sequence[str]) -> str:
    # Both call BLAS. dot has 0.4 us less to do before that, but clears a large result first, and
    # treats vectors differently.
    plain = all(len(x.shape) == 2 and min(x.shape) > 1 for x in node.inputs)
    small = node.size * node.dtype.itemsize <= 1 << 14
    return f"{'dot' if plain and small else 'matmul'}({operands[0]}, {operands[1]}, {out})"


def _reduction(function: str) -> Kernel:
    def kernel(node: Node, out: str, operands: Sequence[str]) -> str:
        axis, keepdims = node.params["axis"], node.params["keepdims"]
        return f"{function}({operands[0]}, {axis}, None, {out}, {keepdims})"

    return kernel


def _by_ones(node: Node) -> bool:
    (x,) = node.inputs
    return is_product_with_ones(x.shape, x.dtype, node.params["axis"], node.params["keepdims"])


def _ones(node: Node) -> str:
    (x,) = node.inputs
    return f"ones_{x.shape[0]}_{x.dtype.char}"


def _sum(node: Node, out: str, operands: Sequence[str]) -> str:
    if _by_ones(node):
        return f"dot({_ones(node)}, {operands[0]}, {out})"
    return _reduction("reduce_add")(node, out, operands)


def _extreme(function: str) -> Kernel:
    return lambda node, out, operands: f"{function}({operands[0]}, {operands[1]}, out={out})"


def _position(function: str) -> Kernel:
    return lambda node, out, operands: f"{function}({operands[0]}, {node.params['axis']}, {out})"


def _where(node: Node, out: str, operands: Sequence[str]) -> str:
    mask, a, b = operands
    return f"copyto({out}, {b}); copyto({out}, {a}, where={mask})"


def _scatter(node: Node, out: str, operands: Sequence[str]) -> str:
    return f"{out}.fill(0); {out}[{index_text(node.params['key'])}] = {operands[0]}"


def _scatter_add(node: Node, out: str, operands: Sequence[str]) -> str:
    key = index_text(node.params["key"], operands[1:])
    return f"{out}.fill(0); add_at({out}, {key}, {operands[0]})"


def _gather(node: Node, out: str, operands: Sequence[str]) -> str:
    return f"copyto({out}, {operands[0]}[{index_text(node.params['key'], operands[1:])}])"


def _concatenate(node: Node, out: str, operands: Sequence[str]) -> str:
    return f"concatenate(({', '.join(operands)},), {node.params['axis']}, {out})"


def _einsum(node: Node, out: str, operands: Sequence[str]) -> str:
    return f"einsum({node.params['subscripts']!r}, {', '.join(operands)}, out={out})"


def _copy(node: Node, out: str, operands: Sequence[str]) -> str:
    return f"copyto({out}, {operands[0]}, 'unsafe')"


_KERNELS: dict[str, Kernel] = {
    "argmax": _position("argmax"),
    "argmin": _position("argmin"),
    "astype": _copy,
    "broadcast_to": _copy,
    "concatenate": _concatenate,
    "einsum": _einsum,
    "gather": _gather,
    "index": lambda node, out, operands: (
        f"copyto({out}, {operands[0]}[{index_text(node.params['key'])}])"
    ),
    "matmul": _matmul,
    "max": _reduction("reduce_max"),
    "maximum": _extreme("maximum"),
    "min": _reduction("reduce_min"),
    "minimum": _extreme("minimum"),
    "power": _power,
    "scatter": _scatter,
    "scatter_add": _scatter_add,
    "sum": _sum,
    "where": _where,
}
