"""Programs that the bench of a whole device runs, and what each must leave.

What is expected is that of ``specification.py``; it follows from the geometry alone, and is
computed once for all devices of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siligrad.checker import check_instructions
from siligrad.host import HostDevice
from siligrad.isa import (
    ONE_STEP,
    AuxMode,
    Geometry,
    Instruction,
    Loop,
    Memory,
    Product,
    Rounding,
    Segment,
    encode_program,
)
from siligrad.lfsr import seed_lanes
from siligrad.registers import Register, Status
from siligrad_sim.benches.programs import (
    Contents,
    Step,
    draw_words,
    random_loop,
    random_program,
    scheduled,
    training_step,
)
from siligrad_sim.benches.specification import Lane, Machine, busy_cycles

__all__ = [
    "CYCLES_MOST",
    "RANDOM_PROGRAMS",
    "Run",
    "device_geometry",
    "drawn_programs",
    "large_programs",
    "large_runs",
    "random_runs",
    "repeated",
    "step",
    "tails",
    "tile",
    "training_steps",
]

RANDOM_PROGRAMS = 30

CYCLES_MOST = 1_000_000
"""No run takes more."""

_CONTENTS: Sequence[Contents] = ("zeros", "largest", "random", "coarse")


def device_geometry(n: int) -> Geometry:
    """Return an accelerator with room for the training step and for random programs."""
    return Geometry(array=n, x_depth=12 * n, w_depth=11 * n + 1, e_depth=14 * n, program_depth=60)


def drawn_programs(
    geometry: Geometry,
) -> Iterator[tuple[list[Instruction], Loop, dict[Memory, NDArray[np.int32]]]]:
    """Yield random programs of any instructions, how often, and on which words."""
    rng = np.random.default_rng(geometry.array)
    for number in range(RANDOM_PROGRAMS):
        loop = random_loop(rng, geometry, 1 + number % 3 // 2)
        instructions = random_program(rng, geometry, 6, loop)
        yield instructions, loop, draw_words(rng, geometry, _CONTENTS[number % len(_CONTENTS)])


@dataclass(frozen=True)
class Run:
    """A program, what it finds, and what it must leave."""

    instructions: Sequence[Instruction]
    loop: Loop
    words: Mapping[Memory, NDArray[np.int32]]
    runs: int
    cycles: int
    words_after: Mapping[Memory, NDArray[np.int64]]
    lanes_after: tuple[int, ...]
    saturations: tuple[int, ...]

    def check(self, device: HostDevice, what: str) -> None:
        """Run it on `device`, whose shift registers are as they should be before it."""
        device.write_lines(encode_program(self.instructions))
        for memory, words in self.words.items():
            device.write_words(memory, 0, words)
        for _ in range(self.runs):
            cycles = device.execute(self.loop, CYCLES_MOST)
            assert cycles == self.cycles, f"{what}: {cycles} cycles, want {self.cycles}"
        self.compare(device, cycles, what)

    def compare(self, device: HostDevice, cycles: int, what: str) -> None:
        """Compare all that it leaves, and the cycles it took, after it was run on `device`."""
        assert cycles == self.cycles, f"{what}: {cycles} cycles, want {self.cycles}"
        status = device.read_register(Register.STATUS)
        assert status == Status.DONE, f"{what}: status {status}"
        for memory, got in device.dump().items():
            np.testing.assert_array_equal(got, self.words_after[memory], err_msg=what)
        assert device.read_lfsr() == self.lanes_after, f"{what}: shift registers"
        counted = device.read_saturations(len(self.instructions))
        assert counted == self.saturations, f"{what}: saturations {counted}"


@cache
def step(geometry: Geometry) -> Step:
    """Return the training step that checks run."""
    n = geometry.array
    return training_step(
        n,
        batch=n + 1,
        inputs=n + 2,
        hidden=2 * n - 1,
        outputs=n - 1,
        operand_bits=geometry.operand_bits,
        word_bits=geometry.word_bits,
    )


@cache
def training_steps(geometry: Geometry) -> Mapping[Contents, Run]:
    """Return two runs of the training step for each kind of contents."""
    instructions = step(geometry).instructions
    rng = np.random.default_rng(geometry.array)
    result = {}
    for contents in _CONTENTS:
        words = draw_words(rng, geometry, contents)
        result[contents] = _expected(_machine(geometry), instructions, ONE_STEP, words, 2)
    return result


def tile(
    geometry: Geometry,
    *,
    m_tiles: int = 1,
    p_tiles: int = 1,
    k: int = 0,
    pad: int = 0,
    segments: int = 1,
) -> Instruction:
    """Return an instruction that writes tiles side by side, from the same tiles of W.

    It adds up `k` rows, N of them without a number.
    """
    n = geometry.array
    segment = Segment(k=k or n, ones=1, b_base=n, pad=pad)
    return Instruction(
        m_tiles=m_tiles,
        p_tiles=p_tiles,
        product=Product.XW,
        destination=Memory.E,
        rows_last=n,
        d_base=0,
        d_m=p_tiles * n,
        d_p=n,
        segments=(segment,) * segments,
        shift=2,
        rounding=Rounding.HALF_EVEN,
    )


def _cut_off(pattern: int, most: int) -> int:
    """Return the lower bits of `pattern`, as many as are at most `most`."""
    while pattern > most:
        pattern &= ~(1 << pattern.bit_length() - 1)
    return pattern


def large_programs(geometry: Geometry) -> Iterator[tuple[Sequence[Instruction], Loop]]:
    """Yield the programs with large numbers, one field after the other, and how often.

    Tiles, terms, pads, segments and delays have ones and zeros in turn, one way and the other; then
    operands and results move through all of each memory.
    """
    n = geometry.array
    room = geometry.depth(Memory.E) // n
    tiles = [_cut_off(pattern, room) for pattern in (0x555, 0xAAA)]
    programs = [
        *([tile(geometry, m_tiles=count - less)] for count in tiles for less in (0, 1)),
        *([tile(geometry, p_tiles=count - less)] for count in tiles for less in (0, 1)),
        *([tile(geometry, k=count)] for count in (0x5555, 0xAAAA)),
        *([tile(geometry, pad=count, p_tiles=2)] for count in (0x15, 0x0A)),
        # Segments are counted anew for every tile.
        *([tile(geometry, m_tiles=2, p_tiles=2, segments=count)] for count in (21, 42)),
    ]
    last = tile(geometry)
    for each in programs:
        yield scheduled([*each, last], geometry), ONE_STEP
    for delay in (0x5555, 0xAAAA):
        yield [last, dataclasses.replace(last, delay=delay)], ONE_STEP
    steps = min(geometry.depth(memory) for memory in Memory) // n
    loop = Loop(steps, n, n, n)
    for product, destination in ((Product.XW, Memory.E), (Product.EW, Memory.X)):
        moving = dataclasses.replace(
            last,
            product=product,
            destination=destination,
            segments=(Segment(k=n, a_moves=1, b_moves=1),),
            aux_mode=AuxMode.ADD,
            shift=8,
            d_moves=1,
            aux_moves=1,
        )
        yield scheduled([moving], geometry, loop), loop


@cache
def large_runs(geometry: Geometry) -> Sequence[Run]:
    """Return the runs of :func:`large_programs`, each from the same shift registers."""
    words = draw_words(np.random.default_rng(geometry.array), geometry, "random")
    result = []
    for instructions, loop in large_programs(geometry):
        check_instructions(instructions, geometry, loop)
        result.append(_expected(_machine(geometry), instructions, loop, words, 1))
    return result


@cache
def repeated(geometry: Geometry, runs: int) -> Run:
    """Return the training step, run so often."""
    words = draw_words(np.random.default_rng(geometry.array), geometry, "coarse")
    return _expected(_machine(geometry), step(geometry).instructions, ONE_STEP, words, runs)


@cache
def tails(geometry: Geometry) -> Sequence[Run]:
    """Return for each instruction of the training step the run that begins with it."""
    machine = _machine(geometry)
    rng = np.random.default_rng(geometry.array)
    words = draw_words(rng, geometry, "coarse")
    instructions = step(geometry).instructions
    return [
        _expected(machine, instructions[first:], ONE_STEP, words, 1)
        for first in range(len(instructions))
    ]


@cache
def random_runs(geometry: Geometry) -> Sequence[Run]:
    """Return the runs of :func:`drawn_programs`, one after the other."""
    machine = _machine(geometry)
    return [
        _expected(machine, instructions, loop, words, 1)
        for instructions, loop, words in drawn_programs(geometry)
    ]


def _machine(geometry: Geometry) -> Machine:
    """Return a machine whose shift registers are as each check sets them."""
    machine = Machine(geometry)
    machine.lanes = [Lane(state) for state in seed_lanes(geometry.array, geometry.array)]
    return machine


def _expected(
    machine: Machine, instructions: Sequence[Instruction], loop: Loop, words: Any, runs: int
) -> Run:
    """Return the run of a program on `words`, and leave `machine` as it leaves the device."""
    for memory in Memory:
        machine.words[memory][:] = words[memory]
    for _ in range(runs):
        machine.run(instructions, loop)
    return Run(
        instructions,
        loop,
        words,
        runs,
        busy_cycles(instructions, machine.geometry.array, loop.steps),
        {memory: machine.words[memory].copy() for memory in Memory},
        tuple(lane.state for lane in machine.lanes),
        tuple(machine.saturations),
    )
