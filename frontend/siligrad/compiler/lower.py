"""Lower a graph: each node by a rule to a value, results and updates to operations.

Each node becomes a :class:`~siligrad.compiler.algebra.Value`; a value is turned into an operation
only when a product, a mask or a result needs it in a memory. The graph is whatever the user wrote
and autodiff derived: nothing here knows of layers, or of what is forward and what is backward.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from siligrad.autodiff import Graph, Node
from siligrad.compiler.algebra import (
    Gated,
    Impossible,
    OneSided,
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
from siligrad.compiler.emit import Emitter, matrix_shape
from siligrad.compiler.ir import Kernel, Matrix, Reading, Term, View
from siligrad.errors import SiligradError
from siligrad.isa import Gate
from siligrad.program import Role

__all__ = ["LoweringError", "lower"]


class LoweringError(SiligradError, ValueError):
    """The hardware cannot do what the function asks for.

    The message says where, what, and what instead.
    """


_SOFTMAX_INSTEAD = (
    "softmax cross-entropy stays on the host; train with siligrad.losses.squared_hinge or mse"
)
_INSTEAD = {
    "exp": _SOFTMAX_INSTEAD,
    "log": _SOFTMAX_INSTEAD,
    "tanh": "use np.maximum(x, 0) as the activation",
    "minimum": "write min(x, 0) as -np.maximum(-x, 0)",
}


def lower(graph: Graph, resident: Sequence[bool], in_place: Mapping[int, int]) -> Kernel:
    """Lower `graph`.

    Parameters
    ----------
    graph
        Simplified: no dead nodes, common subexpressions shared.
    resident
        For each input of the graph, whether it stays in the device.
    in_place
        For an output of the graph, by index, the input whose memory receives it.

    Raises
    ------
    LoweringError
        With the primitive, the user's line and the alternative.
    """
    return _Lowering(graph, resident, in_place).kernel()


class _Lowering:
    def __init__(self, graph: Graph, resident: Sequence[bool], in_place: Mapping[int, int]) -> None:
        self._graph = graph
        self._in_place = in_place
        self._values: dict[Node, Value] = {}
        self._emitter = Emitter()
        self._readings: dict[Matrix, Reading] = {}
        self._arguments = [
            self._input(node, stays) for node, stays in zip(graph.inputs, resident, strict=True)
        ]

    def kernel(self) -> Kernel:
        for node in self._graph.nodes:
            if node.primitive != "input":
                self._values[node] = self._visit(node)
                self._emitter.note(self._values[node])
        results = [
            self._argument_of(index) or self._result(index, node)
            for index, node in enumerate(self._graph.outputs)
        ]
        self._emit_updates()
        kernel = Kernel(
            tuple(self._emitter.matrices),
            tuple(self._emitter.operations),
            tuple(self._arguments),
            tuple(results),
            frozenset(self._emitter.signs),
            self._readings,
        )
        kernel.check()
        return kernel

    # Arguments and results.

    def _input(self, node: Node, resident: bool) -> Matrix:
        if len(node.shape) not in (1, 2) or 0 in node.shape:
            raise LoweringError(
                f"argument {node.name} has shape {node.shape}; the hardware holds matrices and "
                "vectors. A scalar such as a learning rate must be a Python number that the "
                "function closes over"
            )
        rows, columns = matrix_shape(node)
        role = Role.RESIDENT if resident else Role.INPUT
        matrix = Matrix(str(node.name), role, rows, columns, node.shape, node)
        operand = _is_operand(self._graph, node)
        self._values[node] = self._emitter.hold(matrix, multiplied=operand)
        return matrix

    def _argument_of(self, index: int) -> Matrix | None:
        """Return the argument that result `index` takes the place of, if it does."""
        if index not in self._in_place:
            return None
        return self._arguments[self._in_place[index]]

    def _result(self, index: int, node: Node) -> Matrix:
        """Return what holds a result that takes nothing's place."""
        value = self._values[node]
        try:
            if isinstance(value.core, Uniform):
                raise Impossible("it is a constant")
            if len(node.shape) not in (1, 2):
                raise Impossible(
                    "it is a scalar, and the hardware sums rows only; return the array that it is "
                    "computed from (a loss's margins or errors) and take the mean of what is read"
                )
            margin = isinstance(value.core, Rectified) and isinstance(value.core.inner, Signed)
            if margin:
                value = self._emitter.margin(value)
            stored = self._emitter.store(value, node, Role.OUTPUT)
            assert isinstance(stored.core, Stored)
            view = stored.core.view
            if view.matrix.role in (Role.INPUT, Role.RESIDENT):
                raise Impossible("it is an argument handed back; read the argument instead")
            if view.transposed:
                raise Impossible("it is the transpose of a stored array; return it as it is")
            scale = abs(stored.factor) if margin else stored.factor
            reading = Reading(scale, magnitude=margin)
            if self._readings.setdefault(view.matrix, reading) != reading:
                raise Impossible(
                    "it is a multiple, or the magnitude, of another result; return one of them and "
                    "compute the other from it"
                )
        except Impossible as reason:
            raise self._refusal(node, f"result {index} cannot be computed: {reason}") from None
        return view.matrix

    def _emit_updates(self) -> None:
        """Compute the results that take an argument's place, once nothing reads the old ones."""
        updates: dict[Matrix, tuple[Sum, Node]] = {}
        for index in self._in_place:
            matrix, node = self._arguments[self._in_place[index]], self._graph.outputs[index]
            try:
                total = self._update(matrix, self._values[node])
            except Impossible as reason:
                raise self._refusal(node, f"result {index} cannot be computed: {reason}") from None
            if total is not None:
                updates[matrix] = total, node
        others = {matrix: total.reads - {matrix} for matrix, (total, _) in updates.items()}
        readers = Counter(matrix for reads in others.values() for matrix in reads)
        while updates:
            free = next((matrix for matrix in updates if not readers[matrix]), None)
            matrix = next(iter(updates)) if free is None else free
            total, node = updates.pop(matrix)
            readers.subtract(others[matrix])
            try:
                if free is None:
                    raise Impossible("it and another are each computed from the other's old values")
                self._emitter.emit(matrix, total, Gate.NONE, node, update=True)
            except Impossible as reason:
                raise self._refusal(node, f"{matrix.name} cannot be computed: {reason}") from None

    @staticmethod
    def _update(matrix: Matrix, value: Value) -> Sum | None:
        """Return what is to be computed into the memory of `matrix`; None if it stays as it is."""
        total = as_sum(value)
        if total.parts == ((1.0, View(matrix)),):
            return total if total.terms else None
        raise Impossible(
            f"it replaces {matrix.name}, so it must be {matrix.name} plus or minus products of "
            "matrices (W - rate * gradient)"
        )

    # Nodes.

    def _visit(self, node: Node) -> Value:
        if node.primitive == "constant":
            return self._constant(node)
        rule = _RULES.get(node.primitive)
        if rule is None:
            instead = _INSTEAD.get(
                node.primitive,
                "the hardware multiplies matrices and thresholds at zero; see docs/operations.md",
            )
            raise self._refusal(node, f"{node.primitive} has no lowering: {instead}")
        try:
            return rule(self, node)
        except Impossible as reason:
            raise self._refusal(node, f"{node.primitive} has no lowering here: {reason}") from None

    def _constant(self, node: Node) -> Value:
        array = np.asarray(node.value, dtype=np.float64)
        if array.size and (array == array.flat[0]).all():
            return scalar(float(array.flat[0]))
        if array.ndim not in (1, 2):
            raise self._refusal(node, f"a constant of shape {array.shape} does not fit a memory")
        rows, columns = matrix_shape(node)
        matrix = Matrix(
            f"constant {len(self._emitter.matrices)}",
            Role.CONSTANT,
            rows,
            columns,
            node.shape,
            node,
            initial=array,
        )
        return self._emitter.hold(matrix)

    def _operand(self, node: Node, of: Node) -> Value:
        """Return the value of an input of `of`, broadcast to the shape of `of`."""
        value = self._values[node]
        return self._broadcast(value, node, of)

    def _broadcast(self, value: Value, node: Node, to: Node) -> Value:
        if isinstance(value.core, Uniform) or node.shape == to.shape:
            return value
        rows, columns = matrix_shape(to)
        if matrix_shape(node) == (rows, columns):
            return value
        if matrix_shape(node) == (1, columns) and len(to.shape) == 2:
            stored = self._emitter.store(value, node)
            assert isinstance(stored.core, Stored)
            # a row added to every row is a product with ones
            return Value(stored.factor, Sum((Term(1.0, None, stored.core.view),)))
        raise Impossible(
            f"an array of shape {node.shape} cannot be broadcast to {to.shape}; "
            "only a row can be repeated"
        )

    def _matmul(self, node: Node) -> Value:
        left, right = node.inputs
        if len(right.shape) != 2 or len(left.shape) not in (1, 2):
            raise Impossible(f"it needs matrices, not {left.shape} @ {right.shape}")
        a = self._emitter.store(self._values[left], left)
        b = self._emitter.store(self._values[right], right)
        assert isinstance(a.core, Stored)
        assert isinstance(b.core, Stored)
        return Value(a.factor * b.factor, Sum((Term(1.0, a.core.view, b.core.view),)))

    def _add(self, node: Node) -> Value:
        left, right = (self._addend(operand, node) for operand in node.inputs)
        return add(left, right)

    def _subtract(self, node: Node) -> Value:
        left, right = (self._addend(operand, node) for operand in node.inputs)
        return add(left, right.scaled(-1.0))

    def _addend(self, node: Node, of: Node) -> Value:
        """Return an input of the sum `of`, stored first if only what is stored can be added."""
        value = self._operand(node, of)
        if isinstance(value.core, Rectified | Gated | OneSided):
            return self._emitter.store(value, node)
        return value

    def _multiply(self, node: Node) -> Value:
        left, right = (self._operand(operand, node) for operand in node.inputs)
        return multiply(left, right)

    def _divide(self, node: Node) -> Value:
        left, right = (self._operand(operand, node) for operand in node.inputs)
        if not isinstance(right.core, Uniform):
            raise Impossible("it divides by an array; the hardware scales by constants only")
        return left.scaled(1.0 / right.factor)

    def _negative(self, node: Node) -> Value:
        (operand,) = node.inputs
        return self._values[operand].scaled(-1.0)

    def _maximum(self, node: Node) -> Value:
        left, right = (self._operand(operand, node) for operand in node.inputs)
        if isinstance(left.core, Uniform):
            left, right = right, left
        if not isinstance(right.core, Uniform) or right.factor != 0:
            raise Impossible("only the maximum with zero, a ReLU, can be computed")
        return rectify(left)

    def _greater(self, node: Node) -> Value:
        left, right = (self._values[operand] for operand in node.inputs)
        return self._compare(left, right)

    def _less(self, node: Node) -> Value:
        left, right = (self._values[operand] for operand in node.inputs)
        return self._compare(right, left)

    @staticmethod
    def _compare(large: Value, small: Value) -> Value:
        if isinstance(small.core, Uniform) and small.factor == 0:
            return positive(large)
        if isinstance(large.core, Uniform) and large.factor == 0:
            return positive(small.scaled(-1.0))
        raise Impossible("only a comparison with zero, a ReLU's derivative, can be computed")

    def _where(self, node: Node) -> Value:
        mask, kept, other = (self._operand(operand, node) for operand in node.inputs)
        if not isinstance(other.core, Uniform) or other.factor != 0:
            raise Impossible("only a choice between an array and zero can be computed")
        return multiply(mask, kept)

    def _sum(self, node: Node) -> Value:
        (operand,) = node.inputs
        value = self._values[operand]
        axes = node.params["axis"]
        axes = tuple(range(len(operand.shape))) if axes is None else axes
        if isinstance(value.core, Uniform):
            return value.scaled(float(np.prod([operand.shape[axis] for axis in axes])))
        if len(operand.shape) == 2 and tuple(axes) == (0,):
            stored = self._emitter.store(value, operand)
            assert isinstance(stored.core, Stored)
            # the sum of the rows is a row of ones times the matrix
            return Value(stored.factor, Sum((Term(1.0, None, stored.core.view),)))
        raise Impossible(
            f"a sum of shape {operand.shape} over axes {tuple(axes)}; "
            "only rows can be summed (axis 0)"
        )

    def _broadcast_to(self, node: Node) -> Value:
        (operand,) = node.inputs
        return self._operand(operand, node)

    def _reshape(self, node: Node) -> Value:
        (operand,) = node.inputs
        value = self._values[operand]
        same = len(node.shape) in (1, 2) and matrix_shape(operand) == matrix_shape(node)
        if isinstance(value.core, Uniform) or same:
            return value
        raise Impossible(f"{operand.shape} to {node.shape} moves elements between rows")

    def _transpose(self, node: Node) -> Value:
        (operand,) = node.inputs
        value = self._values[operand]
        if isinstance(value.core, Uniform):
            return value
        stored = self._emitter.store(value, operand)
        assert isinstance(stored.core, Stored)
        return Value(stored.factor, Stored(stored.core.view.T))

    def _power(self, node: Node) -> Value:
        (operand,) = node.inputs
        value = self._values[operand]
        if isinstance(value.core, Uniform):
            return scalar(float(value.factor ** node.params["exponent"]))
        raise Impossible(
            "powers are taken in losses only, whose value the hardware does not compute"
        )

    def _refusal(self, node: Node, message: str) -> LoweringError:
        source = node.source
        where = f"{source}: {source.code}: " if source is not None else ""
        return LoweringError(f"{where}{message}")


_RULES: dict[str, Callable[[_Lowering, Node], Value]] = {
    "matmul": _Lowering._matmul,
    "add": _Lowering._add,
    "subtract": _Lowering._subtract,
    "multiply": _Lowering._multiply,
    "divide": _Lowering._divide,
    "negative": _Lowering._negative,
    "maximum": _Lowering._maximum,
    "greater": _Lowering._greater,
    "less": _Lowering._less,
    "where": _Lowering._where,
    "sum": _Lowering._sum,
    "broadcast_to": _Lowering._broadcast_to,
    "reshape": _Lowering._reshape,
    "transpose": _Lowering._transpose,
    "power": _Lowering._power,
}


def _is_operand(graph: Graph, node: Node) -> bool:
    """Return whether a matrix product has `node`, or its transpose, as an operand."""
    return any(
        user.primitive == "matmul"
        or (user.primitive in ("transpose", "reshape") and _is_operand(graph, user))
        for user in graph.nodes
        if node in user.inputs
    )
