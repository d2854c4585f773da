"""The computational graph of a function: what it would compute, before it is computed.

:func:`trace` runs a function once on example arguments and returns a :class:`Graph`.
Transformations inside the function (``grad`` in a training step) are recorded like everything
else, so the graph of a step holds the forward pass, the derived backward pass and the update.

>>> from siligrad import numpy as np
>>> layer = trace(lambda x, w: np.maximum(x @ w, 0), np.ones((2, 3)), np.ones((3, 4)))
>>> print(layer)  # doctest: +ELLIPSIS
<lambda>(x: float64[2,3], w: float64[3,4]):
  %0 = matmul(x, w)      float64[2,4]  # ...:1
  %1 = maximum(%0, 0.0)  float64[2,4]  # ...:1
  return %1
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siligrad import tree
from siligrad.autodiff.source import Source, tracing
from siligrad.autodiff.tracer import Tape, Tracer, primitives
from siligrad.autodiff.transforms import argument_names, name_of
from siligrad.errors import GraphError, ShapeError, TraceError

__all__ = ["Argument", "Graph", "Node", "trace"]

_NO_PARAMS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """One value of a graph and how it is made. Nodes are compared by identity.

    Parameters
    ----------
    primitive : :class:`str`
        Name of the primitive that makes the value; ``"input"`` and ``"constant"`` for leaves.
    inputs : :class:`tuple` of :class:`Node`
        The operands.
    params : mapping
        The static parameters of the primitive, hashable.
    shape : :class:`tuple` of :class:`int`
        Size of each dimension of the value.
    dtype : :class:`numpy.dtype`
        Type of its elements.
    name : :class:`str`
        How an input is reached from the function's parameters, such as ``params[0][1]``.
    value : :class:`numpy.ndarray` or None
        The elements of a constant, read-only.
    source : :class:`~siligrad.autodiff.source.Source` or None
        The user's line. A node of a backward pass has the line of the forward node that it derives
        from.
    """

    primitive: str
    inputs: tuple[Node, ...] = ()
    params: Mapping[str, Any] = field(default_factory=lambda: _NO_PARAMS)
    shape: tuple[int, ...] = ()
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(float))
    name: str = ""
    value: NDArray[Any] | None = None
    source: Source | None = None

    @property
    def backward(self) -> bool:
        """Whether a derivative rule made it."""
        return self.source is not None and self.source.backward

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __repr__(self) -> str:
        name = f" {self.name}" if self.name else ""
        return f"<{self.primitive}{name} {kind(self)}>"


def kind(node: Node) -> str:
    """Return the type and shape of a node's value as text, such as ``float64[32,10]``."""
    return f"{node.dtype}[{','.join(map(str, node.shape))}]"


def constant(value: Any, dtype: Any = None, source: Source | None = None) -> Node:
    """Return a constant node with a read-only copy of ``value``."""
    array = np.array(value, dtype)
    array.flags.writeable = False
    return Node("constant", shape=array.shape, dtype=array.dtype, value=array, source=source)


@dataclass(frozen=True, slots=True)
class Argument:
    """A positional argument of the traced function: name, structure and part of the inputs."""

    name: str
    structure: tree.Structure
    slice: slice


