from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from siligrad.isa import Geometry, Instruction, Memory, Product, Segment, encode_program
from siligrad.registers import (
    IDENTIFICATION,
    VERSION,
    Region,
    Register,
    Status,
    element_address,
    program_address,
    unpack_geometry,
)
from siligrad_hdl.accelerator import Accelerator, to_verilog
from tests.hdl.model import Machine, Schedule
from tests.hdl.programs import random_program, random_steps

REGISTERS = Region.REGISTERS.base


class Host:
    """The host's side of the port, as docs/spec/host.md describes it."""

    def __init__(self, dut: Accelerator, ctx: Any) -> None:
        self.dut = dut
        self.ctx = ctx

    async def request(self, address: int, data: int | None) -> int:
        host, ctx = self.dut.host, self.ctx
        ctx.set(host.strobe, 1)
        ctx.set(host.write, int(data is not None))
        ctx.set(host.address, address)
        ctx.set(host.write_data, (data or 0) % 2**32)
        for _ in range(20):
            if ctx.get(host.acknowledge):
                answer = ctx.get(host.read_data)
                await ctx.tick()
                ctx.set(host.strobe, 0)
                return int(answer)
            await ctx.tick()
        raise AssertionError(f"no acknowledgement of an access to {address:#x}")

    async def write(self, address: int, data: int) -> None:
        await self.request(address, data)

    async def read(self, address: int) -> int:
        return await self.request(address, None)

    async def load_program(self, program: list[Instruction], entry: int = 0) -> None:
        for number, line in enumerate(encode_program(program)):
            for word in range(4):
                address = program_address(entry + number, word)
                await self.write(address, line >> 32 * word & 0xFFFFFFFF)
        await self.write(REGISTERS + Register.ENTRY, entry)

    async def run(self, limit: int = 100_000) -> int:
        await self.write(REGISTERS + Register.CONTROL, 1)
        for cycle in range(limit):
            if not self.ctx.get(self.dut.busy):
                return cycle
            await self.ctx.tick()
        raise AssertionError(f"still busy after {limit} cycles")


def simulate(dut: Accelerator, bench: Any) -> None:
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def fill(rng: np.random.Generator, machine: Machine, kind: str) -> None:
    bits = machine.word_bits
    limit = 2 ** (bits - 1) - 1
    for memory in machine.memories:
        for bank in memory:
            for address in range(len(bank)):
                if kind == "random":
                    value = int(rng.integers(-limit, limit + 1)) >> int(rng.integers(bits))
                else:
                    value = int(rng.choice([-limit, limit])) if kind == "extreme" else 0
                bank[address] = value


CASES = [
    # array, word bits, operand bits, sum bits, depths, program depth, instructions, data, steps
    (2, 16, 16, 40, (24, 24, 24), 128, 24, "random", 1),
    (2, 4, 4, 15, (11, 26, 8), 129, 20, "random", 1),
    (3, 16, 16, 40, (45, 31, 27), 128, 18, "random", 1),
    (4, 8, 8, 24, (48, 37, 52), 100, 12, "extreme", 1),
    (4, 16, 16, 40, (64, 64, 64), 64, 4, "zero", 1),
    (5, 12, 12, 36, (75, 64, 60), 64, 6, "random", 1),
    (2, 16, 4, 16, (40, 40, 44), 128, 10, "random", 3),
    (2, 5, 4, 12, (64, 64, 64), 128, 6, "random", 4),
    (4, 16, 8, 24, (64, 68, 64), 128, 6, "extreme", 4),
    (8, 16, 8, 24, (128, 128, 130), 64, 3, "random", 3),
]
FURTHER_CASES = [
    (4, 16, 16, 40, (64, 64, 64), 128, 12, "random", 1),
    (7, 16, 16, 48, (84, 84, 84), 64, 4, "extreme", 1),
    (8, 16, 16, 40, (96, 128, 100), 64, 4, "random", 1),
    (2, 16, 8, 24, (40, 41, 40), 128, 10, "random", 2),
    (2, 16, 16, 40, (64, 64, 64), 64, 1, "random", 4),
    (3, 16, 8, 20, (60, 61, 62), 128, 8, "random", 2),
    (4, 12, 11, 30, (96, 96, 96), 128, 5, "random", 3),
    (5, 16, 12, 36, (75, 80, 85), 64, 3, "random", 2),
]
SEED = 1
"""With it the programs reach all that tests/benchmarks/instruction_holes.txt does not list."""


