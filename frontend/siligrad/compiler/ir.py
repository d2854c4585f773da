"""What the compiler's passes hand to each other: matrices, and operations on them.

A graph is lowered to a :class:`Kernel`. The passes after that decide where matrices lie and when
operations run; they return tables and leave the kernel alone. :meth:`Kernel.check` says whether it
makes sense.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from siligrad.autodiff import Node
from siligrad.isa import AuxMode, Gate
from siligrad.program import Role

__all__ = ["Kernel", "Matrix", "Operation", "Reading", "Term", "View"]


@dataclass(frozen=True, eq=False, slots=True)
class Matrix:
    """A matrix that will be held in one of the memories.

    Parameters
    ----------
    name
        Path of the argument it holds, or what computes it.
    role
        What it is for.
    rows, columns
        Its size.
    shape
        Shape of the user's array.
    node
        The graph node whose values it holds.
    scale
        The node's value is the matrix's value times this.
    initial
        Values to be loaded with the program; the user's shape.
    identity
        Whether it is an identity matrix, whose one may be any power of two.
    """

    name: str
    role: Role
    rows: int
    columns: int
    shape: tuple[int, ...]
    node: Node | None
    scale: float = 1.0
    initial: NDArray[np.float64] | None = field(default=None, repr=False)
    identity: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """A matrix as it stands, or transposed."""

    matrix: Matrix
    transposed: bool = False

    @property
    def rows(self) -> int:
        """Rows of what is seen."""
        return self.matrix.columns if self.transposed else self.matrix.rows

    @property
    def columns(self) -> int:
        """Columns of what is seen."""
        return self.matrix.rows if self.transposed else self.matrix.columns

    @property
    def T(self) -> View:  # noqa: N802  numpy's name
        """The transpose."""
        return View(self.matrix, not self.transposed)


@dataclass(frozen=True, slots=True)
class Term:
    """``coefficient * a @ b``; without `a`, a matrix of ones takes its place."""

    coefficient: float
    a: View | None
    b: View

    @property
    def copied(self) -> Matrix | None:
        """The matrix that is only added, if one factor is made of ones or the identity."""
        if self.a is None:
            return self.b.matrix
        return self.a.matrix if self.b.matrix.identity else None


@dataclass(frozen=True, eq=False, slots=True)
class Operation:
    """``destination = gate(sum of terms +- aux)``: one instruction to be.

    All coefficients have the same sign; `negate` says which.
    """

    destination: Matrix
    terms: tuple[Term, ...]
    negate: bool
    aux: View | None
    aux_mode: AuxMode
    gate: Gate
    update: bool
    source: str

    @property
    def operands(self) -> Iterator[Matrix]:
        """The matrices that it multiplies."""
        for term in self.terms:
            if term.a is not None:
                yield term.a.matrix
            yield term.b.matrix

    @property
    def reads(self) -> Iterator[Matrix]:
        """The matrices it reads, auxiliary operand included."""
        yield from self.operands
        if self.aux is not None:
            yield self.aux.matrix

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the mathematics: of its products, none for sums with ones."""
        d = self.destination
        return sum(d.rows * term.b.rows * d.columns for term in self.terms if not term.copied)


@dataclass(frozen=True, slots=True)
class Reading:
    """A result is what its matrix holds times `scale`, or the magnitude of that."""

    scale: float
    magnitude: bool


@dataclass(frozen=True, slots=True)
class Kernel:
    """A lowered function.

    Parameters
    ----------
    matrices
        All of them, arguments first.
    operations
        In an order in which they can run.
    arguments
        The matrix of each input of the graph.
    results
        The matrix of each output of the graph.
    signs
        Matrices whose values must be +1 or -1.
    readings
        How a result is read from its matrix; one that takes an argument's place is not here.
    """

    matrices: tuple[Matrix, ...]
    operations: tuple[Operation, ...]
    arguments: tuple[Matrix, ...]
    results: tuple[Matrix, ...]
    signs: frozenset[Matrix]
    readings: Mapping[Matrix, Reading]

    @property
    def streamed(self) -> frozenset[Matrix]:
        """What a host writes or reads for each run: inputs, and results that replace nothing."""
        return frozenset(
            matrix
            for matrix in self.matrices
            if matrix.role in (Role.INPUT, Role.OUTPUT)
            or (matrix.role == Role.TEMPORARY and matrix in self.results)
        )

    def check(self) -> None:
        """Assert that shapes agree and that nothing is read before it is written."""
        written = {m for m in self.matrices if m.role not in (Role.TEMPORARY, Role.OUTPUT)}
        replaced: set[Matrix] = set()
        for operation in self.operations:
            d = operation.destination
            for matrix in operation.reads:
                assert matrix in written, f"{matrix.name} is read before it is written"
                assert matrix not in replaced, f"{matrix.name} is read after it was replaced"
            for term in operation.terms:
                assert term.b.columns == d.columns, f"{d.name}: term of {term.b.columns} columns"
                if term.a is not None:
                    assert (term.a.rows, term.a.columns) == (d.rows, term.b.rows), d.name
                assert (term.coefficient < 0) == operation.negate, d.name
            if operation.aux is not None:
                assert (operation.aux.rows, operation.aux.columns) == (d.rows, d.columns), d.name
            assert operation.terms, f"{d.name} is the sum of nothing"
            assert d in self.matrices, d.name
            written.add(d)
            if operation.update:
                replaced.add(d)
        assert set(self.results) <= written
