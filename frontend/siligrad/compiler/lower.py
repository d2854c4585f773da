"""Lower a graph to operations: products of matrices, each with a ReLU-family epilogue.

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
from siligrad.compiler.ir import Kernel, Matrix, Operation, Reading, Term, View
from siligrad.errors import SiligradError
from siligrad.isa import AuxMode, Gate
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
        self._matrices: list[Matrix] = []
        self._operations: list[Operation] = []
        self._signs: set[Matrix] = set()
        self._readings: dict[Matrix, Reading] = {}
        self._stored: dict[object, Value] = {}  # a core, and what it is once it lies in a memory
        self._arguments = [
            self._input(node, stays) for node, stays in zip(graph.inputs, resident, strict=True)
        ]
        self._operands = {
            matrix
            for matrix, node in zip(self._arguments, graph.inputs, strict=True)
            if _is_operand(graph, node)
        }

    def kernel(self) -> Kernel:
        for node in self._graph.nodes:
            if node.primitive != "input":
                self._values[node] = self._visit(node)
        results = [
            self._argument_of(index) or self._result(index, node)
            for index, node in enumerate(self._graph.outputs)
        ]
        self._emit_updates()
        kernel = Kernel(
            tuple(self._matrices),
            tuple(self._operations),
            tuple(self._arguments),
            tuple(results),
            frozenset(self._signs),
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
        rows, columns = _matrix_shape(node)
        role = Role.RESIDENT if resident else Role.INPUT
        matrix = Matrix(str(node.name), role, rows, columns, node.shape, node)
        self._matrices.append(matrix)
        self._values[node] = Value(1.0, Stored(View(matrix)))
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
                value = self._signed_margin(value)
            stored = self._store(value, node, Role.OUTPUT)
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

    def _signed_margin(self, value: Value) -> Value:
        """Return the margin of a hinge times the targets: its magnitude is the margin.

        That is what the hinge of the epilogue leaves, and the backward pass has computed it anyway.
        """
        core = value.core
        assert isinstance(core, Rectified)
        assert isinstance(core.inner, Signed)
        if core.sign < 0:
            raise Impossible("a hinge must be max(constant - target * output, 0)")
        for other in self._values.values():
            if isinstance(other.core, OneSided) and other.core.inner is core.inner.inner:
                return Value(value.factor, other.core)
        return Value(value.factor, OneSided(core.inner.sign, core.inner.inner))

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
                self._emit(matrix, total, Gate.NONE, node, update=True)
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
        rows, columns = _matrix_shape(node)
        matrix = Matrix(
            f"constant {len(self._matrices)}",
            Role.CONSTANT,
            rows,
            columns,
            node.shape,
            node,
            initial=array,
        )
        self._matrices.append(matrix)
        return Value(1.0, Stored(View(matrix)))

    def _operand(self, node: Node, of: Node) -> Value:
        """Return the value of an input of `of`, broadcast to the shape of `of`."""
        value = self._values[node]
        return self._broadcast(value, node, of)

    def _broadcast(self, value: Value, node: Node, to: Node) -> Value:
        if isinstance(value.core, Uniform) or node.shape == to.shape:
            return value
        rows, columns = _matrix_shape(to)
        if _matrix_shape(node) == (rows, columns):
            return value
        if _matrix_shape(node) == (1, columns) and len(to.shape) == 2:
            stored = self._store(value, node)
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
        a = self._store(self._values[left], left)
        b = self._store(self._values[right], right)
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
            return self._store(value, node)
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
        return self._values[node.inputs[0]].scaled(-1.0)

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
            stored = self._store(value, operand)
            assert isinstance(stored.core, Stored)
            # the sum of the rows is a row of ones times the matrix
            return Value(stored.factor, Sum((Term(1.0, None, stored.core.view),)))
        raise Impossible(
            f"a sum of shape {operand.shape} over axes {tuple(axes)}; "
            "only rows can be summed (axis 0)"
        )

    def _broadcast_to(self, node: Node) -> Value:
        return self._operand(node.inputs[0], node)

    def _reshape(self, node: Node) -> Value:
        (operand,) = node.inputs
        value = self._values[operand]
        same = len(node.shape) in (1, 2) and _matrix_shape(operand) == _matrix_shape(node)
        if isinstance(value.core, Uniform) or same:
            return value
        raise Impossible(f"{operand.shape} to {node.shape} moves elements between rows")

    def _transpose(self, node: Node) -> Value:
        (operand,) = node.inputs
        value = self._values[operand]
        if isinstance(value.core, Uniform) or len(operand.shape) < 2:
            return value
        stored = self._store(value, operand)
        assert isinstance(stored.core, Stored)
        return Value(stored.factor, Stored(stored.core.view.T))

    def _power(self, node: Node) -> Value:
        value = self._values[node.inputs[0]]
        exponent = node.params["exponent"]
        if isinstance(value.core, Uniform):
            return scalar(float(value.factor**exponent))
        if exponent == 1:
            return value
        raise Impossible(
            "powers are taken in losses only, whose value the hardware does not compute"
        )

    # Operations.

    def _store(self, value: Value, node: Node, role: Role = Role.TEMPORARY) -> Value:
        """Return `value` as it lies in a memory, emitting the operation that puts it there."""
        core = value.core
        if isinstance(core, Stored) and role != Role.OUTPUT:
            return value
        if core not in self._stored:
            self._stored[core] = self._compute(value, node, role)
        return self._stored[core].scaled(value.factor)

    def _compute(self, value: Value, node: Node, role: Role) -> Value:
        core = value.core
        if isinstance(core, Stored):
            return Value(1.0, core)
        if isinstance(core, Sum):
            return self._emit_new(core, Gate.NONE, value, node, role)
        if isinstance(core, Rectified):
            if not isinstance(core.inner, Sum):
                raise Impossible("a ReLU can only follow a sum of products")
            inner = core.inner if core.sign > 0 else as_sum(Value(-1.0, core.inner))
            return self._emit_new(inner, Gate.RELU, value, node, role)
        if isinstance(core, Gated):
            active = self._store(Value(1.0, self._rectified(core)), node)
            assert isinstance(active.core, Stored)
            assert active.factor > 0
            return self._emit_new(core.inner, Gate.MASK, value, node, role, mask=active.core.view)
        if isinstance(core, OneSided):
            self._signs.add(core.sign.matrix)
            inner = _rows_as_terms(core.inner, node)
            if [view for _, view in inner.parts] != [core.sign]:
                raise Impossible("a hinge must be max(constant - target * output, 0)")
            # The epilogue keeps what differs in sign from its auxiliary operand: it is given -u.
            stored = self._emit_new(
                as_sum(Value(-1.0, inner)), Gate.HINGE, value.scaled(-1.0), node, role
            )
            return stored.scaled(-1.0)
        raise Impossible("it is neither a product of matrices nor a ReLU of one")

    def _rectified(self, core: Gated) -> Rectified:
        """Return the ReLU whose derivative masks `core`: the activation that is stored anyway."""
        for value in self._values.values():
            candidate = value.core
            if (
                isinstance(candidate, Rectified)
                and candidate.inner is core.mask.inner
                and candidate.sign == core.mask.sign
            ):
                return candidate
        return Rectified(core.mask.inner, core.mask.sign)

    def _emit_new(
        self,
        total: Sum,
        gate: Gate,
        value: Value,
        node: Node,
        role: Role,
        mask: View | None = None,
    ) -> Value:
        """Compute `total` into a new matrix, up to a positive factor that is carried beside it."""
        total = self._parts_as_terms(_rows_as_terms(total, node), masked=mask is not None)
        if not total.terms:
            raise Impossible("it is no product of matrices")
        if total.parts:
            factor = abs(total.parts[0][0])
        else:
            factor = min(abs(term.coefficient) for term in total.terms)
        total = as_sum(Value(1.0 / factor, total))
        rows, columns = _matrix_shape(node)
        source = _describe_source(node)
        name = f"{_GATE_NAMES[gate]} {len(self._operations)} ({source})"
        matrix = Matrix(name, role, rows, columns, node.shape, node, value.factor * factor)
        self._matrices.append(matrix)
        self._emit(matrix, total, gate, node, mask=mask)
        return Value(factor, Stored(View(matrix)))

    def _parts_as_terms(self, total: Sum, *, masked: bool) -> Sum:
        """Return `total` with its stored arrays as products with the identity, but for a target.

        A target is an input of the run that is no operand of a product: it alone comes in through
        the epilogue, which reads the memory of errors then.
        """
        terms = list(total.terms)
        targets: list[tuple[float, View]] = []
        for factor, view in total.parts:
            target = view.matrix.role == Role.INPUT and view.matrix not in self._operands
            if target and not targets and not masked and terms:
                targets.append((factor, view))
            else:
                terms.append(Term(factor, view, View(self._identity(view.columns))))
        return Sum(tuple(terms), tuple(targets))

    def _identity(self, size: int) -> Matrix:
        name = f"identity {len(self._matrices)}"
        matrix = Matrix(
            name, Role.CONSTANT, size, size, (size, size), None, initial=np.eye(size), identity=True
        )
        self._matrices.append(matrix)
        return matrix

    def _emit(
        self,
        destination: Matrix,
        total: Sum,
        gate: Gate,
        node: Node,
        *,
        mask: View | None = None,
        update: bool = False,
    ) -> None:
        signs = {term.coefficient < 0 for term in total.terms}
        if len(signs) > 1:
            raise Impossible(
                "it adds some products and subtracts others; negate an operand instead"
            )
        aux, aux_mode = mask, AuxMode.NONE
        if len(total.parts) > 1:
            raise Impossible("more than one stored array is added to products")
        if total.parts:
            ((factor, aux),) = total.parts
            if abs(factor) != 1:
                raise Impossible(f"a stored array is added {factor:g} times to products, not once")
            aux_mode = AuxMode.ADD if factor > 0 else AuxMode.SUBTRACT
        self._operations.append(
            Operation(
                destination,
                total.terms,
                signs.pop(),
                aux,
                aux_mode,
                gate,
                update,
                _describe_source(node),
            )
        )

    def _refusal(self, node: Node, message: str) -> LoweringError:
        source = node.source
        where = f"{source}: {source.code}: " if source is not None else ""
        return LoweringError(f"{where}{message}")


_GATE_NAMES = {Gate.NONE: "sum", Gate.RELU: "relu", Gate.MASK: "masked", Gate.HINGE: "hinge"}

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


def _rows_as_terms(total: Sum, node: Node) -> Sum:
    """Return `total`; where it is a single row, its resident parts as products with one.

    A bias that needs no broadcast (a batch of one) is a bias still: the auxiliary operand is for
    targets.
    """
    if _matrix_shape(node)[0] != 1:
        return total
    parts = tuple(part for part in total.parts if part[1].matrix.role != Role.RESIDENT)
    rows = tuple(
        Term(factor, None, view)
        for factor, view in total.parts
        if view.matrix.role == Role.RESIDENT
    )
    return Sum(total.terms + rows, parts)


def _matrix_shape(node: Node) -> tuple[int, int]:
    """Return rows and columns of a node's array; a vector is a row."""
    if len(node.shape) == 1:
        return 1, node.shape[0]
    rows, columns = node.shape
    return rows, columns


def _describe_source(node: Node) -> str:
    source = node.source
    if source is None:
        return node.primitive
    return f"{source.code or source}{', backward' if node.backward else ''}"
