"""Bench of a whole device: what a host can do with it, compared with the specification.

Each check takes an open device and raises AssertionError, or the device its own error, if it is
not what the specification says. They need no simulator of their own: whatever carries the words
of the host port will do, also a board. What is expected follows from the geometry alone, and is
computed once for all devices of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siligrad.checker import check_instructions
from siligrad.device import OverrunError
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
from siligrad.registers import (
    OVERRUN_CYCLES,
    REGION_BITS,
    WORDS_PER_LINE,
    Region,
    Register,
    Status,
    bank_bits,
    element_address,
    program_address,
)
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
    "CHECKS",
    "RANDOM_PROGRAMS",
    "check_absent",
    "check_entry",
    "check_large_numbers",
    "check_limits",
    "check_random_programs",
    "check_refusals",
    "check_training_step",
    "check_words",
    "device_geometry",
    "drawn_programs",
    "large_programs",
]

RANDOM_PROGRAMS = 30

_LIMIT = 1_000_000

_ACCESSES = 3
"""By which a run is disturbed; it ends before there are many."""

_CONTENTS: Sequence[Contents] = ("zeros", "largest", "random", "coarse")


def device_geometry(n: int) -> Geometry:
    """Return an accelerator with room for the training step and for random programs."""
    return Geometry(array=n, x_depth=12 * n, w_depth=11 * n + 1, e_depth=14 * n, program_depth=60)


def drawn_programs(
    geometry: Geometry,
) -> Iterator[tuple[list[Instruction], Loop, dict[Memory, NDArray[np.int32]]]]:
    """Yield the programs of :func:`check_random_programs`, how often, and on which words."""
    rng = np.random.default_rng(geometry.array)
    for number in range(RANDOM_PROGRAMS):
        loop = random_loop(rng, geometry, 1 + number % 3 // 2)
        instructions = random_program(rng, geometry, 6, loop)
        yield instructions, loop, draw_words(rng, geometry, _CONTENTS[number % len(_CONTENTS)])


def large_programs(geometry: Geometry) -> Iterator[list[Instruction]]:
    """Yield the programs of :func:`check_large_numbers`, but for that of many steps."""
    room = geometry.depth(Memory.E) // geometry.array
    tiles = [_cut_off(pattern, room) for pattern in (0x555, 0xAAA)]
    cases = [
        *({name: value} for name in ("m_tiles", "p_tiles") for value in tiles),
        *({"k": value} for value in (0x5555, 0xAAAA)),
        *({"segments": value} for value in (21, 42)),
        *({"delay": value} for value in (0x5555, 0xAAAA)),
    ]
    last = _tile(geometry)
    for case in cases:
        first = _tile(geometry, **{name: case[name] for name in case if name != "delay"})
        instructions = scheduled([first, last], geometry)
        if "delay" in case:
            instructions[1] = dataclasses.replace(last, delay=case["delay"])
        check_instructions(instructions, geometry, ONE_STEP)
        yield instructions


@dataclass(frozen=True)
class _Run:
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
            cycles = device.execute(self.loop, _LIMIT)
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


def check_training_step(device: HostDevice) -> None:
    """Run a step of training twice on each kind of contents; compare everything."""
    for contents, run in _training_steps(device.geometry).items():
        device.write_lfsr(seed_lanes(device.geometry.array, device.geometry.array))
        run.check(device, f"training on {contents}")


def check_random_programs(device: HostDevice) -> None:
    """Run :data:`RANDOM_PROGRAMS` programs of any instructions, one after the other."""
    device.write_lfsr(seed_lanes(device.geometry.array, device.geometry.array))
    for number, run in enumerate(_random_runs(device.geometry)):
        run.check(device, f"random program {number}")


def check_words(device: HostDevice) -> None:
    """Write every word that a host can write, both values of each bit, and read it again."""
    geometry = device.geometry
    n, limit = geometry.array, (1 << geometry.word_bits - 1) - 1
    rng = np.random.default_rng(n)
    drawn = {
        memory: rng.integers(-limit, limit + 1, (geometry.depth(memory), n)) for memory in Memory
    }
    for sign in (1, -1):
        codes = {memory: sign * words for memory, words in drawn.items()}
        for memory, words in codes.items():
            device.write_words(memory, 0, words.astype(np.int32))
        for memory, got in device.dump().items():
            np.testing.assert_array_equal(got, codes[memory], err_msg=f"words of {memory.name}")
    first = [int.from_bytes(rng.bytes(16)) for _ in range(geometry.program_depth)]
    for flipped in (0, (1 << 128) - 1):
        lines = [line ^ flipped for line in first]
        device.write_lines(lines)
        assert device.read_lines(geometry.program_depth) == lines, "lines of the program"
    widths: dict[int, int] = {
        **dict.fromkeys((Register.LIMIT, Register.LIMIT_HIGH), 32),
        **dict.fromkeys((Register.X_STRIDE, Register.W_STRIDE, Register.E_STRIDE), 16),
        Register.STEPS: 16,
        Register.ENTRY: (geometry.program_depth - 1).bit_length(),
        **{Register.LFSR + lane: 32 for lane in range(n)},
    }
    values = {register: int(rng.integers(1 << 32)) for register in widths}
    for flipped in (0, (1 << 32) - 1):
        wanted = {
            register: (values[register] ^ flipped) & ((1 << width) - 1)
            for register, width in widths.items()
        }
        for register, value in wanted.items():
            device.write_register(register, value)
        read = {register: device.read_register(register) for register in wanted}
        assert read == wanted, f"registers {read}, want {wanted}"


def check_absent(device: HostDevice) -> None:
    """Ask for words that do not exist, most of them one bit away from a word that does.

    They read zero, and a write leaves the word that does exist as it was.
    """
    geometry = device.geometry
    n, banks = geometry.array, 1 << bank_bits(geometry.array)
    ends = {
        Region.X.base: geometry.x_depth * banks,
        Region.W.base: geometry.w_depth * banks,
        Region.E.base: geometry.e_depth * banks,
        Region.PROGRAM.base: geometry.program_depth * WORDS_PER_LINE,
    }
    for base, end in ends.items():
        offsets = {end, *range(n, banks), *(1 << bit for bit in range(REGION_BITS))}
        if base == Region.PROGRAM.base:
            offsets -= set(range(end))
        else:
            offsets -= {each for each in offsets if each < end and each % banks < n}
        _check_absent(device, base, {base + each for each in offsets})
    register = Region.REGISTERS.base + Register.LIMIT
    lanes = range(Register.LFSR, Register.LFSR + n)
    _check_absent(
        device,
        register,
        {register ^ 1 << bit for bit in range(REGION_BITS)} - {*Register, *lanes},
    )
    # Many instructions that saturate, then one: of what the others counted nothing is read.
    for count in (geometry.program_depth // _tile(geometry).lines, 1):
        tiles = [dataclasses.replace(_tile(geometry, k=2 * n), shift=0)] * count
        device.write_lines(encode_program(scheduled(tiles, geometry)))
        largest = np.full((2 * n, n), (1 << geometry.word_bits - 1) - 1, np.int32)
        device.write_words(Memory.W, n, largest)
        device.execute(ONE_STEP, _LIMIT)
        assert all(device.read_saturations(count)), f"{count} instructions that do not saturate"
    offsets = {*range(1, geometry.program_depth), *(1 << bit for bit in range(REGION_BITS))}
    for address in sorted(Region.SATURATIONS.base + each for each in offsets):
        got = device.read_word(address)
        assert got == 0, f"word {address:#x}, which does not exist: {got:#x}"


def _check_absent(device: HostDevice, present: int, absent: Collection[int]) -> None:
    """Read and write words that do not exist beside one that does."""
    device.write_word(present, 0x2A)
    for address in sorted(absent):
        got = device.read_word(address)
        assert got == 0, f"word {address:#x}, which does not exist: {got:#x}"
        device.write_word(address, 0x15)
        got = device.read_word(present)
        assert got == 0x2A, f"word {present:#x} after {address:#x}, which does not exist: {got:#x}"


def check_limits(device: HostDevice) -> None:
    """End runs at limits of every number of bits, and let one finish that has none to fear."""
    step = _step(device.geometry)
    device.write_lines(encode_program(step.instructions))
    whole = busy_cycles(step.instructions, device.geometry.array)
    limits = [*(1 << bit for bit in range(64)), *(1 << bit | 1 for bit in range(1, 64))]
    for limit in [*limits, whole - 1, whole, (1 << 64) - 1]:
        # At its limit the hardware is told to end, which takes it some cycles more.
        ended = min(whole, limit + OVERRUN_CYCLES)
        try:
            cycles = device.execute(ONE_STEP, limit)
            assert cycles <= limit, f"limit {limit}: nobody noticed the end after {cycles}"
        except OverrunError as error:
            cycles = error.cycles
            assert cycles > limit, f"limit {limit}: said to exceed it after {cycles}"
        assert cycles == ended, f"limit {limit}: ended after {cycles} cycles, want {ended}"


def check_entry(device: HostDevice) -> None:
    """Run a program from each of its instructions on."""
    n = device.geometry.array
    step, lines = _step(device.geometry), 0
    device.write_lines(encode_program(step.instructions))
    device.write_lfsr(seed_lanes(n, n))
    for index, run in enumerate(_tails(device.geometry)):
        for memory, words in run.words.items():
            device.write_words(memory, 0, words)
        device.write_register(Register.STATUS, 0)
        device.write_register(Register.ENTRY, lines)
        device.write_register(Register.STEPS, 1)
        device.write_register(Register.LIMIT, 0)
        device.write_register(Register.LIMIT_HIGH, 0)
        device.write_register(Register.CONTROL, 1)
        device.wait(_LIMIT)
        run.compare(device, device.read_cycles(), f"from instruction {index} on")
        lines += step.instructions[index].lines


def check_refusals(device: HostDevice) -> None:
    """Disturb a run with every access that is not allowed; it is refused, told of, and harmless."""
    geometry = device.geometry
    settings = {
        Register.ENTRY: 0,
        Register.STEPS: 1,
        Register.X_STRIDE: 0,
        Register.W_STRIDE: 0,
        Register.E_STRIDE: 0,
        Register.LIMIT: 0,
        Register.LIMIT_HIGH: 0,
    }
    states = range(Register.LFSR, Register.LFSR + geometry.array)
    registers = [Region.REGISTERS.base + each for each in (*settings, Register.CONTROL, *states)]
    memories = [element_address(memory, geometry.array, 1, 1) for memory in Memory]
    memories += [program_address(1), Region.SATURATIONS.base]
    accesses = [(address, True) for address in [*registers, *memories]]
    accesses += [(address, False) for address in memories]
    step = _step(geometry)
    device.write_lines(encode_program(step.instructions))
    run = _repeated(geometry, -(-len(accesses) // _ACCESSES))
    for memory, words in run.words.items():
        device.write_words(memory, 0, words)
    device.write_lfsr(seed_lanes(geometry.array, geometry.array))
    for first in range(0, len(accesses), _ACCESSES):
        for register, value in settings.items():
            device.write_register(register, value)
        device.write_register(Register.CONTROL, 1)
        for address, writes in accesses[first : first + _ACCESSES]:
            if writes:
                device.write_word(address, 2)
            else:
                got = device.read_word(address)
                assert got == 0, f"word {address:#x} of a busy accelerator {got:#x}"
            what = f"{'writing' if writes else 'reading'} {address:#x}"
            for expected in (Status.BUSY | Status.REFUSED, Status.BUSY):
                status = device.read_register(Register.STATUS)
                assert status == expected, f"status {status} after {what}, want {expected!r}"
                device.write_register(Register.STATUS, 0)
        device.wait(_LIMIT)
        for register, value in settings.items():
            got = device.read_register(register)
            assert got == value, f"{register.name} {got:#x} after it was refused, want {value:#x}"
    run.compare(device, device.read_cycles(), "runs that were disturbed")


def check_large_numbers(device: HostDevice) -> None:
    """Run programs with large numbers in each field that counts: tiles, terms, segments, cycles.

    Each has ones and zeros in turn, one way and the other. Then what moves does so through all of
    each memory. Then many steps, of which all that is seen is how many there were.
    """
    geometry = device.geometry
    for number, run in enumerate(_large_runs(geometry)):
        device.write_lfsr(seed_lanes(geometry.array, geometry.array))
        run.check(device, f"program {number} of large numbers")
    step = _tile(geometry)
    device.write_lines(encode_program([step]))
    for steps in (0x5555, 0xAAAA):
        want = busy_cycles([step], geometry.array, steps)
        got = device.execute(Loop(steps), want)
        assert got == want, f"{steps} steps: {got} cycles, want {want}"


CHECKS: Mapping[str, Callable[[HostDevice], None]] = {
    "limits": check_limits,
    "words": check_words,
    "absent words": check_absent,
    "refusals": check_refusals,
    "entry": check_entry,
    "training step": check_training_step,
    "random programs": check_random_programs,
    "large numbers": check_large_numbers,
}
"""All checks, the cheapest first."""


@cache
def _step(geometry: Geometry) -> Step:
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
def _training_steps(geometry: Geometry) -> Mapping[Contents, _Run]:
    step = _step(geometry)
    rng = np.random.default_rng(geometry.array)
    result = {}
    for contents in _CONTENTS:
        machine = Machine(geometry)
        machine.lanes = [Lane(state) for state in seed_lanes(geometry.array, geometry.array)]
        words = draw_words(rng, geometry, contents)
        result[contents] = _expected(machine, step.instructions, ONE_STEP, words, 2)
    return result


def _tile(
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


@cache
def _large_runs(geometry: Geometry) -> Sequence[_Run]:
    n = geometry.array
    room = geometry.depth(Memory.E) // n
    tiles = [_cut_off(pattern, room) for pattern in (0x555, 0xAAA)]
    programs = [
        *([_tile(geometry, m_tiles=count - less)] for count in tiles for less in (0, 1)),
        *([_tile(geometry, p_tiles=count - less)] for count in tiles for less in (0, 1)),
        *([_tile(geometry, k=count)] for count in (0x5555, 0xAAAA)),
        *([_tile(geometry, pad=count, p_tiles=2)] for count in (0x15, 0x0A)),
        # Segments are counted anew for every tile.
        *([_tile(geometry, m_tiles=2, p_tiles=2, segments=count)] for count in (21, 42)),
    ]
    last = _tile(geometry)
    words = draw_words(np.random.default_rng(n), geometry, "random")
    runs = [(scheduled([*each, last], geometry), ONE_STEP) for each in programs]
    for delay in (0x5555, 0xAAAA):
        runs.append(([last, dataclasses.replace(last, delay=delay)], ONE_STEP))
    # Everything moves, through all of each memory.
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
        runs.append((scheduled([moving], geometry, loop), loop))
    result = []
    for instructions, loop in runs:
        check_instructions(instructions, geometry, loop)
        machine = Machine(geometry)
        machine.lanes = [Lane(state) for state in seed_lanes(n, n)]
        result.append(_expected(machine, instructions, loop, words, 1))
    return result


@cache
def _repeated(geometry: Geometry, runs: int) -> _Run:
    """Return the training step, run so often."""
    machine = Machine(geometry)
    machine.lanes = [Lane(state) for state in seed_lanes(geometry.array, geometry.array)]
    words = draw_words(np.random.default_rng(geometry.array), geometry, "coarse")
    return _expected(machine, _step(geometry).instructions, ONE_STEP, words, runs)


@cache
def _tails(geometry: Geometry) -> Sequence[_Run]:
    """Return for each instruction of the training step the run that begins with it."""
    machine = Machine(geometry)
    machine.lanes = [Lane(state) for state in seed_lanes(geometry.array, geometry.array)]
    rng = np.random.default_rng(geometry.array)
    words = draw_words(rng, geometry, "coarse")
    instructions = _step(geometry).instructions
    return [
        _expected(machine, instructions[first:], ONE_STEP, words, 1)
        for first in range(len(instructions))
    ]


@cache
def _random_runs(geometry: Geometry) -> Sequence[_Run]:
    machine = Machine(geometry)
    machine.lanes = [Lane(state) for state in seed_lanes(geometry.array, geometry.array)]
    return [
        _expected(machine, instructions, loop, words, 1)
        for instructions, loop, words in drawn_programs(geometry)
    ]


def _expected(
    machine: Machine, instructions: Sequence[Instruction], loop: Loop, words: Any, runs: int
) -> _Run:
    """Return the run of a program on `words`, and leave `machine` as it leaves the device."""
    for memory in Memory:
        machine.words[memory][:] = words[memory]
    for _ in range(runs):
        machine.run(instructions, loop)
    return _Run(
        instructions,
        loop,
        words,
        runs,
        busy_cycles(instructions, machine.geometry.array, loop.steps),
        {memory: machine.words[memory].copy() for memory in Memory},
        tuple(lane.state for lane in machine.lanes),
        tuple(machine.saturations),
    )