@dataclass(frozen=True, eq=False, slots=True)
class Graph:
    """A function as a list of primitives.

    Parameters
    ----------
    name : :class:`str`
        The function's name.
    arguments : :class:`tuple` of :class:`Argument`
        One for each positional argument.
    inputs : :class:`tuple` of :class:`Node`
        The leaves of all arguments in order; those that nothing uses too.
    outputs : :class:`tuple` of :class:`Node`
        The leaves of the result in order.
    out_tree : :class:`~siligrad.tree.Structure`
        How the result is built from them.
    nodes : :class:`tuple` of :class:`Node`
        All nodes, each after its operands.
    """

    name: str
    arguments: tuple[Argument, ...]
    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    out_tree: tree.Structure
    nodes: tuple[Node, ...]

    def values(self, *arrays: Any) -> dict[Node, NDArray[Any]]:
        """Compute every node from the leaves of the arguments.

        Raises
        ------
        ShapeError
            If the number or the shape of the arrays differs from the inputs.
        """
        if len(arrays) != len(self.inputs):
            raise ShapeError(
                f"{self.name} has {len(self.inputs)} inputs, got {len(arrays)} arrays: give the "
                "leaves of all arguments, or call the graph with the arguments themselves"
            )
        values: dict[Node, NDArray[Any]] = {}
        for node, array in zip(self.inputs, arrays, strict=True):
            value = np.asarray(array)
            if value.shape != node.shape:
                raise ShapeError(f"{node.name} must have the shape {node.shape}, not {value.shape}")
            values[node] = value.astype(node.dtype, casting="same_kind", copy=False)
        for node in self.nodes:
            if node.primitive == "constant":
                assert node.value is not None
                values[node] = node.value
            elif node.primitive != "input":
                operands = [values[operand] for operand in node.inputs]
                result = primitives[node.primitive].implementation(*operands, **node.params)
                values[node] = np.asarray(result)
        return values

    def evaluate(self, *arrays: Any) -> tuple[NDArray[Any], ...]:
        """Compute the leaves of the result from the leaves of the arguments."""
        values = self.values(*arrays)
        return tuple(values[node] for node in self.outputs)

    def __call__(self, *args: Any) -> Any:
        """Compute the result from the arguments, as the traced function would.

        Raises
        ------
        ShapeError
            If the arguments are not built like the example arguments.
        """
        return tree.unflatten(self.out_tree, self.evaluate(*self.flatten(*args)))

    def flatten(self, *args: Any) -> list[Any]:
        """Return the leaves of the arguments in the order of :attr:`inputs`."""
        if len(args) != len(self.arguments):
            raise ShapeError(f"{self.name} takes {len(self.arguments)} arguments, got {len(args)}")
        leaves: list[Any] = []
        for argument, value in zip(self.arguments, args, strict=True):
            leaves += tree.flatten_like(argument.structure, value, argument.name)
        return leaves

    def count(self) -> dict[str, int]:
        """Return how often each primitive occurs, most frequent first."""
        found = Counter(node.primitive for node in self.nodes if node.inputs)
        return dict(found.most_common())

    def check(self) -> Graph:
        """Return the graph if it keeps its own rules.

        Every node comes once and after its operands, inputs and constants are well formed,
        parameters can be hashed, and every primitive, applied to zeros, gives the shape and the
        type that its node says.

        Raises
        ------
        GraphError
            If one is broken: a bug in whatever made the graph.
        """
        seen: set[Node] = set()
        for node in self.nodes:
            _check_node(node, seen)
            seen.add(node)
        for node in (*self.inputs, *self.outputs):
            if node not in seen:
                raise GraphError(f"{node!r} is an input or an output but not in the graph")
        if tuple(node for node in self.nodes if node.primitive == "input") != self.inputs:
            raise GraphError("the inputs are not the input nodes in order")
        if len(self.outputs) != self.out_tree.leaf_count:
            raise GraphError(f"{len(self.outputs)} outputs cannot fill {self.out_tree}")
        covered = [k for each in self.arguments for k in range(each.slice.start, each.slice.stop)]
        if covered != list(range(len(self.inputs))):
            raise GraphError("the arguments do not cover the inputs in order")
        return self

    def __str__(self) -> str:
        return write(self)


def _check_node(node: Node, seen: set[Node]) -> None:
    if node in seen:
        raise GraphError(f"{node!r} occurs twice")
    for operand in node.inputs:
        if operand not in seen:
            raise GraphError(f"{node!r} uses {operand!r}, which does not come before it")
    if node.primitive == "input":
        if node.inputs or node.value is not None:
            raise GraphError(f"{node!r} is an input with operands or a value")
        return
    if node.primitive == "constant":
        value = node.value
        if value is None or value.shape != node.shape or value.dtype != node.dtype:
            raise GraphError(f"{node!r} does not have the value that it says")
        return
    if node.primitive not in primitives:
        raise GraphError(f"{node!r} has an unknown primitive")
    hash(tuple(node.params.items()))
    zeros = [np.broadcast_to(np.zeros((), operand.dtype), operand.shape) for operand in node.inputs]
    with np.errstate(all="ignore"):
        result = primitives[node.primitive].implementation(*zeros, **node.params)
    if np.shape(result) != node.shape or np.asarray(result).dtype != node.dtype:
        got = f"{np.asarray(result).dtype}{list(np.shape(result))}"
        raise GraphError(f"{node!r} of {node.inputs} gives {got}")


# --- making a graph


def trace(function: Callable[..., Any], *args: Any) -> Graph:
    """Run ``function`` on example arguments and return the graph of what it computed.

    Only the structure, the shapes and the types of the arguments matter to the graph. The function
    may use transformations (``grad``) and close over arrays, which become constants; it must not
    close over traced values.

    Raises
    ------
    TraceError
        If the function does what depends on data, returns something else than arrays, or is traced
        inside a transformation.
    """
    with tracing():
        tape = Tape()
        names = argument_names(function, len(args))
        arguments: list[Argument] = []
        input_names: list[str] = []
        lifted = []
        for name, arg in zip(names, args, strict=True):
            leaves, structure = tree.flatten(arg)
            paths = tree.paths(structure, name)
            start = len(input_names)
            input_names += paths
            arguments.append(Argument(name, structure, slice(start, len(input_names))))
            tracers = [
                tape.lift(_example(leaf, path)) for leaf, path in zip(leaves, paths, strict=True)
            ]
            lifted.append(tree.unflatten(structure, tracers))
        try:
            result = function(*lifted)
        finally:
            records = tape.close()
    leaves, out_tree = tree.flatten(result)
    if result is None:
        raise TraceError(f"{name_of(function)} returned None: did it forget to return its result?")
    build = _Builder(tape, records, input_names)
    outputs = tuple(build.node(leaf, None) for leaf in leaves)
    inputs = tuple(node for node in build.nodes if node.primitive == "input")
    graph = Graph(
        name_of(function), tuple(arguments), inputs, outputs, out_tree, tuple(build.nodes)
    )
    return graph.check()


