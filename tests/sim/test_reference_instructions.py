"""The reference, instruction by instruction, against the model that docs/spec alone was read for.

The model (:class:`tests.hdl.model.Machine`) computes an element at a time, in Python's integers;
the same model judges the hardware.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from siligrad.device import OverrunError
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
    encode_program,
)
from siligrad_sim.reference import ReferenceDevice
from tests.hdl.model import Machine, Schedule
from tests.hdl.programs import ONCE, random_program, random_steps


class Pair:
    """A reference and a model that hold the same words and states."""

    def __init__(self, geometry: Geometry, seed: int) -> None:
        self.geometry = geometry
        depths = [geometry.depth(memory) for memory in Memory]
        self.model = Machine(
            geometry.array, geometry.word_bits, geometry.operand_bits, geometry.sum_bits, depths
        )
        self.device = ReferenceDevice(geometry)
        rng = self.rng = np.random.default_rng(seed)
        states = [int(state) for state in rng.integers(1, 2**32, geometry.array)]
        self.device.write_lfsr(states)
        for lane, state in zip(self.model.lanes, states, strict=True):
            lane.state = state
        self.fill(rng.choice([0.01, 0.3, 1.0]))

    def fill(self, share: float) -> None:
        """Write random words, up to a share of the largest."""
        limit = int(share * (2 ** (self.geometry.word_bits - 1) - 1)) or 1
        for memory in Memory:
            shape = (self.geometry.depth(memory), self.geometry.array)
            words = self.rng.integers(-limit, limit + 1, shape, dtype=np.int32)
            words[self.rng.random(shape) < 0.1] = 0
            self.write(memory, words)

    def write(self, memory: Memory, words: np.ndarray[tuple[int, int], np.dtype[np.int32]]) -> None:
        self.device.write_words(memory, 0, words)
        self.model.memories[memory] = words.T.tolist()

    def run(
        self,
        program: Sequence[Instruction],
        steps: int = 1,
        strides: tuple[int, int, int] = (0, 0, 0),
    ) -> list[int]:
        """Run a program on both, compare everything, and return the saturations."""
        schedule = Schedule(self.geometry.array)
        schedule.take(program, steps)
        self.device.write_lines(encode_program(program))
        assert self.device.execute(Loop(steps, *strides), schedule.cycles) == schedule.cycles
        saturations = self.model.run(program, steps, strides)
        assert list(self.device.read_saturations(len(program))) == saturations
        for memory in Memory:
            found = self.device.read_words(memory, 0, self.geometry.depth(memory))
            np.testing.assert_array_equal(found, np.transpose(self.model.memories[memory]))
        assert self.device.read_lfsr() == tuple(lane.state for lane in self.model.lanes)
        return saturations


@pytest.mark.parametrize("narrow", [False, True], ids=["words", "narrow operands"])
@pytest.mark.parametrize("array", [2, 3, 4])
def test_random_programs_leave_what_the_model_leaves(array: int, narrow: bool) -> None:
    geometry = Geometry(
        array=array,
        operand_bits=6 if narrow else 12,
        sum_bits=24 if narrow else 32,
        word_bits=12,
        x_depth=17 * array,
        w_depth=18 * array + 1,  # the last word is in no tile
        e_depth=19 * array,
        program_depth=64,
    )
    saturated = 0
    for seed in range(14):
        pair = Pair(geometry, seed)
        count = 1 + seed % 3
        steps = random_steps(pair.rng, pair.model, count) if count > 1 else ONCE
        program, _ = random_program(pair.rng, pair.model, 3, steps)
        saturated += sum(pair.run(program, steps.count, steps.strides))
        assert len(pair.device.read_saturations(2)) == 2
    assert saturated > 0


BASE = Instruction(
    m_tiles=1,
    p_tiles=1,
    product=Product.XW,
    destination=Memory.E,
    rows_last=2,
    d_base=0,
    d_m=2,
    d_p=2,
    segments=(Segment(k=2),),
)


DEEP = Geometry(
    array=2, operand_bits=8, word_bits=8, sum_bits=32, x_depth=2240, w_depth=4480, e_depth=4
)
"""Room for more than 2**24 in a sum, where a float of 32 bits loses the last bit."""


def constant(depth: int, value: int) -> np.ndarray[tuple[int, int], np.dtype[np.int32]]:
    return np.full((depth, 2), value, np.int32)


@pytest.mark.parametrize("left", [-3, -1, 0, 1, 3])
@pytest.mark.parametrize("negate", [0, 1])
def test_the_last_bit_of_a_large_sum_decides_how_it_is_rounded(left: int, negate: int) -> None:
    # 1056 * 127 * 127 + 127 * 56 + 24 is 65 * 2**18; the last term is 1 * (24 + left).
    pair = Pair(DEEP, 0)
    x, w = constant(2240, 127), constant(4480, 127)
    x[1056, 1] = x[1057, 0] = 1  # the second column of the last tile
    w[1056] = 56
    w[1057] = 24 + left
    pair.write(Memory.X, x)
    pair.write(Memory.W, w)
    large = replace(
        BASE,
        segments=(Segment(k=1058, a_k=2, b_k=2),),
        shift=18,
        rounding=Rounding.FLOOR,
        negate=negate,
    )
    pair.run([large])
    exact = -65 * 2**18 - left if negate else 65 * 2**18 + left
    assert pair.model.memories[Memory.E][0][0] == exact >> 18


def test_what_is_left_of_large_products_is_exact() -> None:
    # 1 * 125 + 1100 * 127 * 127, less 1100 * 127 * 127.
    pair = Pair(DEEP, 0)
    x, w = constant(2240, 127), constant(4480, 127)
    x[0, 0] = x[1, 1] = 1  # the first column
    w[0] = 125
    w[2000:] = -127
    pair.write(Memory.X, x)
    pair.write(Memory.W, w)
    segments = (
        Segment(k=1101, a_k=2, b_k=2),
        Segment(k=1100, a_base=2, a_k=2, b_base=2000, b_k=2),
    )
    pair.run([replace(BASE, segments=segments)])
    assert pair.model.memories[Memory.E][0][0] == 125


def test_what_is_left_of_large_rows_is_exact() -> None:
    # 1 * 3 + 127 * 0, and 2200 * 127 * 64 added and subtracted.
    pair = Pair(DEEP, 0)
    x, w = constant(2240, 1), constant(4480, 127)
    w[2200:4400] = -127
    w[4400:] = 0
    w[4400] = 3
    pair.write(Memory.X, x)
    pair.write(Memory.W, w)
    segments = (
        Segment(k=2, b_base=4400),
        Segment(k=2200, ones=1, ones_shift=6, b_k=2),
        Segment(k=2200, ones=1, ones_shift=6, b_base=2200, b_k=2),
    )
    pair.run([replace(BASE, segments=segments)])
    assert pair.model.memories[Memory.E][0][0] == 3


@pytest.mark.parametrize(
    ("segments", "exact"),
    [
        ((Segment(k=1023),), np.float32),  # of up to 2**14 each
        ((Segment(k=1024),), np.float64),
        ((Segment(k=1000), Segment(k=24)), np.float64),
        ((Segment(k=2047, ones=1, ones_shift=6),), np.float32),  # of up to 2**13
        ((Segment(k=2048, ones=1, ones_shift=6),), np.float64),
    ],
)
def test_sums_that_are_exact_in_it_are_computed_in_the_faster_type(
    segments: tuple[Segment, ...], exact: type
) -> None:
    device = ReferenceDevice(DEEP)
    device.write_lines(encode_program([replace(BASE, segments=segments)]))
    assert device._instructions[0].exact is exact


def test_many_rows_of_tiles_are_finished_in_order() -> None:
    # 2 * 260 tiles of 64 elements: more than are finished at a time.
    geometry = Geometry(
        array=8,
        operand_bits=8,
        word_bits=8,
        sum_bits=20,
        x_depth=8 * 260,
        w_depth=32,
        e_depth=2 * 8 * 260,
    )
    pair = Pair(geometry, 0)
    pair.fill(1.0)
    tall = replace(
        BASE,
        m_tiles=260,
        p_tiles=2,
        rows_last=5,
        d_m=16,
        d_p=8,
        aux_m=16,
        aux_p=8,
        segments=(
            Segment(k=3, a_m=8, b_p=8, pad=5),
            Segment(k=1, ones=1, ones_shift=3, b_base=16, b_p=8, pad=1),
        ),
        shift=4,
        rounding=Rounding.STOCHASTIC,
        aux_mode=AuxMode.ADD,
        gate=Gate.HINGE,
    )
    (saturated,) = pair.run([tall])
    assert saturated > 1000


@pytest.mark.parametrize("array", [2, 3, 5])
def test_any_words_can_be_written_and_read(array: int) -> None:
    depth = 7 * array + 1
    device = ReferenceDevice(Geometry(array=array, x_depth=depth, w_depth=depth, e_depth=array))
    rng = np.random.default_rng(0)
    held = {memory: np.zeros((depth, array), np.int32) for memory in (Memory.X, Memory.W)}
    for _ in range(200):
        memory = rng.choice(list(held))
        memory = Memory(int(memory))
        first = int(rng.integers(depth))
        count = int(rng.integers(1, depth - first + 1))
        if rng.random() < 0.5:
            words = rng.integers(-(2**15), 2**15, (count, array), dtype=np.int32)
            device.write_words(memory, first, words)
            held[memory][first : first + count] = words
        found = device.read_words(memory, first, count)
        np.testing.assert_array_equal(found, held[memory][first : first + count])


def test_a_program_that_takes_longer_than_its_limit_does_nothing() -> None:
    geometry = Geometry(array=2, x_depth=4, w_depth=4, e_depth=4)
    pair = Pair(geometry, 0)
    schedule = Schedule(2)
    schedule.take([BASE], 3)
    pair.device.write_lines(encode_program([BASE]))
    before = pair.device.read_words(Memory.E, 0, 4)
    message = (
        f"reference: the program takes {schedule.cycles} cycles, its limit is {schedule.cycles - 1}"
    )
    with pytest.raises(OverrunError, match=message):
        pair.device.execute(Loop(3), schedule.cycles - 1)
    np.testing.assert_array_equal(pair.device.read_words(Memory.E, 0, 4), before)
    assert pair.device.execute(Loop(3), schedule.cycles) == schedule.cycles
