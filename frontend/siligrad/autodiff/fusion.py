"""Rewrites that save host operations, for graphs that are executed rather than read.

They keep every bit unless an intermediate value overflows or is subnormal. The compiler does not
use them: it carries scalars and masks itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from siligrad.autodiff.graph import Graph, Node, constant
from siligrad.autodiff.simplify import Rewriter, rewrite

__all__ = ["fuse"]


def fuse(graph: Graph) -> Graph:
    """Return an equivalent graph with fewer elementwise operations.

    * ``a * (b * x)`` with scalars of which one is a power of two: one product.
    * ``-(a * x)`` with a scalar: the sign moves into the scalar.
    * ``x > 0`` beside ``maximum(x, 0)`` asks the latter, so that ``x`` itself may be overwritten.
    * ``a * maximum(x, 0) * (x > 0)``: the mask is zero only where the product is, and goes.
    * ``a * dW``, ``a * db``, ... of all that depends linearly on one error, with one power of two,
      as in a step of gradient descent: the error is multiplied instead, where it is smallest.
    """
    graph = rewrite(graph, _RULES)
    carried = rewrite(_Carrier(graph).run(), _RULES)
    fewer = sum(carried.count().values()) < sum(graph.count().values())
    return carried if fewer else graph


def _scalar(node: Node) -> Any:
    """Return the value of a floating-point scalar constant, None for any other node."""
    if node.value is None or node.value.ndim or node.dtype.kind != "f":
        return None
    return node.value[()]


def _scaled(node: Node) -> tuple[Node, Node] | None:
    """Return the scalar constant and the other operand of ``scalar * x``."""
    if node.primitive != "multiply":
        return None
    a, b = node.inputs
    if _scalar(a) is not None and b.dtype == node.dtype:
        return a, b
    return (b, a) if _scalar(b) is not None and a.dtype == node.dtype else None


def _multiply(
    work: Rewriter, operands: tuple[Node, ...], params: Mapping[str, Any], like: Node
) -> Node | None:
    for x, y in (operands, operands[::-1]):
        inner = _scaled(y)
        outer = _scalar(x)
        if outer is not None and inner is not None and y.dtype == like.dtype:
            scalar, rest = inner
            product = _product(outer, _scalar(scalar))
            if product is not None and rest.shape == like.shape:
                factor = work.share(constant(product, like.dtype, like.source))
                return work.make("multiply", (factor, rest), {}, like)
        if x.shape == like.shape and x.dtype == like.dtype and _is_mask_of(y, x):
            return x
    return None


def _product(a: Any, b: Any) -> Any:
    """Return ``a * b`` if multiplying by it is the same as multiplying by one after the other."""
    if not any(np.frexp(abs(scalar))[0] == 0.5 for scalar in (a, b)):
        return None
    product = a * b
    tiny = np.finfo(product.dtype).tiny
    return product if np.isfinite(product) and abs(product) >= tiny else None


def _is_mask_of(mask: Node, product: Node) -> bool:
    """Whether ``mask`` is ``h > 0`` and ``product`` is a multiple of ``h = maximum(x, 0)``."""
    scaled = _scaled(product)
    relu = product if scaled is None else scaled[1]
    return mask.primitive == "greater" and mask.inputs[0] is relu and _is_relu(relu)


def _is_relu(node: Node) -> bool:
    return node.primitive == "maximum" and _scalar(node.inputs[1]) == 0


def _greater(
    work: Rewriter, operands: tuple[Node, ...], params: Mapping[str, Any], like: Node
) -> Node | None:
    relu = work.existing("maximum", operands)
    if relu is None or not _is_relu(relu):
        return None
    return work.make("greater", (relu, operands[1]), {}, like)


def _negative(
    work: Rewriter, operands: tuple[Node, ...], params: Mapping[str, Any], like: Node
) -> Node | None:
    (x,) = operands
    scaled = _scaled(x)
    if scaled is None:
        return None
    scalar, rest = scaled
    assert scalar.value is not None
    negated = work.share(constant(-scalar.value, scalar.dtype, like.source))
    return work.make("multiply", (negated, rest), {}, like)


_RULES = {"multiply": _multiply, "negative": _negative, "greater": _greater}


# --- carrying scalars towards the beginning

_LINEAR = frozenset({"negative", "reshape", "sum", "transpose"})


class _Carrier:
    """Moves products with a power of two to the first value from which only scaled ones follow.

    ``wish`` of a node is the scalar that all of its users want it multiplied by: users that do
    nothing else, and linear operations whose own users want the same of them.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        users: dict[Node, list[Node]] = {node: [] for node in graph.nodes}
        for node in graph.nodes:
            for operand in dict.fromkeys(node.inputs):
                users[operand].append(node)
        self.wish: dict[Node, Node | None] = {}
        for node in reversed(graph.nodes):
            wishes = {self._wish_of(user, node) for user in users[node]}
            fixed = node in graph.outputs or not node.inputs
            self.wish[node] = None if fixed or len(wishes) != 1 else wishes.pop()

    def _wish_of(self, user: Node, operand: Node) -> Node | None:
        scaled = _scaled(user)
        if scaled is not None and scaled[1] is operand and user.dtype == operand.dtype:
            scalar, _ = scaled
            power = np.frexp(abs(_scalar(scalar)))[0] == 0.5
            return scalar if power and self.wish[user] is None else None
        return self.wish[user] if _through(user) is operand else None

    def run(self) -> Graph:
        """Return the graph with every wish fulfilled as early as possible."""
        work = Rewriter({})
        new: dict[Node, Node] = {}
        for node in self.graph.nodes:
            if not node.inputs:
                new[node] = node if node.primitive == "input" else work.share(node)
                continue
            scaled = _scaled(node)
            if scaled is not None and self.wish[scaled[1]] is not None:
                new[node] = new[scaled[1]]  # it is multiplied already
                continue
            operands = tuple(new[operand] for operand in node.inputs)
            made = work.make(node.primitive, operands, node.params, node)
            wish, through = self.wish[node], _through(node)
            if wish is not None and (through is None or self.wish[through] is None):
                made = work.make("multiply", (work.share(wish), made), {}, node)
            new[node] = made
        outputs = tuple(new[node] for node in self.graph.outputs)
        return replace(self.graph, outputs=outputs, nodes=work.in_order(self.graph, outputs))


def _through(node: Node) -> Node | None:
    """Return the operand that may be multiplied in the place of ``node``, None if there is none.

    Of a product it is the one that comes from the backward pass: the error.
    """
    if node.primitive in _LINEAR:
        return node.inputs[0]
    if node.primitive not in {"matmul", "multiply"}:
        return None
    errors = [operand for operand in node.inputs if _is_error(operand)]
    if len(errors) == 2 and node.primitive == "multiply":
        errors.pop()  # elementwise rules are written g * factor
    fits = len(errors) == 1 and errors[0].dtype == node.dtype
    return errors[0] if fits else None


def _is_error(node: Node) -> bool:
    """Whether ``node`` is a cotangent, not an activation or a weight that a rule transposed."""
    while node.primitive in {"reshape", "transpose"}:
        node = node.inputs[0]
    return node.backward and node.dtype.kind == "f"
