"""What the timeline draws, against what docs/spec/isa.md allows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import siligrad as sg
import siligrad.numpy as np
from siligrad.explain import Explanation, explain
from siligrad_cli.timeline import ROWS, Bar, bars_of

RATE = 2.0**-4


def loss(params: Any, x: Any, y: Any) -> Any:
    for W, b in params[:-1]:
        x = np.maximum(x @ W + b, 0)
    W, b = params[-1]
    return np.mean(np.sum(np.maximum(1 - y * (x @ W + b), 0) ** 2, axis=1))


def step(params: Any, x: Any, y: Any) -> Any:
    grads = sg.grad(loss)(params, x, y)
    return [(W - RATE * dW, b - RATE * db) for (W, b), (dW, db) in zip(params, grads, strict=True)]


def explained(sizes: Sequence[int], array: int, rows: int = 8) -> Explanation:
    rng = numpy.random.default_rng(0)
    params = [(rng.standard_normal((i, o)) / i, numpy.zeros(o)) for i, o in pairwise(sizes)]
    y = rng.choice([-1.0, 1.0], (rows, sizes[-1]))
    target = sg.Target(array=array)
    program = sg.compile(step, params, rng.random((rows, sizes[0])), y, donate=0, target=target)
    return explain(program)


def spans(bars: Sequence[Bar], row: str) -> list[tuple[int, int]]:
    """Return the first cycle of each span in a row, and the cycle after its last."""
    return sorted(
        (start, start + cycles)
        for bar in bars
        if ROWS[bar.row] == row
        for start, cycles in bar.spans
    )


@given(
    sizes=st.lists(st.integers(1, 18), min_size=2, max_size=5),
    array=st.integers(2, 9),
)
def test_no_port_is_used_twice_in_a_cycle(sizes: list[int], array: int) -> None:
    explanation = explained(sizes, array)
    bars = list(bars_of(explanation, resolution=1))
    for row in ("X read", "W read", "E read", "write"):
        for (_, end), (start, _) in pairwise(spans(bars, row)):
            assert end <= start, row
    tiles = sum(instruction.tiles for instruction in explanation.program.instructions)
    written = spans(bars, "write")
    assert sum(end - start for start, end in written) == tiles * array  # a row in each cycle
    assert written[-1][1] + 1 == explanation.program.cycles  # isa.md: e + write + (N-1) + 2


@given(sizes=st.lists(st.integers(1, 18), min_size=2, max_size=5), array=st.integers(2, 9))
def test_the_arrays_row_has_no_holes(sizes: list[int], array: int) -> None:
    """Every cycle up to the end of the last tile is a stream, a wait or a fetch."""
    explanation = explained(sizes, array)
    row = spans(list(bars_of(explanation, resolution=1)), "array")
    assert row[0][0] == 0
    assert all(end == start for (_, end), (start, _) in pairwise(row))
    assert row[-1][1] == explanation.records[-1].end + 1


def test_an_instructions_terms_are_read_from_both_of_its_memories() -> None:
    explanation = explained([16, 8], 8)
    bars = list(bars_of(explanation, resolution=1))
    first = [bar for bar in bars if bar.labels[:1] == ("0",) and ROWS[bar.row].endswith("read")]
    # one tile: 16 terms of x and W; the bias, a term more, has no A, and its idle cycle no read
    assert {ROWS[bar.row]: bar.spans for bar in first} == {
        "X read": ((6, 16),),
        "W read": ((6, 17),),
    }


@pytest.mark.parametrize("resolution", [5, 50, 500])
def test_what_is_narrower_than_the_picture_shows_is_joined(resolution: int) -> None:
    explanation = explained([40, 16, 8], 4)
    whole = list(bars_of(explanation, resolution=1))
    coarse = list(bars_of(explanation, resolution))
    assert len(coarse) == len(whole)
    for before, after in zip(whole, coarse, strict=True):
        assert len(after.spans) <= len(before.spans)
        assert after.spans[0][0] == before.spans[0][0]
        if len(after.spans) > 1:
            for (start, cycles), (following, _) in pairwise(after.spans):
                assert cycles >= resolution or ROWS[before.row] in ("array", "drain")
                assert following - start >= resolution