def _example(leaf: Any, path: str) -> NDArray[Any]:
    if type(leaf) is Tracer:
        raise TraceError(f"trace of the traced value {path}: call trace outside of transformations")
    array = np.asarray(leaf)
    if array.dtype.kind not in "biuf":
        raise TraceError(f"{path} must be an array of real numbers, not {leaf!r}")
    return array


class _Builder:
    """Turns the records of a tape into nodes."""

    def __init__(self, tape: Tape, records: Sequence[Tracer], input_names: Sequence[str]) -> None:
        self.tape = tape
        self.nodes: list[Node] = []
        self.made: list[Node] = []  # the node of each record
        self.arrays: dict[int, Node] = {}  # constants by the id of their array
        names = iter(input_names)
        for record in records:
            if record.primitive.name == "input":
                node = Node("input", (), _NO_PARAMS, record.shape, record.dtype, next(names))
            else:
                node = self._application(record)
            self.nodes.append(node)
            self.made.append(node)

    def _application(self, record: Tracer) -> Node:
        operands = tuple(self.node(operand, record) for operand in record.inputs)
        return Node(
            record.primitive.name,
            operands,
            MappingProxyType(dict(record.params)),
            record.shape,
            record.dtype,
            source=record.source,
        )

    def node(self, operand: Any, record: Tracer | None) -> Node:
        """Return the node of an operand of ``record``, or of a result."""
        if type(operand) is Tracer:
            if operand.tape is self.tape:
                return self.made[operand.index]
            raise TraceError(
                "trace inside a transformation of a function that uses its traced values: call "
                f"trace outside ({operand!r})"
            )
        if isinstance(operand, np.ndarray) and id(operand) in self.arrays:
            return self.arrays[id(operand)]
        if not isinstance(operand, (np.ndarray, np.generic, float, int)):
            raise TraceError(f"a traced function must return arrays, not {operand!r}")
        node = constant(operand, _dtype_of(operand, record))
        if isinstance(operand, np.ndarray):
            self.arrays[id(operand)] = node
        self.nodes.append(node)
        return node


def _dtype_of(operand: Any, record: Tracer | None) -> Any:
    """Return the type of a constant; a Python number takes that of the operation it is used in."""
    if record is None or isinstance(operand, (np.ndarray, np.generic)):
        return None
    if record.dtype.kind != "b":
        return record.dtype
    others = [other.dtype if hasattr(other, "dtype") else other for other in record.inputs]
    return np.result_type(*others)


# --- writing a graph


def write(graph: Graph) -> str:
    """Return the graph as text, one operation a line, with its type and the user's line."""
    labels: dict[Node, str] = {}
    lines: list[tuple[str, str, str]] = []
    for node in graph.nodes:
        if node.primitive == "input":
            labels[node] = node.name
        elif node.value is not None and node.value.ndim == 0:
            labels[node] = str(node.value.item())
        else:
            labels[node] = f"%{len(lines)}"
            lines.append((f"{labels[node]} = {_call(node, labels)}", kind(node), _line_of(node)))
    arguments = ", ".join(f"{node.name}: {kind(node)}" for node in graph.inputs)
    result = tree.unflatten(graph.out_tree, [Written(labels[node]) for node in graph.outputs])
    width = max((len(call) for call, _, _ in lines), default=0)
    body = [f"  {call:{width}}  {types}{line}" for call, types, line in lines]
    return "\n".join([f"{graph.name}({arguments}):", *body, f"  return {result}"])


class Written(str):
    """Text that is written without quotes inside a container."""

    __slots__ = ()
    __repr__ = str.__str__


def _call(node: Node, labels: Mapping[Node, str]) -> str:
    operands = [labels[operand] for operand in node.inputs]
    params = [f"{key}={value}" for key, value in node.params.items()]
    return f"{node.primitive}({', '.join(operands + params)})"


def _line_of(node: Node) -> str:
    if node.source is None:
        return ""
    of = "derivative of " if node.backward else ""
    return f"  # {of}{PurePath(node.source.file).name}:{node.source.line}"


def needed_by(outputs: Iterable[Node]) -> set[Node]:
    """Return ``outputs`` and everything that they are computed from."""
    needed: set[Node] = set()
    waiting = list(outputs)
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            waiting += node.inputs
    return needed
