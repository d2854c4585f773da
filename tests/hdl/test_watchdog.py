from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator

from siligrad.isa import Geometry, Instruction, Memory, Product, Rounding, Segment
from siligrad.registers import OVERRUN_CYCLES, Region, Register, Status, element_address
from siligrad_hdl.accelerator import Accelerator
from siligrad_hdl.watchdog import Watchdog
from tests.hdl.model import Machine, Schedule
from tests.hdl.test_accelerator import Host, simulate

REGISTERS = Region.REGISTERS.base


def watch(runs: Sequence[tuple[int, int]], gap: int) -> list[tuple[int, bool]]:
    """Let runs of a limit and a length follow each other; return how long each was, and its end."""
    dut = Watchdog(half_bits=3)
    results = []

    async def bench(ctx: Any) -> None:
        for limit, length in runs:
            ctx.set(dut.limit, limit)
            ctx.set(dut.start, 1)
            assert not ctx.get(dut.end)
            await ctx.tick()
            ctx.set(dut.start, 0)
            ctx.set(dut.busy, 1)
            assert not ctx.get(dut.overrun)
            cycles, ended = 0, False
            while not ended and (cycles < length or ctx.get(dut.end)):
                ended = bool(ctx.get(dut.end))
                cycles += 1
                await ctx.tick()
                ctx.set(dut.busy, int(cycles < length and not ended))
            for _ in range(gap):
                assert not ctx.get(dut.end)
                assert ctx.get(dut.overrun) == ended
                await ctx.tick()
            assert ctx.get(dut.cycles) == cycles % 64
            results.append((cycles, ended))

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return results


@pytest.mark.parametrize("gap", [0, 1, 2, 5])
def test_a_run_is_ended_so_many_cycles_after_any_limit_and_not_before(gap: int) -> None:
    lengths = [
        -1,
        0,
        1,
        OVERRUN_CYCLES - 2,
        OVERRUN_CYCLES - 1,
        OVERRUN_CYCLES,
        OVERRUN_CYCLES + 1,
        30,
    ]
    runs = [(limit, limit + more) for limit in range(1, 60) for more in lengths if limit + more]
    runs += [(0, length) for length in (1, 2, 7, 8, 9, 63, 64, 65)]
    order = np.random.default_rng(gap).permutation(len(runs)).tolist()
    runs = [runs[index] for index in order]
    wanted = []
    for limit, length in runs:
        late = limit > 0 and length >= limit + OVERRUN_CYCLES - 1
        wanted.append((limit + OVERRUN_CYCLES, True) if late else (length, False))
    assert watch(runs, gap) == wanted
    assert {ended for _, ended in wanted} == {True, False}


N = 3
SMALL = Geometry(
    array=N,
    word_bits=8,
    operand_bits=8,
    sum_bits=20,
    x_depth=9,
    w_depth=6,
    e_depth=15,
    program_depth=6,
)


def program(rounding: Rounding) -> list[Instruction]:
    """X times W into words 3 to 8 and 9 to 11 of E; some elements saturate."""
    product = Instruction(
        m_tiles=2,
        p_tiles=1,
        product=Product.XW,
        destination=Memory.E,
        rows_last=N,
        d_base=3,
        d_m=N,
        d_p=0,
        segments=(Segment(k=4, a_m=N, a_k=N, b_k=N),),
        shift=6,
        rounding=rounding,
    )
    return [product, replace(product, m_tiles=1, d_base=9, shift=4, segments=(Segment(k=3),))]


