"""Kernels made by hand: matrices and operations without a network behind them."""

from __future__ import annotations

from collections.abc import Sequence

from siligrad.compiler.ir import Kernel, Matrix, Operation, Term, View
from siligrad.isa import AuxMode, Gate
from siligrad.program import Role

__all__ = ["kernel", "matrix", "operation", "product", "row"]


def matrix(
    name: str,
    rows: int = 4,
    columns: int = 4,
    role: Role = Role.TEMPORARY,
    *,
    identity: bool = False,
) -> Matrix:
    """Return a matrix that no node of a graph stands behind."""
    return Matrix(name, role, rows, columns, (rows, columns), None, identity=identity)


def product(a: Matrix, b: Matrix, coefficient: float = 1.0) -> Term:
    """Return ``coefficient * a @ b``."""
    return Term(coefficient, View(a), View(b))


def row(b: Matrix, coefficient: float = 1.0) -> Term:
    """Return ``coefficient * ones @ b``."""
    return Term(coefficient, None, View(b))


def operation(
    destination: Matrix,
    *terms: Term,
    aux: Matrix | None = None,
    aux_mode: AuxMode = AuxMode.NONE,
    gate: Gate = Gate.NONE,
    update: bool = False,
    source: str = "here",
) -> Operation:
    """Return the operation that computes `destination`; the first term has its sign."""
    return Operation(
        destination,
        terms,
        bool(terms) and terms[0].coefficient < 0,
        None if aux is None else View(aux),
        aux_mode,
        gate,
        update,
        source,
    )


def kernel(
    *operations: Operation,
    matrices: Sequence[Matrix] = (),
    results: Sequence[Matrix] = (),
) -> Kernel:
    """Return a kernel of `operations`; its matrices are `matrices`, then all others met in them."""
    met = [m for each in operations for m in (*each.reads, each.destination)]
    found = tuple(dict.fromkeys((*matrices, *met)))
    arguments = tuple(m for m in found if m.role in {Role.INPUT, Role.RESIDENT})
    return Kernel(found, operations, arguments, tuple(results), frozenset(), {})
