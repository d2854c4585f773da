"""Choose a memory for every matrix, so that each operation reads three different ones.

An operation reads all its A from one memory, all its B from another and its auxiliary operand from
the third, in one of the three ways that :class:`siligrad.isa.Product` lists. This is a colouring
with three colours; networks written with samples as rows colour themselves, so a depth-first search
with the usual place of each role tried first ends at once.
"""

from __future__ import annotations

from collections.abc import Mapping

from siligrad.compiler.ir import Kernel, Matrix, Operation
from siligrad.compiler.lower import LoweringError
from siligrad.isa import Memory, Product
from siligrad.program import Role

__all__ = ["choose_memories", "product_of"]

_FIRST = {
    Role.RESIDENT: (Memory.W, Memory.X, Memory.E),
    Role.CONSTANT: (Memory.W, Memory.X, Memory.E),
    Role.INPUT: (Memory.X, Memory.E, Memory.W),
    Role.TEMPORARY: (Memory.X, Memory.E, Memory.W),
    Role.OUTPUT: (Memory.E, Memory.X, Memory.W),
}

_SEARCH_LIMIT = 100_000


def product_of(operation: Operation, memories: Mapping[Matrix, Memory]) -> Product | None:
    """Return the first product that `operation` can be, given the memories chosen so far."""
    for product in Product:
        if all(
            memories.get(matrix, memory) == memory for matrix, memory in _needs(operation, product)
        ):
            return product
    return None


def _needs(operation: Operation, product: Product) -> list[tuple[Matrix, Memory]]:
    needs = []
    for term in operation.terms:
        needs.append((term.b.matrix, product.b))
        if term.a is not None:
            needs.append((term.a.matrix, product.a))
    if operation.aux is not None:
        needs.append((operation.aux.matrix, product.aux))
    return needs


def choose_memories(kernel: Kernel) -> dict[Matrix, Memory]:
    """Return a memory for each matrix.

    Raises
    ------
    LoweringError
        If no choice serves every operation; the message names the operation at which the search,
        when it had come furthest, first got stuck.
    """
    involved: dict[Matrix, list[Operation]] = {matrix: [] for matrix in kernel.matrices}
    for operation in kernel.operations:
        for matrix in operation.reads:
            if operation not in involved[matrix]:
                involved[matrix].append(operation)
    order = list(dict.fromkeys(m for operation in kernel.operations for m in operation.reads))
    order += [matrix for matrix in kernel.matrices if not involved[matrix]]

    chosen: dict[Matrix, Memory] = {}
    tried = [0] * (len(order) + 1)  # how many alternatives of each matrix have been tried
    stuck: Operation | None = None
    deepest, at = 0, 0
    for _ in range(_SEARCH_LIMIT):
        if at == len(order):
            return chosen
        matrix = order[at]
        chosen.pop(matrix, None)
        for memory in _FIRST[matrix.role][tried[at] :]:
            tried[at] += 1
            chosen[matrix] = memory
            failing = [o for o in involved[matrix] if product_of(o, chosen) is None]
            if not failing:
                at += 1
                tried[at] = 0
                break
            if stuck is None or at > deepest:
                deepest, stuck = at, failing[0]
            del chosen[matrix]
        else:
            at -= 1
            if at < 0:
                break
    assert stuck is not None
    raise LoweringError(
        f"{stuck.source}: no choice of memories lets this be computed: an operation multiplies X "
        "by W, E by W or X by E. Write samples as rows (x @ W + b), and use an array that is both "
        "an activation and an error in only one of these places"
    )
