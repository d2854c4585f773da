"""In which order operations run, and what an instruction is told: counted by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from siligrad.compiler import Target
from siligrad.compiler.formats import Formats
from siligrad.compiler.ir import Matrix, Operation, Term, View
from siligrad.compiler.place import Layout
from siligrad.compiler.schedule import assemble, order_operations, schedule
from siligrad.isa import (
    AuxMode,
    Gate,
    Geometry,
    Instruction,
    Loop,
    Memory,
    Product,
    Rounding,
    Segment,
)
from siligrad.program import Role
from tests.frontend.kernels import kernel, matrix, operation, product, row

TARGET = Target(array=4)


def formats_of(*operations: Operation, ones: int = 3) -> Formats:
    """Return formats in which every operation shifts by 5 and every one is ``2**ones``."""
    found = {
        (op, i): ones
        for op in operations
        for i, term in enumerate(op.terms)
        if term.copied is not None
    }
    return Formats({}, dict.fromkeys(operations, 5), found, ())


X = matrix("x", 6, 10)  # 2 x 3 tiles of 4
W = matrix("w", 10, 9)  # 3 x 3
B = matrix("b", 1, 9)  # 1 x 3
T = matrix("t", 6, 9)
OUT = matrix("out", 6, 9)
PLACES = {X: Memory.X, W: Memory.W, B: Memory.W, T: Memory.E, OUT: Memory.E}
BASES = {X: 100, W: 200, B: 300, T: 400, OUT: 500}


def test_an_instruction_has_the_tiles_and_strides_of_its_matrices() -> None:
    op = operation(OUT, product(X, W), row(B), aux=T, aux_mode=AuxMode.SUBTRACT, gate=Gate.HINGE)
    layout = Layout(PLACES, BASES, frozenset({X, OUT}), Loop(3, x_stride=40, e_stride=60))
    assert assemble(op, layout, formats_of(op), TARGET) == Instruction(
        m_tiles=2,
        p_tiles=3,
        product=Product.XW,
        destination=Memory.E,
        rows_last=2,
        d_base=500,
        d_m=12,
        d_p=4,
        segments=(
            Segment(
                k=10,
                a_base=100,
                a_m=12,
                a_k=4,
                a_column=1,
                a_moves=1,
                b_base=200,
                b_k=12,
                b_p=4,
            ),
            # A single term: one more is padded, since a segment takes two cycles.
            Segment(k=1, pad=1, ones=1, ones_shift=3, a_column=0, b_base=300, b_k=12, b_p=4),
        ),
        shift=5,
        rounding=Rounding.HALF_EVEN,
        aux_mode=AuxMode.SUBTRACT,
        gate=Gate.HINGE,
        d_moves=1,
        aux_base=400,
        aux_m=12,
        aux_p=4,
    )


def test_a_transposed_matrix_is_read_by_its_columns() -> None:
    # T (6 x 9) @ W.T (9 x 10) into X (6 x 10); and X.T (10 x 6) @ T (6 x 9), subtracted from W.
    back = Operation(
        X,
        (Term(1.0, View(T), View(W).T),),
        False,
        View(X).T,
        AuxMode.NONE,
        Gate.MASK,
        False,
        "back",
    )
    update = Operation(
        W,
        (Term(-1.0, View(X).T, View(T)),),
        True,
        View(W),
        AuxMode.ADD,
        Gate.NONE,
        True,
        "update",
    )
    layout = Layout(PLACES, BASES, frozenset({T, W}), Loop(3))
    formats = formats_of(back, update)
    first = assemble(back, layout, formats, TARGET)
    assert (first.product, first.destination, first.gate) == (Product.EW, Memory.X, Gate.MASK)
    assert (first.m_tiles, first.p_tiles, first.rows_last) == (2, 3, 2)
    assert first.segments == (
        Segment(
            k=9,
            a_base=400,
            a_m=12,
            a_k=4,
            a_column=1,
            a_moves=1,
            b_base=200,
            b_k=4,
            b_p=12,
            b_column=1,
            b_moves=1,
        ),
    )
    assert (first.aux_base, first.aux_m, first.aux_p, first.aux_column) == (100, 4, 12, 1)
    assert (first.aux_moves, first.d_moves, first.negate) == (0, 0, 0)
    second = assemble(update, layout, formats, TARGET)
    assert (second.product, second.rounding) == (Product.XE, Rounding.STOCHASTIC)
    assert (second.m_tiles, second.p_tiles, second.rows_last) == (3, 3, 2)
    assert second.segments == (
        Segment(k=6, a_base=100, a_m=4, a_k=12, a_column=0, b_base=400, b_k=12, b_p=4, b_moves=1),
    )
    assert (second.aux_moves, second.d_moves, second.negate) == (1, 1, 1)


@pytest.mark.parametrize(
    ("terms", "pads"),
    [
        ((1,), (3,)),  # a tile takes N cycles at least: 4
        ((3,), (1,)),
        ((4,), (0,)),
        ((1, 1), (1, 1)),  # a segment takes 2
        ((1, 2), (1, 0)),
        ((2, 1), (0, 1)),
        ((9, 1), (0, 1)),
    ],
)
def test_a_tile_takes_as_many_cycles_as_the_array_has_rows(
    terms: tuple[int, ...], pads: tuple[int, ...]
) -> None:
    a = [matrix(f"a{k}", 4, k) for k in terms]
    b = [matrix(f"b{k}", k, 4) for k in terms]
    out = matrix("out")
    op = operation(out, *(product(*each) for each in zip(a, b, strict=True)))
    places = dict.fromkeys(a, Memory.X) | dict.fromkeys(b, Memory.W) | {out: Memory.E}
    instruction = assemble(op, Layout(places, dict.fromkeys(places, 0)), formats_of(op), TARGET)
    assert tuple(segment.pad for segment in instruction.segments) == pads


# The order.


def ordered(
    *operations: Operation, places: Mapping[str, Memory], matrices: Sequence[Matrix] = ()
) -> list[str]:
    net = kernel(*operations, matrices=matrices)
    memories = {m: places[m.name] for m in net.matrices}
    found = order_operations(net, memories, formats_of(*operations), TARGET)
    return [op.source for op in found]


def chain(rows: int) -> tuple[Operation, Operation, Operation]:
    """Return a product, one that must wait for all of it, and one that need not."""
    x, w, v = matrix("x", rows, 4, Role.INPUT), matrix("w"), matrix("v")
    h, last, aside = matrix("h", rows, 4), matrix("last", 4, 4), matrix("aside", 4, 4)
    back = Operation(
        last,
        (Term(1.0, View(h).T, View(x)),),
        False,
        None,
        AuxMode.NONE,
        Gate.NONE,
        False,
        "waits",
    )
    return (
        operation(h, product(x, w), source="first"),
        back,
        operation(aside, product(v, w), source="aside"),
    )


PLACED = {
    "x": Memory.E,
    "w": Memory.W,
    "v": Memory.E,
    "h": Memory.X,
    "last": Memory.W,
    "aside": Memory.X,
}


def test_what_need_not_wait_goes_first() -> None:
    # The second reads the first tile of h last of all, but its first column of tiles needs them
    # all: while the last one drains, the third can run.
    assert ordered(*chain(8), places=PLACED) == ["first", "aside", "waits"]


def test_of_several_that_can_start_at_once_the_first_of_the_program_does() -> None:
    w, outs = matrix("w"), [matrix(f"out{i}") for i in range(4)]
    inputs = [matrix(f"x{i}") for i in range(4)]
    ops = [
        operation(out, product(x, w), source=f"{i}")
        for i, (out, x) in enumerate(zip(outs, inputs, strict=True))
    ]
    places = dict.fromkeys([m.name for m in outs], Memory.E)
    places |= dict.fromkeys([m.name for m in inputs], Memory.X)
    assert ordered(*ops, places=places | {"w": Memory.W}) == ["0", "1", "2", "3"]


def test_nothing_overtakes_what_it_depends_on() -> None:
    # Each reads, writes again or overwrites what the one before it made or read.
    a, b, c, w = matrix("a"), matrix("b"), matrix("c"), matrix("w")
    ops = [
        operation(b, product(a, w), source="writes b"),
        operation(c, product(b, w), source="reads b"),
        operation(b, product(a, w), source="writes b again"),
        operation(a, product(b, w), source="overwrites a"),
        operation(c, product(a, w), source="writes c again"),
    ]
    places = {"a": Memory.X, "b": Memory.X, "c": Memory.X, "w": Memory.W}
    assert ordered(*ops, places=places) == [op.source for op in ops]


@pytest.mark.parametrize(
    ("rows", "order"),
    [
        (65524, ["first", "aside", "waits"]),  # with x and v, 65536 words of E: just enough
        (65528, ["first", "waits", "aside"]),
        (131072, ["first", "waits", "aside"]),
    ],
)
def test_matrices_that_have_no_words_of_their_own_keep_the_order_of_the_program(
    rows: int, order: list[str]
) -> None:
    large = matrix("large", rows, 4, Role.INPUT)
    assert ordered(*chain(8), matrices=[large], places=PLACED | {"large": Memory.E}) == order


# Delays.


def test_a_delay_is_as_long_as_the_hazard() -> None:
    first, second, _ = chain(8)
    names = {m.name: m for op in (first, second) for m in (*op.reads, op.destination)}
    places: dict[Matrix, Memory] = {m: PLACED[name] for name, m in names.items()}
    bases = {m: 16 * i for i, m in enumerate(names.values())}
    geometry = Geometry(array=4, x_depth=256, w_depth=256, e_depth=256)
    formats = formats_of(first, second)
    made = [assemble(op, Layout(places, bases), formats, TARGET) for op in (first, second)]
    alone = schedule(made[:1], geometry, Loop())
    assert [each.delay for each in alone] == [0]
    both = schedule(made, geometry, Loop())
    assert both[0].delay == 0
    assert both[1].delay > 0
    assert [each.delay for each in schedule(both, geometry, Loop())] == [
        each.delay for each in both
    ]
