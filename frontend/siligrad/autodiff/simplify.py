"""Make a graph smaller without changing what it computes.

One walk over the nodes rebuilds each from its simplified operands: constants are folded, equal
nodes are shared, trivial algebra disappears, and what the outputs do not need is left out. Values
stay the same to the last bit, except that ``x + 0`` keeps the sign of a negative zero, and that
numpy may sum a transposed array in another order after ``b + a`` has become the ``a + b`` before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from siligrad.autodiff.graph import Graph, Node, constant, needed_by
from siligrad.autodiff.tracer import primitives

__all__ = ["Rewriter", "rewrite", "simplify"]

Rule: TypeAlias = Callable[..., Node | None]

_COMMUTATIVE = frozenset({"add", "multiply", "equal", "not_equal", "logical_and", "logical_or"})
_SMALL = 1024  # bytes up to which constants are compared by value


def simplify(graph: Graph) -> Graph:
    """Return an equivalent graph with the same inputs and outputs and no superfluous node.

    * Nodes that no output needs are dropped; inputs stay.
    * An operation that occurs twice is computed once, at its first place.
    * An operation on constants becomes a constant. A constant array whose elements are all equal is
      treated as its scalar.
    * An elementwise operand loses a broadcast that the operation would do by itself: scalars stay
      scalars.
    * ``x * 1``, ``x / 1``, ``x + 0``, ``x - 0``, ``x ** 1``, ``-(-x)``, moves that move nothing
      and moves of moves are replaced by what they are.
    """
    return rewrite(graph, _RULES)


def rewrite(graph: Graph, rules: Mapping[str, Rule]) -> Graph:
    """Rebuild a graph from its first node to its last with the given rules, and check it.

    Shared nodes, folded constants and dropped broadcasts come with it.
    """
    work = Rewriter(rules)
    new: dict[Node, Node] = {}
    for node in graph.nodes:
        if node.primitive == "input":
            new[node] = node
        elif node.primitive == "constant":
            new[node] = work.share(node)
        else:
            operands = tuple(new[operand] for operand in node.inputs)
            new[node] = work.make(node.primitive, operands, node.params, node)
    outputs = tuple(new[node] for node in graph.outputs)
    return replace(graph, outputs=outputs, nodes=work.in_order(graph, outputs)).check()


class Rewriter:
    """Makes nodes, each in its simplest form and only once.

    ``rules`` has for some primitives a function ``(rewriter, operands, params, like)`` that returns
    a simpler node than the primitive applied to ``operands``, or None.
    """

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        self.rules = rules
        self.known: dict[Any, Node] = {}

    def share(self, node: Node) -> Node:
        """Return the first node that is equal to ``node``."""
        if node.value is None:
            key = _key(node.primitive, node.inputs, node.params)
        elif node.value.nbytes <= _SMALL:
            key = (node.dtype, node.shape, node.value.tobytes())
        else:
            key = id(node.value)
        return self.known.setdefault(key, node)

    def existing(self, primitive: str, operands: tuple[Node, ...]) -> Node | None:
        """Return the node of an operation without parameters if there is one already."""
        return self.known.get(_key(primitive, operands, {}))

    def in_order(self, graph: Graph, outputs: Iterable[Node]) -> tuple[Node, ...]:
        """Return the inputs of ``graph`` and what ``outputs`` need, in the order it was made."""
        needed = needed_by(outputs)
        return (*graph.inputs, *(node for node in self.known.values() if node in needed))

    def make(
        self, primitive: str, operands: tuple[Node, ...], params: Mapping[str, Any], like: Node
    ) -> Node:
        """Return the simplest node for an operation with the shape, type and line of ``like``."""
        if primitives[primitive].elementwise and primitive != "broadcast_to":
            uniform = self._uniform(primitive, operands, params, like)
            if uniform is not None:
                return uniform
            operands = self._without_broadcasts(operands, like.shape)
        if all(operand.value is not None for operand in operands) and primitive != "broadcast_to":
            value = primitives[primitive].implementation(*(x.value for x in operands), **params)
            return self.share(constant(value, like.dtype, like.source))
        rule = self.rules.get(primitive)
        if rule is not None:
            simpler = rule(self, operands, params, like)
            if simpler is not None:
                return simpler
        node = Node(primitive, operands, params, like.shape, like.dtype, source=like.source)
        return self.share(node)

    def move(self, primitive: str, operand: Node, like: Node, **params: Any) -> Node:
        """Make a reshape, transpose or broadcast of one operand."""
        return self.make(primitive, (operand,), MappingProxyType(params), like)

    def scalar(self, node: Node) -> Node | None:
        """Return the scalar constant that fills ``node``, or None if there is no such scalar."""
        if node.primitive == "broadcast_to":
            return self.scalar(node.inputs[0])
        value = node.value
        if value is None or value.size == 0:
            return None
        if value.ndim == 0:
            return node
        first = value.reshape(-1)[0]
        if value.tobytes() != first.tobytes() * value.size:
            return None
        return self.share(constant(first, node.dtype, node.source))

    def _uniform(
        self, primitive: str, operands: tuple[Node, ...], params: Mapping[str, Any], like: Node
    ) -> Node | None:
        """Compute an elementwise operation of filled arrays once, and fill with its result."""
        scalars = [self.scalar(operand) for operand in operands]
        if not all(scalars):
            return None
        values = [scalar.value for scalar in scalars if scalar is not None]
        value = primitives[primitive].implementation(*values, **params)
        filler = self.share(constant(value, like.dtype, like.source))
        return self.move("broadcast_to", filler, like, shape=like.shape)

    def _without_broadcasts(
        self, operands: tuple[Node, ...], shape: tuple[int, ...]
    ) -> tuple[Node, ...]:
        """Drop the broadcasts that the operation does by itself."""
        for k, operand in enumerate(operands):
            smaller = self.scalar(operand) if operand.shape else None
            if smaller is None and operand.primitive == "broadcast_to":
                smaller = operand.inputs[0]
            if smaller is None:
                continue
            changed = (*operands[:k], smaller, *operands[k + 1 :])
            if np.broadcast_shapes(*(each.shape for each in changed)) == shape:
                operands = changed
        return operands


def _key(primitive: str, operands: tuple[Node, ...], params: Mapping[str, Any]) -> Any:
    ids = tuple(id(operand) for operand in operands)
    if primitive in _COMMUTATIVE:
        ids = tuple(sorted(ids))
    return primitive, ids, tuple(sorted(params.items(), key=_first))


def _first(item: tuple[str, Any]) -> str:
    return item[0]


def _is(node: Node, number: float) -> bool:
    return node.value is not None and node.value.ndim == 0 and bool(node.value == number)


def _same(node: Node, like: Node) -> Node | None:
    return node if node.shape == like.shape and node.dtype == like.dtype else None


def _neutral(left: float | None, right: float) -> Callable[..., Node | None]:
    """Return the rule of an operation with neutral elements on its left and right side."""

    def rule(
        work: Rewriter, operands: tuple[Node, ...], params: Mapping[str, Any], like: Node
    ) -> Node | None:
        a, b = operands
        if _is(b, right):
            return _same(a, like)
        return _same(b, like) if left is not None and _is(a, left) else None

    return rule


def _negative(
    work: Rewriter, operands: tuple[Node, ...], params: Mapping[str, Any], like: Node
) -> Node | None:
    return operands[0].inputs[0] if operands[0].primitive == "negative" else None


def _power(
    work: Rewriter, operands: tuple[Node, ...], params: Mapping[str, Any], like: Node
) -> Node | None:
    return _same(operands[0], like) if params["exponent"] == 1 else None


def _identity(
    work: Rewriter, operands: tuple[Node, ...], params: Mapping[str, Any], like: Node
) -> Node | None:
    return _same(operands[0], like)


def _reshape(
    work: Rewriter, operands: tuple[Node, ...], params: Mapping[str, Any], like: Node
) -> Node | None:
    (x,) = operands
    if x.shape == like.shape:
        return x
    if x.primitive == "reshape":
        return work.move("reshape", x.inputs[0], like, **params)
    return _refill(work, x, like)


def _transpose(
    work: Rewriter, operands: tuple[Node, ...], params: Mapping[str, Any], like: Node
) -> Node | None:
    (x,) = operands
    axes = params["axes"]
    if axes == tuple(range(len(axes))):
        return x
    if x.primitive == "transpose":
        inner = x.params["axes"]
        return work.move("transpose", x.inputs[0], like, axes=tuple(inner[k] for k in axes))
    return _refill(work, x, like)


def _broadcast_to(
    work: Rewriter, operands: tuple[Node, ...], params: Mapping[str, Any], like: Node
) -> Node | None:
    (x,) = operands
    if x.shape == like.shape:
        return x
    if x.primitive == "broadcast_to":
        return work.move("broadcast_to", x.inputs[0], like, shape=like.shape)
    scalar = work.scalar(x)
    if scalar is not None and scalar is not x:
        return work.move("broadcast_to", scalar, like, shape=like.shape)
    return None


def _refill(work: Rewriter, x: Node, like: Node) -> Node | None:
    """A move of an array that is filled with one scalar is another filled array."""
    if x.primitive == "broadcast_to" and x.inputs[0].shape == ():
        return work.move("broadcast_to", x.inputs[0], like, shape=like.shape)
    return None


def _sum(
    work: Rewriter, operands: tuple[Node, ...], params: Mapping[str, Any], like: Node
) -> Node | None:
    return _same(operands[0], like) if params["axis"] == () else None


_RULES: dict[str, Rule] = {
    "add": _neutral(0, 0),
    "subtract": _neutral(None, 0),
    "multiply": _neutral(1, 1),
    "divide": _neutral(None, 1),
    "negative": _negative,
    "power": _power,
    "astype": _identity,
    "stop_gradient": _identity,
    "reshape": _reshape,
    "transpose": _transpose,
    "broadcast_to": _broadcast_to,
    "sum": _sum,
}
