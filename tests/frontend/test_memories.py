"""Which memory each matrix is in: against all choices there are."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product as combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siligrad.compiler import LoweringError
from siligrad.compiler.ir import Kernel, Matrix, Operation
from siligrad.compiler.memories import choose_memories, product_of
from siligrad.isa import Memory, Product
from siligrad.program import Role
from tests.frontend.kernels import kernel, matrix, operation, product, row

X, W, E = Memory.X, Memory.W, Memory.E

PRODUCTS = {(X, W, E): Product.XW, (E, W, X): Product.EW, (X, E, W): Product.XE}
"""Where A, B and the auxiliary operand are in each product: docs/spec/isa.md."""

FIRST = {
    Role.RESIDENT: (W, X, E),
    Role.CONSTANT: (W, X, E),
    Role.INPUT: (X, E, W),
    Role.TEMPORARY: (X, E, W),
    Role.OUTPUT: (E, X, W),
}
"""In which order the memories are tried: parameters are in W if they can be, activations in X."""

A, B, C, D, OUT = (matrix(name) for name in ("A", "B", "C", "D", "out"))


@pytest.mark.parametrize("where", list(combinations(Memory, repeat=3)))
def test_a_product_reads_three_memories_in_one_of_three_ways(
    where: tuple[Memory, Memory, Memory],
) -> None:
    chosen = dict(zip((A, B, C), where, strict=True))
    full = operation(OUT, product(A, B), aux=C)
    assert product_of(full, chosen) == PRODUCTS.get(where)
    pairs = {(a, b): found for (a, b, _), found in PRODUCTS.items()}
    assert product_of(operation(OUT, product(A, B)), chosen) == pairs.get(where[:2])


@pytest.mark.parametrize(("where", "found"), [(X, None), (W, Product.XW), (E, Product.XE)])
def test_a_row_comes_from_a_memory_of_b(where: Memory, found: Product | None) -> None:
    assert product_of(operation(OUT, row(B)), {B: where}) == found


def test_all_terms_of_an_operation_are_of_one_product() -> None:
    both = operation(OUT, product(A, B), product(C, D))
    assert product_of(both, {A: X, B: W, C: X, D: W}) == Product.XW
    assert product_of(both, {A: X, B: W, C: E, D: W}) is None
    assert product_of(both, {A: X, B: W, C: X, D: E}) is None
    assert product_of(operation(OUT, product(A, B), row(C)), {A: E, B: W, C: E}) is None


def test_what_is_not_chosen_yet_may_be_anywhere() -> None:
    op = operation(OUT, product(A, B), aux=C)
    assert product_of(op, {}) == Product.XW
    assert product_of(op, {A: E}) == Product.EW
    assert product_of(op, {C: W}) == Product.XE
    assert product_of(op, {B: X}) is None


def test_what_nothing_reads_is_where_its_role_usually_is() -> None:
    made = [operation(matrix("out", role=role), row(B)) for role in (Role.TEMPORARY, Role.OUTPUT)]
    others = [matrix("x", role=Role.INPUT), matrix("c", role=Role.CONSTANT)]
    others.append(matrix("w", role=Role.RESIDENT))
    chosen = choose_memories(kernel(*made, matrices=others))
    assert [chosen[each] for each in others] == [X, W, W]
    assert [chosen[each.destination] for each in made] == [X, E]


def test_nothing_needs_no_memory() -> None:
    assert choose_memories(kernel()) == {}


def test_the_operation_that_nothing_serves_is_named() -> None:
    square = operation(D, product(A, A), source="square")
    fine = [
        operation(OUT, product(A, B), source="first"),
        operation(C, product(OUT, B), source="second"),
    ]
    for ops in ([*fine, square], [fine[0], square, fine[1]]):
        with pytest.raises(LoweringError, match=r"square: no choice of memories lets this be"):
            choose_memories(kernel(*ops))
    others = [operation(made, product(A, A), source=name) for name, made in (("1", B), ("2", C))]
    with pytest.raises(LoweringError, match=r"^square: no choice of memories lets this be"):
        choose_memories(kernel(square, *others))  # the first of three


@st.composite
def kernels(draw: st.DrawFn) -> Kernel:
    roles = st.sampled_from(list(Role))
    found = [matrix(f"m{i}", role=draw(roles)) for i in range(draw(st.integers(2, 6)))]
    one = st.sampled_from(found)
    operations: list[Operation] = []
    for _ in range(draw(st.integers(1, 4))):
        terms = [product(draw(one), draw(one)) for _ in range(draw(st.integers(0, 2)))]
        if draw(st.booleans()) or not terms:
            terms.append(row(draw(one)))
        aux = draw(st.none() | one)
        operations.append(operation(draw(one), *terms, aux=aux, source=f"{len(operations)}"))
    return kernel(*operations, matrices=found)


def served(op: Operation, where: Mapping[Matrix, Memory]) -> bool:
    """Say whether one of the three products reads everything that `op` reads."""
    return any(
        all(where[term.b.matrix] == b for term in op.terms)
        and all(where[term.a.matrix] == a for term in op.terms if term.a is not None)
        and (op.aux is None or where[op.aux.matrix] == aux)
        for a, b, aux in PRODUCTS
    )


@given(net=kernels())
def test_the_first_choice_that_serves_every_operation_is_taken(net: Kernel) -> None:
    order = list(dict.fromkeys(m for op in net.operations for m in op.reads))
    choices = (
        dict(zip(order, where, strict=True))
        for where in combinations(*(FIRST[m.role] for m in order))
    )
    first = next((c for c in choices if all(served(op, c) for op in net.operations)), None)
    if first is None:
        with pytest.raises(LoweringError, match="no choice of memories lets this be computed"):
            choose_memories(net)
        return
    others = {m: FIRST[m.role][0] for m in net.matrices if m not in first}
    assert choose_memories(net) == first | others
