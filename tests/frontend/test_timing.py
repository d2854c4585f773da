"""The schedule against the specification, replayed cycle by cycle and word by word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from siligrad.checker import CheckError, check_instructions
from siligrad.compiler.schedule import schedule
from siligrad.isa import ONE_STEP, AuxMode, Gate, Geometry, Instruction, Memory, Product, Segment
from siligrad.timing import run_cycles, schedule_of

Word = tuple[Memory, int, int]  # memory, address, bank


def words_of_line(n: int, memory: Memory, tile: int, index: int, column: bool) -> Iterator[Word]:
    """The N words that one row or column of a tile takes."""
    for lane in range(n):
        row, col = (lane, index) if column else (index, lane)
        yield memory, tile + row, (row + col) % n


class Replay:
    """Every read and write of a run, from docs/spec/isa.md alone."""

    def __init__(self, instructions: Sequence[Instruction], n: int) -> None:
        rotate = -(-(n - 1).bit_length() // 2)
        read = 4 + rotate
        drain = read + (n - 1) + 5
        write = drain + 6 + (n - 1) + rotate
        self.issues: dict[tuple[Memory, int], int] = {}  # reads of a memory in a cycle
        self.read_at: list[tuple[int, int, Word]] = []  # memory cycle, instruction, word
        self.write_at: list[tuple[int, int, Word]] = []
        start = 0
        last = 6
        for number, instruction in enumerate(instructions):
            cycle = start + max(last, 6) + instruction.delay if number else 6 + instruction.delay
            for i in range(instruction.m_tiles):
                for j in range(instruction.p_tiles):
                    for segment in instruction.segments:
                        start = cycle
                        for q in range(segment.k):
                            if not segment.ones:
                                tile = segment.a_base + i * segment.a_m + q // n * segment.a_k
                                a = words_of_line(
                                    n, instruction.product.a, tile, q % n, bool(segment.a_column)
                                )
                                self._read(cycle + q, number, list(a))
                            tile = segment.b_base + j * segment.b_p + q // n * segment.b_k
                            b = words_of_line(
                                n, instruction.product.b, tile, q % n, bool(segment.b_column)
                            )
                            self._read(cycle + q, number, list(b))
                        last = segment.k + segment.pad
                        cycle += last
                    end = cycle - 1
                    for step, row in enumerate(reversed(range(n))):
                        if instruction.uses_aux:
                            tile = (
                                instruction.aux_base + i * instruction.aux_m + j * instruction.aux_p
                            )
                            aux = words_of_line(
                                n, instruction.product.aux, tile, row, bool(instruction.aux_column)
                            )
                            self._read(end + drain - read + step, number, list(aux))
                        tile = instruction.d_base + i * instruction.d_m + j * instruction.d_p
                        for word in words_of_line(
                            n, instruction.destination, tile, row, bool(instruction.d_column)
                        ):
                            self.write_at.append((end + write + step, number, word))
        self.cycles = end + write + (n - 1) + 2

    def _read(self, issue: int, number: int, words: list[Word]) -> None:
        memory = words[0][0]
        self.issues[memory, issue] = self.issues.get((memory, issue), 0) + 1
        self.read_at += [(issue + 1, number, word) for word in words]

    def conflicts(self) -> list[str]:
        """What goes wrong: two reads of a memory in a cycle, or a word read or overwritten out of
        order."""
        wrong = [f"{key}: {count} reads" for key, count in self.issues.items() if count > 1]
        cycles = [cycle for cycle, _, word in self.write_at if word[2] == 0]
        wrong += [f"two writes in cycle {c}" for c in cycles if cycles.count(c) > 1]
        writes: dict[Word, list[tuple[int, int]]] = {}
        for cycle, number, word in self.write_at:
            writes.setdefault(word, []).append((cycle, number))
        for cycle, number, word in self.read_at:
            for written, writer in writes.get(word, ()):
                seen = written < cycle
                if seen != (writer < number) and not (writer == number and not seen):
                    wrong.append(
                        f"instruction {number} reads {word} in cycle {cycle}, "
                        f"{writer} writes it in {written}"
                    )
        return wrong


TILES = 4  # tiles in each memory


@st.composite
def programs(draw: st.DrawFn) -> tuple[int, list[Instruction]]:
    n = draw(st.integers(2, 5))
    tile = st.integers(0, TILES - 1).map(lambda index: index * n)
    instructions = []
    for _ in range(draw(st.integers(1, 4))):
        m_tiles, p_tiles = draw(st.integers(1, 2)), draw(st.integers(1, 2))
        segments = []
        for _ in range(draw(st.integers(1, 2))):
            k = draw(st.integers(1, n + 2))
            segments.append(
                Segment(
                    k=k,
                    a_base=draw(tile),
                    a_m=draw(st.sampled_from([0, n])),
                    a_k=draw(st.sampled_from([0, n])),
                    b_base=draw(tile),
                    b_p=draw(st.sampled_from([0, n])),
                    b_k=draw(st.sampled_from([0, n])),
                    pad=max(2 - k, 0) + draw(st.integers(0, 1)),
                    ones=int(draw(st.integers(0, 3)) == 0),
                    a_column=draw(st.integers(0, 1)),
                    b_column=draw(st.integers(0, 1)),
                )
            )
        missing = n - sum(segment.cycles for segment in segments)
        if missing > 0:
            segments[-1] = replace(segments[-1], pad=segments[-1].pad + missing)
        base = draw(tile)
        in_place = draw(st.booleans())
        product = draw(st.sampled_from(Product))
        d_m, d_p = p_tiles * n, n
        instructions.append(
            Instruction(
                m_tiles=m_tiles,
                p_tiles=p_tiles,
                product=product,
                destination=product.aux if in_place else draw(st.sampled_from(Memory)),
                rows_last=draw(st.integers(1, n)),
                d_base=base,
                d_m=d_m,
                d_p=d_p,
                segments=tuple(segments),
                aux_base=base if in_place else draw(tile),
                aux_m=d_m,
                aux_p=d_p,
                aux_mode=draw(st.sampled_from(AuxMode)),
                gate=draw(st.sampled_from(Gate)),
            )
        )
    return n, instructions


def geometry(n: int) -> Geometry:
    return Geometry(array=n, x_depth=2 * TILES * n, w_depth=2 * TILES * n, e_depth=2 * TILES * n)


@given(programs())
def test_a_scheduled_program_is_clear_of_conflicts(case: tuple[int, list[Instruction]]) -> None:
    n, instructions = case
    scheduled = schedule(instructions, geometry(n), ONE_STEP)
    try:
        check_instructions(scheduled, geometry(n))
    except CheckError as error:
        assume("overlaps" not in str(error))  # the program was wrong before it was scheduled
        raise
    replay = Replay(scheduled, n)
    assert not replay.conflicts()
    assert run_cycles(scheduled, n) == replay.cycles


@given(programs())
def test_whatever_the_checker_accepts_is_clear_of_conflicts(
    case: tuple[int, list[Instruction]],
) -> None:
    n, instructions = case
    try:
        check_instructions(instructions, geometry(n))
    except CheckError:
        assume(False)
    assert not Replay(instructions, n).conflicts()


@given(programs(), st.data())
def test_a_delay_too_short_is_refused(
    case: tuple[int, list[Instruction]], data: st.DataObject
) -> None:
    n, instructions = case
    scheduled = schedule(instructions, geometry(n), ONE_STEP)
    try:
        check_instructions(scheduled, geometry(n))
    except CheckError:
        assume(False)
    late = [index for index, instruction in enumerate(scheduled) if instruction.delay]
    assume(late)
    index = data.draw(st.sampled_from(late))
    scheduled[index] = replace(scheduled[index], delay=scheduled[index].delay - 1)
    with pytest.raises(CheckError, match=f"instruction {index}: starts in cycle"):
        check_instructions(scheduled[: index + 1], geometry(n))


def test_a_conflict_would_be_seen_by_the_replay() -> None:
    # Forward into X, then a product that reads X at once: without a delay it reads what is not
    # written.
    n = 4
    forward = Instruction(
        m_tiles=1,
        p_tiles=1,
        product=Product.XW,
        destination=Memory.X,
        rows_last=n,
        d_base=n,
        d_m=n,
        d_p=n,
        segments=(Segment(k=n),),
    )
    after = replace(forward, d_base=2 * n, segments=(Segment(k=n, a_base=n),))
    assert Replay([forward, after], n).conflicts()
    scheduled = schedule([forward, after], geometry(n), ONE_STEP)
    assert scheduled[1].delay > 0
    assert not Replay(scheduled, n).conflicts()


def test_the_schedule_of_a_program_by_hand() -> None:
    # Two tiles of 9 cycles, then one of 8; the second instruction waits 3 cycles.
    one = Instruction(
        m_tiles=2,
        p_tiles=1,
        product=Product.XW,
        destination=Memory.E,
        rows_last=8,
        d_base=0,
        d_m=8,
        d_p=8,
        segments=(Segment(k=7), Segment(k=1, pad=1, ones=1)),
    )
    two = replace(one, m_tiles=1, segments=(Segment(k=8),), delay=3)
    first, second = schedule_of([one, two])
    assert (first.start, first.end) == (6, 23)
    # The last segment began in cycle 22; six cycles later is 28, and three more.
    assert (second.start, second.end) == (31, 38)
    # N = 8: rotate 2, read 6, drain 18, write 33; the end is 33 + 7 + 2 cycles after the last
    # tile's.
    assert run_cycles([one, two], 8) == 38 + 42