@pytest.mark.parametrize(
    (
        "array",
        "word_bits",
        "operand_bits",
        "sum_bits",
        "depths",
        "program_depth",
        "instructions",
        "data",
        "count",
    ),
    [*CASES, *(pytest.param(*case, marks=pytest.mark.extended) for case in FURTHER_CASES)],
)
def test_random_programs_do_what_the_specification_says_in_its_time(
    array: int,
    word_bits: int,
    operand_bits: int,
    sum_bits: int,
    depths: tuple[int, int, int],
    program_depth: int,
    instructions: int,
    data: str,
    count: int,
) -> None:
    dut = Accelerator(
        Geometry(
            array=array,
            word_bits=word_bits,
            operand_bits=operand_bits,
            sum_bits=sum_bits,
            x_depth=depths[0],
            w_depth=depths[1],
            e_depth=depths[2],
            program_depth=program_depth,
        )
    )
    through_port = word_bits < 8  # which takes longer than the program

    async def bench(ctx: Any) -> None:
        host = Host(dut, ctx)
        rng = np.random.default_rng(1000 * array + SEED)
        machine = Machine(array, word_bits, operand_bits, sum_bits, depths)
        fill(rng, machine, data)
        steps = random_steps(rng, machine, count)
        program, schedule = random_program(rng, machine, instructions, steps)
        for lane in machine.lanes:
            lane.state = int(rng.integers(1, 2**32))
        await host.load_program(program, program_depth - sum(item.lines for item in program))
        for memory in Memory:
            for bank, words in enumerate(machine.memories[memory]):
                for address, word in enumerate(words):
                    if through_port:
                        await host.write(element_address(memory, array, bank, address), word)
                    else:
                        ctx.set(dut.memories[memory].banks[bank].data[address], word)
        for number, lane in enumerate(machine.lanes):
            await host.write(REGISTERS + Register.LFSR + number, lane.state)
        await host.write(REGISTERS + Register.STEPS, count)
        for register, stride in zip(STRIDES, steps.strides, strict=True):
            await host.write(REGISTERS + register, stride)
        busy = await host.run()
        saturations = machine.run(program, count, steps.strides)
        await compare(host, machine, schedule, busy, saturations, through_port=through_port)

    simulate(dut, bench)


async def compare(
    host: Host,
    machine: Machine,
    schedule: Schedule,
    busy: int,
    saturations: list[int],
    *,
    through_port: bool,
) -> None:
    dut, ctx, array = host.dut, host.ctx, host.dut.geometry.array
    assert busy == schedule.cycles
    assert await host.read(REGISTERS + Register.CYCLES) == schedule.cycles
    assert await host.read(REGISTERS + Register.STATUS) == Status.DONE
    for memory in Memory:
        for bank, words in enumerate(machine.memories[memory]):
            for address, word in enumerate(words):
                where = f"{memory.name}, bank {bank}, address {address}"
                if through_port:
                    got = await host.read(element_address(memory, array, bank, address))
                    assert got == word % 2**32, where
                assert ctx.get(dut.memories[memory].banks[bank].data[address]) == word, where
    for index, saturated in enumerate(saturations):
        assert await host.read(Region.SATURATIONS.base + index) == saturated, index
    assert await host.read(Region.SATURATIONS.base + len(saturations)) == 0
    for number, lane in enumerate(machine.lanes):
        assert await host.read(REGISTERS + Register.LFSR + number) == lane.state


SMALL = Geometry(
    array=3,
    word_bits=8,
    operand_bits=8,
    sum_bits=20,
    x_depth=7,
    w_depth=9,
    e_depth=12,
    program_depth=17,
)

SHORT = Instruction(
    m_tiles=1,
    p_tiles=1,
    product=Product.XW,
    destination=Memory.E,
    rows_last=3,
    d_base=3,
    d_m=0,
    d_p=0,
    segments=(Segment(k=3),),
)

LONG = replace(SHORT, m_tiles=200)


def saturating(host: Host) -> Any:
    """Fill X and W so that the program SHORT saturates in each element."""

    async def fill() -> None:
        for memory in (Memory.X, Memory.W):
            for bank in range(3):
                for address in range(3):
                    await host.write(element_address(memory, 3, bank, address), 127)

    return fill()


def test_registers_tell_what_was_built() -> None:
    dut = Accelerator(SMALL)

    async def bench(ctx: Any) -> None:
        host = Host(dut, ctx)
        read = {register: await host.read(REGISTERS + register) for register in Register}
        assert read[Register.IDENTIFICATION] == IDENTIFICATION
        assert read[Register.VERSION] == VERSION
        assert unpack_geometry(read) == SMALL
        assert read[Register.CONTROL] == read[Register.STATUS] == read[Register.ENTRY] == 0
        assert read[Register.CYCLES] == read[Register.CYCLES_HIGH] == 0
        assert read[Register.STEPS] == 1
        assert [read[register] for register in STRIDES] == [0, 0, 0]
        assert [read[register] for register in LIMIT] == [0, 0]

    simulate(dut, bench)


