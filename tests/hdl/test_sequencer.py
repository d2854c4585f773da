from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator

from siligrad.isa import Instruction, Memory, Product, Segment, encode_program
from siligrad_hdl.program_memory import ProgramMemory
from siligrad_hdl.scratchpad import NEAR_BANKS
from siligrad_hdl.sequencer import Sequencer
from tests.hdl.model import Access, Machine, Schedule
from tests.hdl.programs import ONCE, Steps, random_program, random_steps

ADDRESS_BITS = 11
PROGRAM_DEPTH = 256


def rows_of(number: int, column: int, array: int) -> list[int]:
    """The row of the element in each bank: (r, c) is in bank (r + c) mod N."""
    elements = [(other, number) if column else (number, other) for other in range(array)]
    rows = {(row + column) % array: row for row, column in elements}
    return [rows[bank] for bank in range(array)]


def follow(array: int, program: list[Instruction], schedule: Schedule, steps: Steps = ONCE) -> None:
    """Run `program` and compare what is read, fed and written in every cycle with the schedule."""
    reads: dict[int, list[Access]] = {}
    writes: dict[int, Access] = {}
    for tile in schedule.tiles:
        for read in tile.reads:
            reads.setdefault(read.cycle, []).append(read)
        for write in tile.writes:
            writes[write.cycle - schedule.rotate] = write
    ends = {tile.end + schedule.read for tile in schedule.tiles}

    m = Module()
    m.submodules.sequencer = dut = Sequencer(
        array=array, operand_bits=16, address_bits=ADDRESS_BITS, program_depth=PROGRAM_DEPTH
    )
    m.submodules.memory = memory = ProgramMemory(depth=PROGRAM_DEPTH)
    m.d.comb += [
        memory.read_address.eq(dut.line_address),
        memory.read_enable.eq(dut.line_enable),
        memory.output_enable.eq(dut.line_enable),
        dut.line.eq(memory.line),
    ]

    async def bench(ctx: Any) -> None:
        for number, line in enumerate(encode_program(program)):
            for word in range(4):
                ctx.set(memory.write_words, 1 << word)
                ctx.set(memory.write_address, number)
                ctx.set(memory.write_data, line >> 32 * word & 0xFFFFFFFF)
                await ctx.tick()
        ctx.set(memory.write_words, 0)
        ctx.set(dut.steps, steps.count)
        for stride, value in zip(dut.strides, steps.strides, strict=True):
            ctx.set(stride, value)
        for _ in range(2):  # the second time, nothing of the first is left
            assert not ctx.get(dut.busy)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            for cycle in range(schedule.cycles):
                assert ctx.get(dut.busy), f"cycle {cycle}"
                for read in reads.get(cycle, ()):
                    request = dut.requests[read.memory]
                    got = (
                        ctx.get(request.address),
                        ctx.get(request.index),
                        ctx.get(request.column),
                        ctx.get(request.word),
                    )
                    assert got == (read.tile, read.number, read.column, 0), read
                    if array > NEAR_BANKS:
                        rows = [ctx.get(row) for row in request.rows]
                        assert rows == rows_of(read.number, read.column, array), read
                enable = ctx.get(dut.write_enable)
                if cycle in writes:
                    write = writes[cycle]
                    request = dut.write_request
                    assert enable == 1 << write.memory, write
                    assert ctx.get(request.address) == write.tile, write
                    assert ctx.get(request.index) == write.number, write
                    assert ctx.get(request.column) == write.column, write
                else:
                    assert enable == 0, f"cycle {cycle}"
                if cycle > 1:  # in cycle 1 the start clears the sums
                    assert ctx.get(dut.last) == (cycle in ends), f"cycle {cycle}"
                await ctx.tick()
            assert not ctx.get(dut.busy)
            assert ctx.get(dut.counted) == len(program)

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("array", [2, 3, 4, 5, 8, 12, 16])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.extended)])
def test_every_access_comes_in_the_cycle_that_the_specification_says(array: int, seed: int) -> None:
    rng = np.random.default_rng(100 * array + seed)
    machine = Machine(array, 16, 16, 40, [80 * array] * 3)
    program, schedule = random_program(
        rng, machine, 12, segments_max=12, k_max=2 * array + 1, tiles_max=4
    )
    follow(array, program, schedule)


@pytest.mark.parametrize("array", [2, 3, 4, 7, 8])
@pytest.mark.parametrize("count", [2, 3, pytest.param(4, marks=pytest.mark.extended)])
def test_every_step_comes_in_its_cycles_and_finds_what_moves(array: int, count: int) -> None:
    rng = np.random.default_rng(100 * array + count)
    machine = Machine(array, 16, 16, 40, [80 * array] * 3)
    steps = random_steps(rng, machine, count)
    program, schedule = random_program(
        rng, machine, 6, steps, segments_max=12, k_max=2 * array + 1, tiles_max=4
    )
    moving = {s.a_moves for item in program for s in item.segments}
    moving |= {item.d_moves for item in program}
    assert moving == {0, 1}
    follow(array, program, schedule, steps)


def instruction(segments: list[Segment], **fields: int) -> Instruction:
    return Instruction(
        **{"m_tiles": 1, "p_tiles": 1, "rows_last": 1, "d_base": 0, "d_m": 0, "d_p": 0} | fields,  # type: ignore[arg-type]
        product=Product.XW,
        destination=Memory.E,
        segments=tuple(segments),
    )


@pytest.mark.parametrize(
    "program",
    [
        [instruction([Segment(k=2)])],
        [instruction([Segment(k=2)]), instruction([Segment(k=2)], delay=1)] * 5,
        [instruction([Segment(k=1, pad=1)]), instruction([Segment(k=1, pad=2)])] * 3,
        [instruction([Segment(k=5)]), instruction([Segment(k=6)]), instruction([Segment(k=7)])],
        [instruction([Segment(k=2)], m_tiles=3, p_tiles=5)],
        [instruction([Segment(k=2, b_base=2 * s) for s in range(64)], p_tiles=2)],
        [instruction([Segment(k=2, pad=31)]), instruction([Segment(k=70)], delay=300)],
        [instruction([Segment(k=2)], m_tiles=200), instruction([Segment(k=2)], p_tiles=150)],
    ],
)
@pytest.mark.parametrize("count", [1, 3])
def test_the_shortest_and_the_longest_of_everything(program: list[Instruction], count: int) -> None:
    schedule = Schedule(2)
    schedule.take(program, count)
    follow(2, program, schedule, replace(ONCE, count=count))
