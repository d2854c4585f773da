"""Where every value of a graph lives while it is executed.

The planner walks a graph once, knows when each value is read for the last time, and gives its
memory to a later value; an elementwise operation overwrites an operand that nobody needs any more.
Transposes, slices and reshapes are views. The result is a list of statements over named arrays:
the host's static program.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from siligrad.autodiff.graph import Graph, Node, kind
from siligrad.autodiff.kernels import constants, index_text, statement
from siligrad.autodiff.tracer import primitives

__all__ = ["Buffer", "Plan", "make_plan"]

_LEAVES = ("input", "constant")


@dataclass(frozen=True, slots=True)
class Buffer:
    """A temporary array: its name, and the block of memory at whose start it lies."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    block: int


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a value is: an expression, the memory behind it, and how it lies there."""

    name: str
    root: str  # the input, constant, buffer or output that owns the memory
    contiguous: bool = True
    whole: bool = True  # it is all of its root, in the root's shape


@dataclass(eq=False, slots=True)
class Plan:
    """A graph with memory for every value.

    Parameters
    ----------
    graph : :class:`~siligrad.autodiff.graph.Graph`
        What is computed.
    inputs : sequence of :class:`str`
        Name of each input's array.
    donated : sequence of :class:`int`
        Positions of the inputs that may be overwritten.
    outputs : sequence of :class:`str`
        Name of each output's array; inputs among them are donated memory.
    constants : dict
        Constant arrays by name.
    buffers : list of :class:`Buffer`
        Temporary arrays.
    blocks : list of :class:`int`
        Size in bytes of each block of memory that buffers share.
    views : list of :class:`str`
        Statements that name views of fixed memory; executed once.
    body : list of :class:`str`
        Statements that compute; executed in every run.
    """

    graph: Graph
    inputs: Sequence[str]
    donated: Sequence[int] = ()
    outputs: list[str] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    buffers: list[Buffer] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    views: list[str] = field(default_factory=list)
    body: list[str] = field(default_factory=list)


def make_plan(graph: Graph, donated: Sequence[int] = ()) -> Plan:
    """Plan the execution of ``graph``.

    ``donated`` are positions of inputs whose memory may be overwritten: each serves the first
    output of its shape and type that has no memory yet.
    """
    return _Planner(graph, donated).run()


class _Planner:
    def __init__(self, graph: Graph, donated: Sequence[int]) -> None:
        self.graph = graph
        self.plan = Plan(graph, [f"i{k}" for k in range(len(graph.inputs))], tuple(donated))
        self.places: dict[Node, _Place] = {}
        self.roots: dict[Node, Node] = {}  # the node that owns the memory of a node
        self.last_read = self._last_reads()
        self.free: dict[int, list[int]] = defaultdict(list)  # blocks by size
        self.blocks: dict[Node, int] = {}
        self.outputs = self._name_outputs(donated)
        self.view_numbers = itertools.count()
        self.constant_numbers = itertools.count()

    def run(self) -> Plan:
        for node, name in zip(self.graph.inputs, self.plan.inputs, strict=True):
            self.places[node] = _Place(name, name)
        for step, node in enumerate(self.graph.nodes):
            if node.primitive == "input":
                continue
            if node.primitive == "constant":
                name = f"c{next(self.constant_numbers)}"
                self.plan.constants[name] = node.value
                self.places[node] = _Place(name, name)
            else:
                self._place(node, step)
        self._finish_outputs()
        return self.plan

    # --- lifetimes

    def _is_view(self, node: Node) -> bool:
        """Whether the node only looks differently at memory that stays where it is."""
        if node.primitive == "transpose":
            return True
        if node.primitive == "reshape":
            return self._is_contiguous(node.inputs[0])
        # Slices and broadcasts of what changes its place from run to run would cost a call each
        # time.
        return node.primitive in {"index", "broadcast_to"} and self._root(
            node.inputs[0]
        ).primitive not in {"input"}

    def _is_contiguous(self, node: Node) -> bool:
        if node.primitive == "transpose":
            return sum(size > 1 for size in node.shape) < 2 and self._is_contiguous(node.inputs[0])
        return not (node.primitive in {"index", "broadcast_to"} and self._is_view(node))

    def _root(self, node: Node) -> Node:
        if node not in self.roots:
            view = node.primitive not in _LEAVES and self._is_view(node)
            self.roots[node] = self._root(node.inputs[0]) if view else node
        return self.roots[node]

    def _last_reads(self) -> dict[Node, int]:
        last: dict[Node, int] = {}
        for step, node in enumerate(self.graph.nodes):
            for operand in node.inputs:
                last[self._root(operand)] = step
        for node in self.graph.outputs:
            if self._root(node) is not node or node.primitive in _LEAVES:
                last[self._root(node)] = len(self.graph.nodes)  # copied at the end
        return last

    # --- outputs

    def _name_outputs(self, donated: Sequence[int]) -> dict[Node, str]:
        """Choose the memory of each output; return it for the nodes that are computed into it."""
        position = {node: k for k, node in enumerate(self.graph.nodes)}
        waiting = list(donated)
        direct: dict[Node, str] = {}
        for k, node in enumerate(self.graph.outputs):
            name = f"o{k}"
            target = next((j for j in waiting if self._fits(j, node)), None)
            if target is not None:
                waiting.remove(target)
                name = self.plan.inputs[target]
            self.plan.outputs.append(name)
            own = self._root(node) is node and node.primitive not in _LEAVES
            if not own or node in direct:
                continue
            if target is None or self._may_overwrite(target, node, position[node]):
                direct[node] = name
            else:
                self.last_read[node] = len(self.graph.nodes)  # copied at the end
        return direct

    def _fits(self, target: int, node: Node) -> bool:
        donor = self.graph.inputs[target]
        if (donor.shape, donor.dtype) != (node.shape, node.dtype):
            return False
        # An input that is returned is copied at the end, when donated memory is overwritten
        # already.
        root = self._root(node)
        return root.primitive != "input" or node is donor

    def _may_overwrite(self, target: int, node: Node, step: int) -> bool:
        """Whether ``node`` can be computed into the memory of an input without harm."""
        donor = self.graph.inputs[target]
        last = self.last_read.get(donor, -1)
        if last < step:
            return True
        return last == step and _works_in_place(node, donor, self._root)

    def _finish_outputs(self) -> None:
        from_inputs: list[str] = []
        others: list[str] = []
        for node, name in zip(self.graph.outputs, self.plan.outputs, strict=True):
            place = self.places[node]
            if place.name != name:
                copy = f"copyto({name}, {place.name})"
                (from_inputs if place.root in self.plan.inputs else others).append(copy)
        self.plan.body += from_inputs + others

    # --- memory

    def _place(self, node: Node, step: int) -> None:
        if self._root(node) is not node:
            self._look(node)
        else:
            out = self._memory(node, step)
            target = out.name
            operands = [self.places[operand].name for operand in node.inputs]
            if (
                node.primitive == "reshape"
            ):  # of memory that does not lie in order: copy it in its own shape
                target = f"v{next(self.view_numbers)}"
                self._name_view(target, out, f"{out.name}.reshape({node.inputs[0].shape})")
                line = f"copyto({target}, {operands[0]})"
            else:
                line = statement(node, target, operands)
                self.plan.constants.update(constants(node))
            self.places[node] = out
            self.plan.body.append(f"{line}  # {kind(node)}")
        for operand in {self._root(operand) for operand in node.inputs}:
            if self.last_read[operand] == step:
                self._release(operand)

    def _look(self, node: Node) -> None:
        """Name a view; where its memory is fixed once and for all, else in every run."""
        (x,) = node.inputs
        place = self.places[x]
        match node.primitive:
            case "transpose":
                axes = node.params["axes"]
                turned = axes == tuple(range(len(axes)))[::-1]
                expression = f"{place.name}.{'T' if turned else f'transpose({axes})'}"
            case "reshape":
                expression = f"{place.name}.reshape({node.shape})"
            case "index":
                key = node.params["key"]
                # Without an ellipsis an element would be a copy, not a view.
                key = key if Ellipsis in key else (*key, Ellipsis)
                expression = f"{place.name}[{index_text(key)}]"
            case _:
                expression = f"broadcast_to({place.name}, {node.shape})"
        name = f"v{next(self.view_numbers)}"
        self._name_view(name, place, expression)
        self.places[node] = _Place(name, place.root, self._is_contiguous(node), whole=False)

    def _name_view(self, name: str, place: _Place, expression: str) -> None:
        moves = place.root in self.plan.inputs
        (self.plan.body if moves else self.plan.views).append(f"{name} = {expression}")

    def _memory(self, node: Node, step: int) -> _Place:
        if node in self.outputs:
            return _Place(self.outputs[node], self.outputs[node])
        if primitives[node.primitive].elementwise:
            for operand in node.inputs:
                root = self._root(operand)
                if (
                    root in self.blocks
                    and self.last_read[root] == step
                    and _works_in_place(node, operand, self._root)
                    and self.places[operand].whole
                ):
                    self.blocks[node] = self.blocks.pop(root)
                    return self.places[operand]
        size = -(-max(prod(node.shape) * node.dtype.itemsize, 1) // 64) * 64
        block = self._take(size)
        self.blocks[node] = block
        name = f"b{len(self.plan.buffers)}"
        self.plan.buffers.append(Buffer(name, node.shape, node.dtype, block))
        return _Place(name, name)

    def _take(self, size: int) -> int:
        """Return a free block of at least ``size`` bytes, the smallest, or a new one."""
        fitting = [each for each, blocks in self.free.items() if each >= size and blocks]
        if fitting:
            return self.free[min(fitting)].pop()
        self.plan.blocks.append(size)
        return len(self.plan.blocks) - 1

    def _release(self, node: Node) -> None:
        if node in self.blocks and node not in self.outputs:
            block = self.blocks.pop(node)
            self.free[self.plan.blocks[block]].append(block)


def _works_in_place(node: Node, operand: Node, root: Any) -> bool:
    """Whether ``node`` may write where it reads ``operand``, element by element."""
    if not primitives[node.primitive].elementwise or node.primitive in {"where", "broadcast_to"}:
        return False
    if (operand.shape, operand.dtype) != (node.shape, node.dtype):
        return False
    # No other operand may be a view of the same memory that lies differently.
    return (
        all(other is operand or root(other) is not root(operand) for other in node.inputs)
        and root(operand) is operand
    )
