"""Programs written by hand and programs drawn at random: what devices run without a compiler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from siligrad.checker import CheckError, check_instructions
from siligrad.isa import (
    ADDRESS_BITS,
    ONE_STEP,
    SEGMENT_LINE,
    SHIFT_MAX,
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
from siligrad.timing import Timeline, a_tiles, aux_tiles, b_tiles, destination_tiles

__all__ = [
    "Contents",
    "Step",
    "draw_words",
    "random_loop",
    "random_program",
    "scheduled",
    "training_step",
]

Contents = Literal["zeros", "largest", "random", "coarse"]
"""What memories hold: zeros, codes of the largest magnitude, any codes, or moderate codes with few
significant bits, whose sums saturate seldom and lie half-way between two results often."""


def scheduled(
    instructions: Sequence[Instruction], geometry: Geometry, loop: Loop = ONE_STEP
) -> list[Instruction]:
    """Return `instructions` with each delayed until it may start in every step, checked."""
    result = [replace(instruction, delay=0) for instruction in instructions]
    while True:
        timeline = Timeline(geometry)
        longer = False
        for step in range(loop.steps):
            for index, instruction in enumerate(result):
                moved = instruction.in_step(loop, step)
                start = timeline.earliest(moved).cycle
                delay = max(start - timeline.ready, instruction.delay)
                longer |= step > 0 and delay > instruction.delay
                timeline.place(moved, timeline.ready + delay)
                result[index] = replace(instruction, delay=delay)
        if not longer:  # else what begins later in an earlier step changes those after it
            break
    check_instructions(result, geometry, loop)
    return result


def draw_words(
    rng: np.random.Generator, geometry: Geometry, contents: Contents
) -> dict[Memory, NDArray[np.int32]]:
    """Draw the words of the three memories, shape ``(depth, N)`` each."""
    limit = (1 << geometry.word_bits - 1) - 1
    result = {}
    for memory in Memory:
        shape = (geometry.depth(memory), geometry.array)
        if contents == "zeros":
            words = np.zeros(shape, np.int64)
        elif contents == "largest":
            words = rng.choice([-limit, limit], shape)
        elif contents == "random":
            words = rng.integers(-limit, limit + 1, shape)
        else:
            step = 1 << geometry.word_bits // 2 - 2
            words = np.clip(np.rint(rng.normal(0, limit / 8 / step, shape)) * step, -limit, limit)
        result[memory] = words.astype(np.int32)
    return result


@dataclass(frozen=True)
class Step:
    """A program and the accelerator that it is for.

    Parameters
    ----------
    geometry
        The smallest one that it fits.
    instructions
        Scheduled and checked.
    loop
        How often they are executed.
    """

    geometry: Geometry
    instructions: list[Instruction]
    loop: Loop = ONE_STEP


_PAD_MAX = (1 << next(field.width for field in SEGMENT_LINE if field.name == "pad")) - 1


class _Layout:
    """Places one matrix after the other in the three memories."""

    def __init__(self, array: int) -> None:
        self.array = array
        self.used = dict.fromkeys(Memory, 0)

    def tiles(self, size: int) -> int:
        return -(-size // self.array)

    def repeat(self, memory: Memory, steps: int) -> int:
        """Leave room for what `memory` holds so far once for each of `steps`; return its words."""
        words = self.used[memory]
        self.used[memory] *= steps
        return words

    def place(self, memory: Memory, rows: int, columns: int, moves: int = 0) -> _Matrix:
        tiles = _Matrix(self.array, self.used[memory], self.tiles(rows), self.tiles(columns), moves)
        self.used[memory] += tiles.rows * tiles.columns * self.array
        return tiles


@dataclass(frozen=True)
class _Matrix:
    """Where a matrix of ``rows`` by ``columns`` tiles lies: from ``base`` on, row by row.

    With ``moves``, that is in the first step.
    """

    array: int
    base: int
    rows: int
    columns: int
    moves: int

    @property
    def down(self) -> int:
        """Words from a tile to the one below it."""
        return self.columns * self.array

    @property
    def right(self) -> int:
        """Words from a tile to the one beside it."""
        return self.array


def training_step(
    array: int,
    *,
    batch: int,
    inputs: int,
    hidden: int,
    outputs: int,
    operand_bits: int = 16,
    word_bits: int = 16,
    steps: int = 1,
) -> Step:
    """Write a step of stochastic gradient descent of a two-layer perceptron with biases.

    Forward with relu, the error of a squared hinge, backward with a mask, four updates with
    stochastic rounding; then the gradient of the inputs, stored transposed. Each step has another
    batch: its inputs, their gradient and the targets move.
    """
    layout = _Layout(array)
    x = layout.place(Memory.X, batch, inputs, moves=1)
    target = layout.place(Memory.E, batch, outputs, moves=1)
    gradient = layout.place(Memory.E, inputs, batch, moves=1)
    strides = {memory: layout.repeat(memory, steps) for memory in (Memory.X, Memory.E)}
    h = layout.place(Memory.X, batch, hidden)
    w1 = layout.place(Memory.W, inputs, hidden)
    b1 = layout.place(Memory.W, 1, hidden)
    w2 = layout.place(Memory.W, hidden, outputs)
    b2 = layout.place(Memory.W, 1, outputs)
    e2 = layout.place(Memory.E, batch, outputs)
    e1 = layout.place(Memory.E, batch, hidden)
    forward_shift, backward_shift, update_shift = operand_bits - 3, operand_bits - 2, operand_bits

    def last(size: int) -> int:
        return size - (layout.tiles(size) - 1) * array

    def product(k: int, a: _Matrix, b: _Matrix, b_transposed: bool = False) -> Segment:
        return Segment(
            k=k,
            a_base=a.base,
            a_m=a.down,
            a_k=a.right,
            b_base=b.base,
            b_p=b.down if b_transposed else b.right,
            b_k=b.right if b_transposed else b.down,
            b_column=int(b_transposed),
            a_moves=a.moves,
            b_moves=b.moves,
            pad=max(array - k, 2 - k, 0),
        )

    def bias(b: _Matrix) -> Segment:
        return Segment(k=1, b_base=b.base, b_p=b.right, ones=1, ones_shift=operand_bits - 4, pad=1)

    def update(w: _Matrix, rows: int, segment: Segment) -> Instruction:
        return Instruction(
            m_tiles=w.rows,
            p_tiles=w.columns,
            product=Product.XE,
            destination=Memory.W,
            rows_last=last(rows),
            d_base=w.base,
            d_m=w.down,
            d_p=w.right,
            aux_base=w.base,
            aux_m=w.down,
            aux_p=w.right,
            shift=update_shift,
            rounding=Rounding.STOCHASTIC,
            aux_mode=AuxMode.ADD,
            negate=1,
            segments=(segment,),
        )

    def weights(a: _Matrix, e: _Matrix) -> Segment:
        # A is the transposed matrix: its term q is row q of what is stored.
        return Segment(
            k=batch,
            a_base=a.base,
            a_m=a.right,
            a_k=a.down,
            a_column=0,
            b_base=e.base,
            b_p=e.right,
            b_k=e.down,
            a_moves=a.moves,
            pad=max(array - batch, 2 - batch, 0),
        )

    def biases(e: _Matrix) -> Segment:
        return Segment(
            k=batch,
            b_base=e.base,
            b_p=e.right,
            b_k=e.down,
            ones=1,
            pad=max(array - batch, 2 - batch, 0),
        )

    instructions = [
        Instruction(
            m_tiles=h.rows,
            p_tiles=h.columns,
            product=Product.XW,
            destination=Memory.X,
            rows_last=last(batch),
            d_base=h.base,
            d_m=h.down,
            d_p=h.right,
            shift=forward_shift,
            gate=Gate.RELU,
            segments=(product(inputs, x, w1), bias(b1)),
        ),
        Instruction(
            m_tiles=e2.rows,
            p_tiles=e2.columns,
            product=Product.XW,
            destination=Memory.E,
            rows_last=last(batch),
            d_base=e2.base,
            d_m=e2.down,
            d_p=e2.right,
            aux_base=target.base,
            aux_m=target.down,
            aux_p=target.right,
            aux_moves=target.moves,
            shift=forward_shift,
            aux_mode=AuxMode.SUBTRACT,
            gate=Gate.HINGE,
            segments=(product(hidden, h, w2), bias(b2)),
        ),
        Instruction(
            m_tiles=e1.rows,
            p_tiles=e1.columns,
            product=Product.EW,
            destination=Memory.E,
            rows_last=last(batch),
            d_base=e1.base,
            d_m=e1.down,
            d_p=e1.right,
            aux_base=h.base,
            aux_m=h.down,
            aux_p=h.right,
            shift=backward_shift,
            gate=Gate.MASK,
            segments=(product(outputs, e2, w2, b_transposed=True),),
        ),
        update(w2, hidden, weights(h, e2)),
        update(b2, 1, biases(e2)),
        update(w1, inputs, weights(x, e1)),
        update(b1, 1, biases(e1)),
        Instruction(
            m_tiles=x.rows,
            p_tiles=x.columns,
            product=Product.EW,
            destination=Memory.E,
            rows_last=last(batch),
            d_base=gradient.base,
            d_m=gradient.right,
            d_p=gradient.down,
            d_column=1,
            d_moves=gradient.moves,
            shift=backward_shift,
            rounding=Rounding.HALF_UP,
            segments=(product(hidden, e1, w1, b_transposed=True),),
        ),
    ]
    lines = sum(instruction.lines for instruction in instructions)
    geometry = Geometry(
        array=array,
        operand_bits=operand_bits,
        word_bits=word_bits,
        sum_bits=max(2 * operand_bits + 8, word_bits),
        x_depth=layout.used[Memory.X],
        w_depth=layout.used[Memory.W],
        e_depth=layout.used[Memory.E],
        program_depth=lines,
    )
    loop = Loop(steps, x_stride=strides[Memory.X], e_stride=strides[Memory.E])
    return Step(geometry, scheduled(instructions, geometry, loop), loop)


def random_loop(rng: np.random.Generator, geometry: Geometry, steps: int) -> Loop:
    """Draw how far data moves: what moves takes a quarter to three quarters of a memory, or none.

    It lies at the high end of each memory, in :func:`random_program`.
    """

    def stride(memory: Memory) -> int:
        tiles = geometry.depth(memory) // geometry.array
        share = rng.choice([0, 0.25, 0.5, 0.75])
        return int(tiles * share) // steps * geometry.array

    return Loop(steps, *(stride(memory) for memory in Memory))


def random_program(
    rng: np.random.Generator, geometry: Geometry, count: int, loop: Loop = ONE_STEP
) -> list[Instruction]:
    """Draw a legal program of `count` instructions: any product, shape, address, epilogue.

    Sums of codes of any size fit the accumulator. The memories should have room for six tiles of
    what moves and for six of what does not.
    """
    instructions: list[Instruction] = []
    while len(instructions) < count:
        try:
            instruction = _random_instruction(rng, geometry, loop)
            # Whatever it has to wait for is over after so long.
            check_instructions([replace(instruction, delay=1 << 15)], geometry, loop)
        except CheckError:
            continue  # it overlaps itself, or leaves a memory
        if _stays_in_regions(instruction, geometry, loop):
            instructions.append(instruction)
    return scheduled(instructions, geometry, loop)


def _region(geometry: Geometry, loop: Loop, memory: Memory, moves: int) -> tuple[int, int]:
    """Return first word and end of where operands in `memory` lie that move, or do not."""
    end = geometry.depth(memory) // geometry.array * geometry.array
    if loop.steps == 1:
        return 0, end
    stride = loop.stride(memory)
    first = end - loop.steps * stride
    return (first, first + stride) if moves else (0, first)


def _stays_in_regions(instruction: Instruction, geometry: Geometry, loop: Loop) -> bool:
    n = geometry.array
    product = instruction.product
    operands = [
        (instruction.destination, instruction.d_moves, destination_tiles(instruction)),
        (product.aux, instruction.aux_moves, aux_tiles(instruction)),
    ]
    for segment in instruction.segments:
        operands.append((product.a, segment.a_moves, a_tiles(instruction, segment, n)))
        operands.append((product.b, segment.b_moves, b_tiles(instruction, segment, n)))
    for memory, moves, tiles in operands:
        begin, end = _region(geometry, loop, memory, moves)
        if int(tiles.min()) < begin or int(tiles.max()) + n > end:
            return False
    return True


def _random_instruction(rng: np.random.Generator, geometry: Geometry, loop: Loop) -> Instruction:
    n = geometry.array
    product = Product(int(rng.integers(3)))
    destination = Memory(int(rng.integers(3)))
    m_tiles, p_tiles = (int(size) for size in rng.choice([1, 1, 1, 2, 2, 3, 3, 4], 2))

    def grid(memory: Memory, outer: int, inner: int) -> tuple[int, int, int, int]:
        """Draw base and steps of a grid of tiles, and whether it moves.

        It lies in its region of `memory` more often than not.
        """
        moves = int(rng.integers(2))
        begin, end = _region(geometry, loop, memory, moves)
        if end - begin < n:
            moves = 1 - moves
            begin, end = _region(geometry, loop, memory, moves)
        places = (end - begin) // n
        base = int(rng.integers(places))
        steps = rng.permutation([1, inner, -1, int(rng.integers(-3, 4))])[:2]
        if rng.integers(2) and outer * inner <= places:
            base, steps = int(rng.integers(places - outer * inner + 1)), np.array([inner, 1])
        step, next_step = (int(item) * n % (1 << ADDRESS_BITS) for item in steps)
        return begin + base * n, step, next_step, moves

    segments: list[Segment] = []
    # The bound of numerics.md, with codes of any size in A and B.
    terms = ((1 << geometry.sum_bits - 1) - 1) // ((1 << geometry.operand_bits - 1) - 1) ** 2
    count = int(rng.choice([1, 1, 1, 2, 2, 3, 3, 4]))
    for number in range(count):
        k = min(int(rng.integers(1, 2 * n + 2)), terms // count)
        k_tiles = -(-k // n)
        a_base, a_m, a_k, a_moves = grid(product.a, m_tiles, k_tiles)
        b_base, b_k, b_p, b_moves = grid(product.b, k_tiles, p_tiles)
        # The last segment fills the tile up to the N cycles that it must take.
        short = n - sum(segment.cycles for segment in segments) - k if number == count - 1 else 0
        pad = max(2 - k, short, int(rng.choice([0, 0, 0, 0, 1, 1, 3, _PAD_MAX])))
        segments.append(
            Segment(
                k=k,
                a_base=a_base,
                a_m=a_m,
                a_k=a_k,
                b_base=b_base,
                b_p=b_p,
                b_k=b_k,
                pad=pad,
                ones=int(rng.integers(4) == 0),
                ones_shift=int(rng.integers(geometry.operand_bits - 1)),
                a_column=int(rng.integers(2)),
                b_column=int(rng.integers(2)),
                a_moves=a_moves,
                b_moves=b_moves,
            )
        )
    d_base, d_m, d_p, d_moves = grid(destination, m_tiles, p_tiles)
    d_column = int(rng.integers(2))
    aux_base, aux_m, aux_p, aux_moves = grid(product.aux, m_tiles, p_tiles)
    aux_column = int(rng.integers(2))
    if destination == product.aux and rng.integers(2):
        aux_base, aux_m, aux_p, aux_column = d_base, d_m, d_p, d_column
        aux_moves = d_moves
    shift = int(rng.integers(48)) if rng.integers(3) == 0 else int(rng.integers(20))
    if rng.integers(6) == 0:
        shift = int(rng.choice([0, 1, geometry.word_bits, SHIFT_MAX]))
    return Instruction(
        m_tiles=m_tiles,
        p_tiles=p_tiles,
        product=product,
        destination=destination,
        rows_last=int(rng.integers(1, n + 1)),
        d_base=d_base,
        d_m=d_m,
        d_p=d_p,
        segments=tuple(segments),
        aux_base=aux_base,
        aux_m=aux_m,
        aux_p=aux_p,
        shift=shift,
        rounding=Rounding(int(rng.integers(4))),
        aux_mode=AuxMode(int(rng.integers(3))),
        gate=Gate(int(rng.integers(4))),
        negate=int(rng.integers(2)),
        d_column=d_column,
        aux_column=aux_column,
        d_moves=d_moves,
        aux_moves=aux_moves,
    )
