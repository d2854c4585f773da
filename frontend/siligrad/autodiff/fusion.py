"""Rewrites that save host operations, for graphs that are executed rather than read.

They keep every bit unless an intermediate value overflows or is subnormal. The compiler does not
use them: it carries scalars and masks itself.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    """
    return rewrite(graph, {"multiply": _multiply, "negative": _negative, "greater": _greater})


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