def test_read_only_registers_and_words_that_do_not_exist_ignore_writes_and_read_zero() -> None:
    dut = Accelerator(SMALL)

    async def bench(ctx: Any) -> None:
        host = Host(dut, ctx)
        before = [await host.read(REGISTERS + number) for number in range(100)]
        writable = {Register.CONTROL, Register.STATUS, Register.ENTRY, *LFSRS, *LOOP, *LIMIT}
        for number in range(100):
            if number not in writable:
                await host.write(REGISTERS + number, 0xFFFFFFFF)
        assert [await host.read(REGISTERS + number) for number in range(100)] == before
        for address in (
            REGISTERS + 15,
            REGISTERS + Register.LFSR + 3,
            REGISTERS + Register.LIMIT_HIGH + 1,
            REGISTERS + 64 + Register.IDENTIFICATION,
            REGISTERS + 64 + Register.STEPS,
            REGISTERS + (1 << 19) + Register.ENTRY,
            program_address(17),
            program_address(128),
            Region.SATURATIONS.base,
            Region.SATURATIONS.base + 100,
            3 << 20,
            7 << 20,
            element_address(Memory.X, 3, 3, 1),  # there are three banks
            element_address(Memory.X, 3, 0, 7),
            element_address(Memory.W, 3, 2, 9),
            element_address(Memory.E, 3, 1, 12),
            element_address(Memory.E, 3, 1, 16),
            element_address(Memory.E, 3, 1, 1 << 16),
        ):
            await host.write(address, 0x7F)
            assert await host.read(address) == 0, hex(address)
        for memory in Memory:
            for bank in range(3):
                for address in range(SMALL.depth(memory)):
                    assert ctx.get(dut.memories[memory].banks[bank].data[address]) == 0
        for line in range(17):
            for word in range(4):
                assert await host.read(program_address(line, word)) == 0
        assert await host.read(REGISTERS + Register.STATUS) == 0

    simulate(dut, bench)


LFSRS = range(Register.LFSR, Register.LFSR + 3)
STRIDES = (Register.X_STRIDE, Register.W_STRIDE, Register.E_STRIDE)
LOOP = (Register.STEPS, *STRIDES)
LIMIT = (Register.LIMIT, Register.LIMIT_HIGH)


def test_words_are_read_as_they_were_written_and_sign_extended() -> None:
    dut = Accelerator(SMALL)

    async def bench(ctx: Any) -> None:
        host = Host(dut, ctx)
        rng = np.random.default_rng(3)
        written: dict[int, int] = {}
        for memory in Memory:
            for bank in range(3):
                for address in range(SMALL.depth(memory)):
                    value = int(rng.integers(-127, 128))
                    written[element_address(memory, 3, bank, address)] = value % 2**32
        for line in range(17):
            for word in range(4):
                written[program_address(line, word)] = int(rng.integers(0, 2**32))
        for register in LFSRS:
            written[REGISTERS + register] = int(rng.integers(1, 2**32))
        written[REGISTERS + Register.ENTRY] = 16
        for register in LOOP:
            written[REGISTERS + register] = int(rng.integers(1, 2**16))
        for register in LIMIT:
            written[REGISTERS + register] = int(rng.integers(1, 2**32))
        for address, value in written.items():
            await host.write(address, value)
        for address in rng.permutation(list(written)).tolist():
            assert await host.read(address) == written[address], hex(address)
        assert not ctx.get(dut.busy)

    simulate(dut, bench)


