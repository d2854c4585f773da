"""Bench of a whole device: what a host can do with it, compared with the specification.

Each check takes an open device and raises AssertionError, or the device its own error, if it is
not what the specification says. They need no simulator of their own: whatever carries the words
of the host port will do, also a board. The programs that they run, and what these must leave, are
in ``device_runs.py``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping

import numpy as np

from siligrad.device import OverrunError
from siligrad.host import HostDevice
from siligrad.isa import (
    ONE_STEP,
    Loop,
    Memory,
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
from siligrad_sim.benches.device_runs import (
    CYCLES_MOST,
    large_runs,
    random_runs,
    repeated,
    step,
    tails,
    tile,
    training_steps,
)
from siligrad_sim.benches.programs import scheduled
from siligrad_sim.benches.specification import busy_cycles

__all__ = [
    "CHECKS",
    "check_absent",
    "check_entry",
    "check_large_numbers",
    "check_limits",
    "check_random_programs",
    "check_refusals",
    "check_training_step",
    "check_words",
]

_ACCESSES = 3
"""By which a run is disturbed; it ends before there are many."""


def check_training_step(device: HostDevice) -> None:
    """Run a step of training twice on each kind of contents; compare everything."""
    for contents, run in training_steps(device.geometry).items():
        device.write_lfsr(seed_lanes(device.geometry.array, device.geometry.array))
        run.check(device, f"training on {contents}")


def check_random_programs(device: HostDevice) -> None:
    """Run :data:`RANDOM_PROGRAMS` programs of any instructions, one after the other."""
    device.write_lfsr(seed_lanes(device.geometry.array, device.geometry.array))
    for number, run in enumerate(random_runs(device.geometry)):
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
    bits = {1 << bit for bit in range(REGION_BITS)}
    # Of each memory where it ends, how many banks there is room for, and how many there are.
    sizes = {
        Region.X.base: (geometry.x_depth * banks, banks, n),
        Region.W.base: (geometry.w_depth * banks, banks, n),
        Region.E.base: (geometry.e_depth * banks, banks, n),
        Region.PROGRAM.base: (geometry.program_depth * WORDS_PER_LINE, 1, 1),
    }
    for base, (end, room, there) in sizes.items():
        offsets = {end, *range(there, room), *bits}
        absent = {base + each for each in offsets if each >= end or each % room >= there}
        _check_absent(device, base, absent)
    register = Region.REGISTERS.base + Register.LIMIT
    lanes = range(Register.LFSR, Register.LFSR + n)
    _check_absent(device, register, {register ^ bit for bit in bits} - {*Register, *lanes})
    # Many instructions that saturate, then one: of what the others counted nothing is read.
    for count in (geometry.program_depth // tile(geometry).lines, 1):
        tiles = [dataclasses.replace(tile(geometry, k=2 * n), shift=0)] * count
        device.write_lines(encode_program(scheduled(tiles, geometry)))
        largest = np.full((2 * n, n), (1 << geometry.word_bits - 1) - 1, np.int32)
        device.write_words(Memory.W, n, largest)
        device.execute(ONE_STEP, CYCLES_MOST)
        assert all(device.read_saturations(count)), f"{count} instructions that do not saturate"
    for offset in sorted({*range(1, geometry.program_depth), *bits}):
        _check_zero(device, Region.SATURATIONS.base + offset)


def _check_absent(device: HostDevice, present: int, absent: Collection[int]) -> None:
    """Read and write words that do not exist beside one that does."""
    device.write_word(present, 0x2A)
    for address in sorted(absent):
        _check_zero(device, address)
        device.write_word(address, 0x15)
        got = device.read_word(present)
        assert got == 0x2A, f"word {present:#x} after {address:#x}, which does not exist: {got:#x}"


def _check_zero(device: HostDevice, address: int) -> None:
    got = device.read_word(address)
    assert got == 0, f"word {address:#x}, which does not exist: {got:#x}"


def check_limits(device: HostDevice) -> None:
    """End runs at limits of every number of bits, and let one finish that has none to fear."""
    instructions = step(device.geometry).instructions
    device.write_lines(encode_program(instructions))
    whole = busy_cycles(instructions, device.geometry.array)
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
    instructions, lines = step(device.geometry).instructions, 0
    device.write_lines(encode_program(instructions))
    device.write_lfsr(seed_lanes(n, n))
    for index, run in enumerate(tails(device.geometry)):
        for memory, words in run.words.items():
            device.write_words(memory, 0, words)
        device.write_register(Register.STATUS, 0)
        device.write_register(Register.ENTRY, lines)
        device.write_register(Register.STEPS, 1)
        device.write_register(Register.LIMIT, 0)
        device.write_register(Register.LIMIT_HIGH, 0)
        device.write_register(Register.CONTROL, 1)
        device.wait(CYCLES_MOST)
        run.compare(device, device.read_cycles(), f"from instruction {index} on")
        lines += instructions[index].lines


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
    instructions = step(geometry).instructions
    device.write_lines(encode_program(instructions))
    run = repeated(geometry, -(-len(accesses) // _ACCESSES))
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
        device.wait(CYCLES_MOST)
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
    for number, run in enumerate(large_runs(geometry)):
        device.write_lfsr(seed_lanes(geometry.array, geometry.array))
        run.check(device, f"program {number} of large numbers")
    one = tile(geometry)
    device.write_lines(encode_program([one]))
    for steps in (0x5555, 0xAAAA):
        want = busy_cycles([one], geometry.array, steps)
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
