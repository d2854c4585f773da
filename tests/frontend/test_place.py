"""Where matrices lie: against words counted by hand, and against a search word by word."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siligrad.compiler import CapacityError
from siligrad.compiler.ir import Kernel, Matrix, Operation
from siligrad.compiler.place import Layout, place, words_of
from siligrad.isa import Loop, Memory
from siligrad.program import Role
from tests.frontend.kernels import kernel, matrix, operation, product, row


@pytest.mark.parametrize(
    ("rows", "columns", "array", "words"),
    [
        (1, 1, 2, 2),  # one tile, a word of each bank for each of its rows
        (3, 5, 2, 12),  # 2 x 3 tiles
        (8, 8, 8, 8),
        (9, 8, 8, 16),
        (8, 9, 8, 16),
        (16, 17, 4, 80),  # 4 x 5 tiles
    ],
)
def test_a_matrix_takes_as_many_words_as_its_tiles_have_rows(
    rows: int, columns: int, array: int, words: int
) -> None:
    assert words_of(matrix("m", rows, columns), array) == words


def in_x(*matrices: Matrix) -> dict[Matrix, Memory]:
    return dict.fromkeys(matrices, Memory.X)


def test_temporaries_take_the_first_gap_that_is_free_and_nothing_else_is_moved() -> None:
    x, w = matrix("x", 4, 4, Role.INPUT), matrix("w", 4, 4, Role.RESIDENT)
    small, first, second, third = (
        matrix("small", 2, 2),  # 2 words
        matrix("first", 4, 4),  # 8
        matrix("second", 4, 2),  # 4
        matrix("third", 4, 4),  # 8
    )
    order = (
        operation(first, product(x, w)),
        operation(small, product(first, w)),
        operation(second, product(first, w)),
        operation(third, product(second, w), row(small)),
    )
    net = kernel(*order, matrices=[x, w, third, small, second, first])
    memories = in_x(x, small, first, second, third) | {w: Memory.W}
    layout = place(net, order, memories, 2)
    assert layout.bases == {
        w: 0,
        x: 0,  # 8 words, for good
        first: 8,  # up to 16, while operations 0 to 2 run
        small: 16,  # from operation 1 on
        second: 18,
        third: 8,  # what was first's is free, and large enough
    }
    assert layout.words(Memory.X, 2) == 22
    assert layout.words(Memory.W, 2) == 8
    assert layout.words(Memory.E, 2) == 2  # a tile: no memory is empty
    assert (layout.moving, layout.loop) == (frozenset(), Loop())


def test_a_gap_that_is_too_small_is_passed() -> None:
    x, w = matrix("x", 2, 2, Role.INPUT), matrix("w", 2, 2, Role.RESIDENT)
    low, kept, wide, tight = (
        matrix("low", 2, 2),
        matrix("kept", 2, 2),
        matrix("wide", 2, 4),
        matrix("tight", 2, 2),
    )
    order = (
        operation(low, product(x, w)),
        operation(kept, product(low, w)),
        operation(wide, product(kept, w)),  # low's two words are free now; it needs four
        operation(tight, product(wide, w), product(kept, w)),  # and it needs two
    )
    layout = place(kernel(*order), order, in_x(x, low, kept, wide, tight) | {w: Memory.W}, array=2)
    assert [layout.bases[m] for m in (x, low, kept, wide, tight)] == [0, 2, 4, 6, 2]


def test_what_a_run_keeps_never_gives_up_its_words() -> None:
    x, w = matrix("x", 2, 2, Role.INPUT), matrix("w", 2, 2, Role.RESIDENT)
    unused = matrix("unused", 2, 2, Role.CONSTANT)
    result, output, last = matrix("result", 2, 2), matrix("out", 2, 2, Role.OUTPUT), matrix("last")
    order = (
        operation(result, product(x, w)),
        operation(output, product(x, w)),
        operation(last, product(x, w)),
    )
    net = kernel(*order, matrices=[x, w, unused], results=[result])
    layout = place(net, order, in_x(*net.matrices), 2)
    assert [layout.bases[m] for m in (x, w, unused, result, output, last)] == [0, 2, 4, 6, 8, 10]


def streaming(steps: int) -> tuple[Layout, dict[str, Matrix]]:
    """Place x (8 words), y (4), w (8) and t (16) in X, and z (2) in E, for a run of `steps`."""
    named = {
        "x": matrix("x", 4, 4, Role.INPUT),
        "w": matrix("w", 4, 4, Role.RESIDENT),
        "t": matrix("t", 8, 4),
        "y": matrix("y", 2, 4, Role.OUTPUT),
        "z": matrix("z", 2, 2, Role.INPUT),
    }
    x, w, t, y, z = named.values()
    order = (operation(t, product(x, w)), operation(y, product(t, z)))
    memories = in_x(x, w, t, y) | {z: Memory.E}
    return place(kernel(*order, matrices=[w, x, t, y, z]), order, memories, 2, steps), named


def test_what_is_streamed_lies_side_by_side_step_by_step() -> None:
    layout, named = streaming(3)
    x, w, t, y, z = named.values()
    assert layout.moving == {x, y, z}
    assert layout.loop == Loop(3, x_stride=12, w_stride=0, e_stride=2)
    assert layout.bases == {x: 0, y: 8, z: 0, w: 36, t: 44}
    assert layout.words(Memory.X, 2) == 60
    assert layout.words(Memory.E, 2) == 6
    assert layout.words(Memory.W, 2) == 2


def test_a_single_step_moves_nothing() -> None:
    layout, named = streaming(1)
    x, w, t, y, z = named.values()
    assert (layout.moving, layout.loop) == (frozenset(), Loop())
    assert layout.bases == {w: 0, x: 8, y: 16, z: 0, t: 20}


def test_what_takes_most_of_a_memory_is_named_with_its_words_in_all_steps() -> None:
    layout, _ = streaming(3)
    most = ["x (4 x 4, 24 words)", "t (8 x 4, 16 words)", "y (2 x 4, 12 words)"]
    assert layout.largest(Memory.X, 2) == ", ".join(most)
    assert layout.largest(Memory.E, 2) == "z (2 x 2, 6 words)"
    assert layout.largest(Memory.W, 2) == ""


@pytest.mark.parametrize(("rows", "array", "fits"), [(65535, 3, True), (65535, 2, False)])
def test_the_data_of_a_step_must_be_within_an_address(rows: int, array: int, fits: bool) -> None:
    # A column of 65535 rows is 21845 tiles of 3 words, or 32768 of 2.
    x, out = matrix("x", rows, 1, Role.INPUT), matrix("out", 1, 1)
    order = (operation(out, row(x)),)
    memories = {x: Memory.E, out: Memory.X}
    if fits:
        layout = place(kernel(*order), order, memories, array, steps=2)
        assert layout.loop == Loop(2, e_stride=65535)
        return
    place(kernel(*order), order, memories, array, steps=1)
    message = "the data of one step takes 65536 words a bank of a memory, and 65535 are the most"
    with pytest.raises(CapacityError, match=message):
        place(kernel(*order), order, memories, array, steps=2)


# What would fit.


def layout_of(
    words: Sequence[tuple[Matrix, int]], moving: Sequence[Matrix] = (), loop: Loop | None = None
) -> Layout:
    bases = dict(words)
    return Layout(in_x(*bases), bases, frozenset(moving), loop or Loop())


X = matrix("x", 8, 4, Role.INPUT)  # 16 words with N = 2: 4 x 2 tiles
T = matrix("t", 8, 4)


@pytest.mark.parametrize(
    ("depth", "remedies"),
    [
        # 16 words for each step and 16 for t; of a batch of 8, all 96 words for 4 rows of tiles.
        (95, ["4 steps instead of 5", "a batch of 6 instead of 8"]),
        (48, ["2 steps instead of 5", "a batch of 4 instead of 8"]),
        (47, ["1 steps instead of 5", "a batch of 2 instead of 8"]),
        (32, ["1 steps instead of 5", "a batch of 2 instead of 8"]),
        (31, ["a batch of 2 instead of 8"]),
        (24, ["a batch of 2 instead of 8"]),
        (23, ["fewer channels"]),
    ],
)
def test_steps_and_batches_that_would_fit_are_counted(depth: int, remedies: list[str]) -> None:
    layout = layout_of([(X, 0), (T, 80)], [X], Loop(5, x_stride=16))
    assert layout.words(Memory.X, 2) == 96
    assert layout.remedies(Memory.X, depth, 2) == remedies


@pytest.mark.parametrize(
    ("words", "depth", "remedies"),
    [
        # 8 of 24 words do not depend on the batch; 8 of the 16 left are half of its 4 tile rows.
        ([(X, 0), (matrix("c", 3, 4), 16)], 16, ["a batch of 4 instead of 8"]),
        ([(X, 0), (matrix("c", 3, 4), 16)], 11, ["fewer channels"]),
        # One row of tiles is the least there is, however few samples are in it.
        ([(matrix("x", 2, 64, Role.INPUT), 0)], 32, ["fewer channels"]),
        ([(matrix("x", 3, 2, Role.INPUT), 0)], 2, ["a batch of 2 instead of 3"]),
        # A single sample, then a batch: the first that is more than a row of tiles counts.
        (
            [(matrix("one", 1, 4, Role.INPUT), 0), (X, 4)],
            16,
            ["a batch of 6 instead of 8"],
        ),
        # Nothing here has the rows of a batch.
        ([(matrix("w", 8, 4, Role.RESIDENT), 0)], 8, ["fewer channels"]),
        # Three matrices take turns in four words: what depends on the batch is not known.
        (
            [
                (matrix("x", 8, 2, Role.INPUT), 0),
                *((matrix(name, 3, 2), 8) for name in "abcd"),
            ],
            10,
            ["fewer channels"],
        ),
    ],
)
def test_what_would_fit_is_proposed_where_it_is_known(
    words: list[tuple[Matrix, int]], depth: int, remedies: list[str]
) -> None:
    assert layout_of(words).remedies(Memory.X, depth, 2) == remedies


def test_a_memory_without_the_batch_is_not_helped_by_a_smaller_one() -> None:
    weights = matrix("w", 6, 6, Role.RESIDENT)
    layout = Layout({X: Memory.X, weights: Memory.W}, {X: 0, weights: 0})
    assert layout.remedies(Memory.W, 16, 2) == ["fewer channels"]


# Any kernel.


@st.composite
def kernels(draw: st.DrawFn) -> tuple[Kernel, dict[Matrix, Memory]]:
    """Draw a kernel: each operation reads some of what there is and writes something new."""
    size = st.integers(1, 7)
    found = [
        matrix(f"a{i}", draw(size), draw(size), draw(st.sampled_from([Role.INPUT, Role.RESIDENT])))
        for i in range(draw(st.integers(1, 3)))
    ]
    operations: list[Operation] = []
    for i in range(draw(st.integers(1, 8))):
        read = draw(st.lists(st.sampled_from(found), min_size=1, max_size=3))
        role = draw(st.sampled_from([Role.TEMPORARY] * 4 + [Role.OUTPUT]))
        made = matrix(f"t{i}", draw(size), draw(size), role)
        aux = draw(st.none() | st.sampled_from(found))
        operations.append(operation(made, *(row(each) for each in read), aux=aux))
        found.append(made)
    results = [m for m in found if m.role == Role.OUTPUT or draw(st.integers(0, 9)) == 0]
    memories = {m: draw(st.sampled_from(Memory)) for m in found}
    return kernel(*operations, matrices=draw(st.permutations(found)), results=results), memories


@given(drawn=kernels(), array=st.integers(2, 4), steps=st.integers(1, 3))
def test_every_matrix_has_the_first_words_that_are_free_as_long_as_it_lives(
    drawn: tuple[Kernel, dict[Matrix, Memory]], array: int, steps: int
) -> None:
    net, memories = drawn
    layout = place(net, net.operations, memories, array, steps)
    streamed = {Role.INPUT, Role.OUTPUT}
    moving = [m for m in net.matrices if steps > 1 and (m.role in streamed or m in net.results)]
    moving = [m for m in moving if m.role != Role.RESIDENT]
    kept = [
        m
        for m in net.matrices
        if m not in moving and (m.role != Role.TEMPORARY or m in net.results)
    ]
    uses = {
        m: [i for i, each in enumerate(net.operations) if m in {*each.reads, each.destination}]
        for m in net.matrices
    }
    temporary = [m for m in net.matrices if m not in moving and m not in kept and uses[m]]
    temporary.sort(key=lambda m: uses[m][0])
    assert set(layout.bases) == {*moving, *kept, *temporary}
    assert layout.moving == set(moving)

    always = set(range(-1, len(net.operations) + 1))
    owned: dict[tuple[Memory, int], list[set[int]]] = {}
    tops = dict.fromkeys(Memory, 0)
    for m in moving:
        assert layout.bases[m] == tops[memories[m]]
        tops[memories[m]] += words_of(m, array)
    for memory, stride in tops.items():
        assert layout.loop.stride(memory) == stride
        for word in range(steps * stride):
            owned[memory, word] = [always]
    for m in kept + temporary:
        alive = always if m in kept else set(range(uses[m][0], uses[m][-1] + 1))
        words = words_of(m, array)

        def free(base: int, m: Matrix, words: int, alive: set[int]) -> bool:
            at = ((memories[m], base + word) for word in range(words))
            return not any(alive & other for each in at for other in owned.get(each, []))

        assert layout.bases[m] == next(b for b in range(10**6) if free(b, m, words, alive))
        for word in range(words):
            owned.setdefault((memories[m], layout.bases[m] + word), []).append(alive)
    for memory in Memory:
        top = max((word + 1 for where, word in owned if where == memory), default=array)
        assert layout.words(memory, array) == max(top, array)