def test_a_running_program_is_neither_disturbed_nor_slowed() -> None:
    schedule = Schedule(3)
    schedule.append(LONG, schedule.place(LONG))
    dut = Accelerator(SMALL)

    async def bench(ctx: Any) -> None:
        host = Host(dut, ctx)
        await saturating(host)
        await host.load_program([LONG], entry=5)
        status = REGISTERS + Register.STATUS
        await host.write(REGISTERS + Register.CONTROL, 0)
        assert await host.read(status) == 0
        await host.write(REGISTERS + Register.CONTROL, 1)
        assert await host.read(status) == Status.BUSY
        assert await host.read(REGISTERS + Register.ENTRY) == 5
        assert await host.read(REGISTERS + Register.LFSR) == 1
        assert 0 < await host.read(REGISTERS + Register.CYCLES) < schedule.cycles
        assert await host.read(3 << 20) == 0
        assert await host.read(status) == Status.BUSY, "registers may be read"
        for address, data in [
            (element_address(Memory.X, 3, 0, 0), 1),
            (element_address(Memory.W, 3, 0, 0), 1),
            (element_address(Memory.E, 3, 0, 0), 1),
            (program_address(5), 0),
            (Region.SATURATIONS.base, 0),
            (REGISTERS + Register.ENTRY, 1),
            (REGISTERS + Register.LFSR, 77),
            (REGISTERS + Register.STEPS, 2),
            (REGISTERS + Register.X_STRIDE, 3),
            (REGISTERS + Register.W_STRIDE, 3),
            (REGISTERS + Register.E_STRIDE, 3),
            (REGISTERS + Register.LIMIT, 3),
            (REGISTERS + Register.LIMIT_HIGH, 3),
            (REGISTERS + Register.CONTROL, 1),
            (REGISTERS + Register.CYCLES, 1),
            (element_address(Memory.X, 3, 0, 0), None),
            (element_address(Memory.E, 3, 1, 2), None),
            (program_address(5), None),
            (Region.SATURATIONS.base, None),
        ]:
            assert await host.request(address, data) == 0 or data is not None
            assert await host.read(status) == Status.BUSY | Status.REFUSED, hex(address)
            await host.write(status, 0)
            assert await host.read(status) == Status.BUSY
        while ctx.get(dut.busy):
            await ctx.tick()
        assert await host.read(status) == Status.DONE
        assert await host.read(REGISTERS + Register.CYCLES) == schedule.cycles
        assert await host.read(REGISTERS + Register.ENTRY) == 5
        assert await host.read(REGISTERS + Register.LFSR) == 1
        assert [await host.read(REGISTERS + register) for register in LOOP] == [1, 0, 0, 0]
        assert [await host.read(REGISTERS + register) for register in LIMIT] == [0, 0]
        assert await host.read(element_address(Memory.X, 3, 0, 0)) == 127
        assert await host.read(Region.SATURATIONS.base) == 200 * 9
        # A shorter run: its cycles and its saturations replace those of the one before.
        await host.load_program([replace(SHORT, shift=7)])
        await host.run()
        assert await host.read(Region.SATURATIONS.base) == 9
        await host.load_program([replace(SHORT, shift=12), replace(SHORT, d_base=6)])
        await host.run()
        saturations = [await host.read(Region.SATURATIONS.base + index) for index in range(3)]
        assert saturations == [0, 9, 0]

    simulate(dut, bench)


def tiles(k: int, pad: int = 0, count: int = 1, **fields: int) -> Instruction:
    """X times W into E, of one segment, with a third of the elements saturated or more."""
    segment = Segment(k=k, a_moves=1, pad=pad, **fields)
    return replace(SHORT, m_tiles=count, rows_last=2, d_base=0, d_m=2, segments=(segment,), shift=3)


@pytest.mark.parametrize(
    ("array", "program", "count"),
    [
        (2, [tiles(2)], 40),
        (2, [tiles(2, count=2)], 12),
        (2, [tiles(6)], 12),
        (2, [tiles(7, pad=1)], 12),
        # The second instruction ends as soon after the first as two can.
        (2, [tiles(10), tiles(2)], 20),
        (2, [tiles(10), tiles(2), tiles(11), tiles(1, pad=1), tiles(4)], 12),
        (3, [tiles(3)], 20),
        pytest.param(3, [tiles(9), tiles(3)], 12, marks=pytest.mark.extended),
        pytest.param(7, [tiles(7)], 8, marks=pytest.mark.extended),
        pytest.param(8, [tiles(8)], 4, marks=pytest.mark.extended),
        (8, [tiles(8), tiles(8, b_column=1)], 3),
    ],
)
def test_saturations_of_all_steps_are_added_up_however_close_these_are(
    array: int, program: list[Instruction], count: int
) -> None:
    rng = np.random.default_rng(count)
    depths = (array * count, array, 2 * array)
    machine = Machine(array, 8, 8, 24, depths)
    for memory in (Memory.X, Memory.W):
        for bank in machine.memories[memory]:
            bank[:] = rng.integers(-60, 61, len(bank)).tolist()
    held = [[list(bank) for bank in memory] for memory in machine.memories]
    strides = (array, 0, 0)
    schedule = Schedule(array)
    schedule.take(program, count)
    wanted = machine.run(program, count, strides)
    assert min(wanted) > 0
    dut = Accelerator(
        Geometry(
            array=array,
            word_bits=8,
            operand_bits=8,
            sum_bits=24,
            x_depth=depths[0],
            w_depth=depths[1],
            e_depth=depths[2],
            program_depth=18,
        )
    )

    async def bench(ctx: Any) -> None:
        host = Host(dut, ctx)
        for memory in Memory:
            for bank, words in enumerate(held[memory]):
                for address, word in enumerate(words):
                    ctx.set(dut.memories[memory].banks[bank].data[address], word)
        await host.load_program(program)
        await host.write(REGISTERS + Register.STEPS, count)
        await host.write(REGISTERS + Register.X_STRIDE, array)
        for _ in range(2):  # and each run begins from zero
            assert await host.run() == schedule.cycles
            # The last counter is written before the run ends.
            got = [await host.read(Region.SATURATIONS.base + index) for index in range(6)]
            assert got == [*wanted, *[0] * (6 - len(program))]

    simulate(dut, bench)


