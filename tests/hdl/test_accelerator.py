from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator

from siligrad.isa import (
    Geometry,
    Instruction,
    Memory,
    encode_program,
)
from siligrad.registers import (
    IDENTIFICATION,
    Region,
    Register,
    Status,
    element_address,
    program_address,
)
from siligrad_hdl.accelerator import Accelerator
from tests.hdl.model import Machine
from tests.hdl.programs import random_program

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
    limit = 2 ** (machine.bits - 1) - 1
    for memory in machine.memories:
        for bank in memory:
            for address in range(len(bank)):
                if kind == "random":
                    value = int(rng.integers(-limit, limit + 1)) >> int(rng.integers(machine.bits))
                else:
                    value = int(rng.choice([-limit, limit])) if kind == "extreme" else 0
                bank[address] = value


CASES = [
    # array, operand bits, sum bits, depths, program depth, instructions, data
    (2, 16, 40, (24, 24, 24), 128, 24, "random"),
    (2, 4, 15, (11, 26, 8), 129, 20, "random"),
    (3, 16, 40, (45, 31, 27), 128, 18, "random"),
    (4, 16, 40, (64, 64, 64), 128, 12, "random"),
    (4, 8, 24, (48, 37, 52), 100, 12, "extreme"),
    (4, 16, 40, (64, 64, 64), 64, 4, "zero"),
    (5, 12, 36, (75, 64, 60), 64, 6, "random"),
    (7, 16, 48, (84, 84, 84), 64, 4, "extreme"),
    (8, 16, 40, (96, 128, 100), 64, 4, "random"),
]


@pytest.mark.parametrize(
    ("array", "bits", "sum_bits", "depths", "program_depth", "instructions", "data"), CASES
)
@pytest.mark.parametrize("seed", [0, 1])
def test_random_programs_do_what_the_specification_says_in_its_time(
    array: int,
    bits: int,
    sum_bits: int,
    depths: tuple[int, int, int],
    program_depth: int,
    instructions: int,
    data: str,
    seed: int,
) -> None:
    rng = np.random.default_rng(1000 * array + seed)
    machine = Machine(array, bits, sum_bits, depths)
    fill(rng, machine, data)
    program, schedule = random_program(rng, machine, instructions)
    seeds = rng.integers(1, 2**32, array).tolist()
    for lane, start in zip(machine.lanes, seeds, strict=True):
        lane.state = start
    dut = Accelerator(
        Geometry(
            array=array,
            operand_bits=bits,
            sum_bits=sum_bits,
            x_depth=depths[0],
            w_depth=depths[1],
            e_depth=depths[2],
            program_depth=program_depth,
        )
    )
    entry = program_depth - sum(item.lines for item in program)

    async def bench(ctx: Any) -> None:
        host = Host(dut, ctx)
        await host.load_program(program, entry)
        for memory in Memory:
            for bank, words in enumerate(machine.memories[memory]):
                for address, word in enumerate(words):
                    if array < 4:  # through the port
                        await host.write(element_address(memory, array, bank, address), word)
                    else:
                        ctx.set(dut.memories[memory].banks[bank].data[address], word)
        for lane, state in enumerate(seeds):
            await host.write(REGISTERS + Register.LFSR + lane, state)
        busy = await host.run()
        saturations = machine.run(program)
        assert busy == schedule.cycles
        assert await host.read(REGISTERS + Register.CYCLES) == schedule.cycles
        assert await host.read(REGISTERS + Register.STATUS) == Status.DONE
        for memory in Memory:
            for bank, words in enumerate(machine.memories[memory]):
                for address, word in enumerate(words):
                    where = f"{memory.name}, bank {bank}, address {address}"
                    if array < 4:  # through the port
                        got = await host.read(element_address(memory, array, bank, address))
                        assert got == word % 2**32, where
                    assert ctx.get(dut.memories[memory].banks[bank].data[address]) == word, where
        for index, count in enumerate(saturations):
            assert await host.read(Region.SATURATIONS.base + index) == count, index
        assert await host.read(Region.SATURATIONS.base + len(saturations)) == 0
        for lane in range(array):
            assert await host.read(REGISTERS + Register.LFSR + lane) == machine.lanes[lane].state

    simulate(dut, bench)


def test_identification() -> None:
    async def bench(ctx: Any) -> None:
        host = Host(dut, ctx)
        assert await host.read(REGISTERS + Register.IDENTIFICATION) == IDENTIFICATION

    dut = Accelerator(Geometry(array=2, x_depth=4, w_depth=4, e_depth=4))
    simulate(dut, bench)