@pytest.mark.parametrize(
    "rounding",
    [pytest.param(Rounding.HALF_EVEN, marks=pytest.mark.extended), Rounding.STOCHASTIC],
)
def test_a_run_that_was_ended_after_any_number_of_cycles_leaves_nothing_behind(
    rounding: Rounding,
) -> None:
    rng = np.random.default_rng(4)
    instructions = program(rounding)
    schedule = Schedule(N)
    schedule.take(instructions)
    held = {memory: rng.integers(-127, 128, (N, SMALL.depth(memory))) for memory in Memory}
    dut = Accelerator(SMALL)

    async def bench(ctx: Any) -> None:
        host = Host(dut, ctx)
        await host.load_program(instructions)
        machine = Machine(N, 8, 8, 20, [SMALL.depth(memory) for memory in Memory])
        for memory, banks in held.items():
            for bank, words in enumerate(banks.tolist()):
                machine.memories[memory][bank][:] = words
                for address, word in enumerate(words):
                    await host.write(element_address(memory, N, bank, address), word)
        # The shift registers differ in nothing but whether they are looked at: fewer limits do.
        every = 3 if rounding == Rounding.STOCHASTIC else 1
        for limit in range(1, schedule.cycles + 3, every):
            late = limit + OVERRUN_CYCLES - 1 <= schedule.cycles
            taken = limit + OVERRUN_CYCLES if late else schedule.cycles
            await host.write(REGISTERS + Register.LIMIT, limit)
            await host.write(REGISTERS + Register.CONTROL, 1)
            for _ in range(taken):
                assert ctx.get(dut.busy)
                await ctx.tick()
            # The host makes its next request in the first cycle that is not busy, since the one
            # before is still refused: no host can start again sooner.
            if rounding == Rounding.STOCHASTIC:
                status = await host.read(REGISTERS + Register.STATUS)
                assert status == (Status.OVERRUN if late else Status.DONE), f"limit {limit}"
                assert await host.read(REGISTERS + Register.CYCLES) == taken
                counts = [await host.read(Region.SATURATIONS.base + i) for i in range(2)]
                assert counts == [0, 0] or not late
                for lane in range(N):
                    address = REGISTERS + Register.LFSR + lane
                    machine.lanes[lane].state = await host.read(address)
            await host.write(REGISTERS + Register.LIMIT, 0)
            assert await host.run() == schedule.cycles
            saturated = machine.run(instructions)
            assert min(saturated) > 0
            status = await host.read(REGISTERS + Register.STATUS)
            assert status == Status.DONE, f"limit {limit}"
            assert await host.read(REGISTERS + Register.CYCLES) == schedule.cycles
            counts = [await host.read(Region.SATURATIONS.base + index) for index in range(2)]
            assert counts == saturated, f"limit {limit}"
            for memory in Memory:
                got = [[ctx.get(word) for word in bank.data] for bank in dut.memories[memory].banks]
                assert got == machine.memories[memory], f"limit {limit}"
                if memory == Memory.E:  # what a run writes is written by that run
                    for bank in range(N):
                        for address in range(3, 12):
                            ctx.set(dut.memories[memory].banks[bank].data[address], -5)

    simulate(dut, bench)


def test_the_limit_is_none_after_a_reset_and_a_start_clears_what_is_told() -> None:
    instructions = program(Rounding.FLOOR)
    schedule = Schedule(N)
    schedule.take(instructions)
    dut = Accelerator(SMALL)

    async def bench(ctx: Any) -> None:
        host = Host(dut, ctx)
        status, control = REGISTERS + Register.STATUS, REGISTERS + Register.CONTROL
        await host.load_program(instructions)
        assert await host.run() == schedule.cycles
        # The upper half alone is a limit that is not reached.
        await host.write(REGISTERS + Register.LIMIT_HIGH, 1)
        assert await host.run() == schedule.cycles
        assert await host.read(status) == Status.DONE
        await host.write(REGISTERS + Register.LIMIT_HIGH, 0)
        await host.write(REGISTERS + Register.LIMIT, 8)
        assert await host.run() == 8 + OVERRUN_CYCLES
        await host.write(REGISTERS + Register.LIMIT, 12)
        await host.write(status, 0)
        assert await host.read(status) == Status.OVERRUN, "only a start clears it"
        await host.write(control, 1)
        assert await host.read(status) == Status.BUSY
        while ctx.get(dut.busy):
            await ctx.tick()
        assert await host.read(status) == Status.OVERRUN
        await host.write(REGISTERS + Register.LIMIT, schedule.cycles)
        assert await host.run() == schedule.cycles
        assert await host.read(status) == Status.DONE

    simulate(dut, bench)