def test_no_steps_are_one_step() -> None:
    schedule = Schedule(3)
    schedule.take([SHORT])
    dut = Accelerator(SMALL)

    async def bench(ctx: Any) -> None:
        host = Host(dut, ctx)
        await saturating(host)
        await host.load_program([SHORT])
        await host.write(REGISTERS + Register.STEPS, 0)
        assert await host.read(REGISTERS + Register.STEPS) == 0
        assert await host.run() == schedule.cycles
        assert await host.read(Region.SATURATIONS.base) == 9

    simulate(dut, bench)


def test_a_reset_in_a_run_leaves_nothing_behind() -> None:
    schedule = Schedule(3)
    schedule.append(SHORT, schedule.place(SHORT))
    dut = Accelerator(SMALL)
    reset = Signal()

    async def bench(ctx: Any) -> None:
        host = Host(dut, ctx)
        await saturating(host)
        for after in range(6, 45):
            await host.load_program([LONG])
            await host.write(REGISTERS + Register.CONTROL, 1)
            for _ in range(after):
                await ctx.tick()
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)
            assert not ctx.get(dut.busy)
            assert await host.read(REGISTERS + Register.STATUS) == 0
            await host.load_program([replace(SHORT, shift=9)])
            assert await host.run() == schedule.cycles
            words = [
                ctx.get(dut.memories[Memory.E].banks[b].data[a])
                for b in (0, 1, 2)
                for a in (3, 4, 5)
            ]
            assert words == [round(3 * 127 * 127 / 2**9)] * 9, f"reset after {after} cycles"

    simulate(ResetInserter(reset)(dut), bench)


@pytest.mark.parametrize(
    "geometry",
    [
        Geometry(
            array=2,
            word_bits=4,
            operand_bits=4,
            sum_bits=8,
            x_depth=2,
            w_depth=2,
            e_depth=2,
            program_depth=4,
        ),
        Geometry(array=2, operand_bits=4, sum_bits=16, x_depth=2, w_depth=2, e_depth=2),
        pytest.param(
            Geometry(
                array=3,
                word_bits=4,
                operand_bits=4,
                sum_bits=48,
                x_depth=3,
                w_depth=5,
                e_depth=65536,
            ),
            marks=pytest.mark.extended,
        ),
        pytest.param(Geometry(array=5, program_depth=1 << 14), marks=pytest.mark.slow),
        pytest.param(Geometry(array=16, x_depth=65536), marks=pytest.mark.slow),
    ],
)
def test_the_corners_of_the_geometry_become_verilog(geometry: Geometry) -> None:
    text = to_verilog(geometry, name="corner")
    assert text.count("module corner(") == 1
    (ports,) = re.findall(r"module corner\(([^)]*)\)", text)
    assert {name.strip() for name in ports.split(",")} == {
        "clk",
        "rst",
        "busy",
        "host__strobe",
        "host__write",
        "host__address",
        "host__write_data",
        "host__read_data",
        "host__acknowledge",
    }


def test_hardware_of_other_latencies_than_schedules_count_on_is_refused() -> None:
    # In a process of its own, where the components that are left over are nobody's concern.
    code = """
from siligrad.isa import Geometry, Timing
from siligrad_hdl.accelerator import to_verilog
Timing.read = property(lambda timing: 9)
to_verilog(Geometry(array=3))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    message = (
        "RuntimeError: the hardware is not what siligrad.isa.Timing says it is: "
        "read takes 5 cycles, schedules count on 9; drain takes 12 cycles, schedules count on 16; "
        "write takes 21 cycles, schedules count on 25"
    )
    assert done.stderr.splitlines()[-1] == message
