"""From values to operations: what is to lie in a memory, and the instruction that puts it there.

A :class:`~siligrad.compiler.algebra.Value` says what an instruction could compute; the
:class:`Emitter` makes it compute that, once, when something needs it in a memory.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from siligrad.autodiff import Node
from siligrad.compiler.algebra import (
    Core,
    Gated,
    Impossible,
    OneSided,
    Rectified,
    Signed,
    Stored,
    Sum,
    Value,
    as_sum,
)
from siligrad.compiler.ir import Matrix, Operation, Term, View
from siligrad.isa import AuxMode, Gate
from siligrad.program import Role

__all__ = ["Emitter", "matrix_shape"]


class Emitter:
    """The matrices and operations of a kernel, as they come to be.

    Its methods raise :class:`~siligrad.compiler.algebra.Impossible` where no instruction does what
    is asked for.

    Attributes
    ----------
    matrices, operations
        In the order in which they were made.
    signs
        Matrices whose values must be +1 or -1.
    """

    def __init__(self) -> None:
        self.matrices: list[Matrix] = []
        self.operations: list[Operation] = []
        self.signs: set[Matrix] = set()
        self._cores: list[Core] = []
        self._stored: dict[Core, Value] = {}  # a core, and what it is once it lies in a memory
        self._multiplied: set[Matrix] = set()

    def hold(self, matrix: Matrix, *, multiplied: bool = False) -> Value:
        """Add a matrix whose contents come from outside, and return its value.

        `multiplied` says that a product has it as an operand, so it is no target.
        """
        self.matrices.append(matrix)
        if multiplied:
            self._multiplied.add(matrix)
        return Value(1.0, Stored(View(matrix)))

    def note(self, value: Value) -> None:
        """Remember that there is such a value: it may turn out to be another one's mask."""
        self._cores.append(value.core)

    def margin(self, value: Value) -> Value:
        """Return the margin of a hinge times the targets: its magnitude is the margin.

        That is what the hinge of the epilogue leaves, and a backward pass has computed it anyway.
        """
        core = value.core
        assert isinstance(core, Rectified)
        assert isinstance(core.inner, Signed)
        if core.sign < 0:
            raise Impossible("a hinge must be max(constant - target * output, 0)")
        for other in self._cores:
            if isinstance(other, OneSided) and other.inner is core.inner.inner:
                return Value(value.factor, other)
        return Value(value.factor, OneSided(core.inner.sign, core.inner.inner))

    def store(self, value: Value, node: Node, role: Role = Role.TEMPORARY) -> Value:
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
            active = self.store(Value(1.0, self._rectified(core)), node)
            assert isinstance(active.core, Stored)
            assert active.factor > 0
            return self._emit_new(core.inner, Gate.MASK, value, node, role, mask=active.core.view)
        if isinstance(core, OneSided):
            self.signs.add(core.sign.matrix)
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
        for candidate in self._cores:
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
        # Divided, not multiplied by the inverse: what is added to products is added exactly once.
        terms = (replace(t, coefficient=t.coefficient / factor) for t in total.terms)
        total = Sum(tuple(terms), tuple((part / factor, view) for part, view in total.parts))
        rows, columns = matrix_shape(node)
        source = _describe_source(node)
        name = f"{_GATE_NAMES[gate]} {len(self.operations)} ({source})"
        matrix = Matrix(name, role, rows, columns, node.shape, node, value.factor * factor)
        self.matrices.append(matrix)
        self.emit(matrix, total, gate, node, mask=mask)
        return Value(factor, Stored(View(matrix)))

    def _parts_as_terms(self, total: Sum, *, masked: bool) -> Sum:
        """Return `total` with its stored arrays as products with the identity, but for a target.

        A target is an input of the run that is no operand of a product: it alone comes in through
        the epilogue, which reads the memory of errors then.
        """
        terms = list(total.terms)
        targets: list[tuple[float, View]] = []
        for factor, view in total.parts:
            target = view.matrix.role == Role.INPUT and view.matrix not in self._multiplied
            if target and not targets and not masked and terms:
                targets.append((factor, view))
            else:
                terms.append(Term(factor, view, View(self._identity(view.columns))))
        return Sum(tuple(terms), tuple(targets))

    def _identity(self, size: int) -> Matrix:
        name = f"identity {len(self.matrices)}"
        matrix = Matrix(
            name, Role.CONSTANT, size, size, (size, size), None, initial=np.eye(size), identity=True
        )
        self.matrices.append(matrix)
        return matrix

    def emit(
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
        if total.parts:
            ((factor, aux),) = total.parts
            aux_mode = AuxMode.ADD if factor > 0 else AuxMode.SUBTRACT
        self.operations.append(
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


_GATE_NAMES = {Gate.NONE: "sum", Gate.RELU: "relu", Gate.MASK: "masked", Gate.HINGE: "hinge"}


def _rows_as_terms(total: Sum, node: Node) -> Sum:
    """Return `total`; where it is a single row, its resident parts as products with one.

    A bias that needs no broadcast (a batch of one) is a bias still: the auxiliary operand is for
    targets.
    """
    if matrix_shape(node)[0] != 1:
        return total
    parts = tuple(part for part in total.parts if part[1].matrix.role != Role.RESIDENT)
    rows = tuple(
        Term(factor, None, view)
        for factor, view in total.parts
        if view.matrix.role == Role.RESIDENT
    )
    return Sum(total.terms + rows, parts)


def matrix_shape(node: Node) -> tuple[int, int]:
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
