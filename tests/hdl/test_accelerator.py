from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator

from siligrad.isa import (
    AuxMode,
    Gate,
    Geometry,
    Instruction,
    Memory,
    Product,
    Rounding,
    Segment,
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
from tests.hdl.model import PORTS, Machine, Schedule, uses_aux

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


def in_memory(tiles: set[int], array: int, depth: int) -> bool:
    return all(tile + array <= depth for tile in tiles)


def random_instruction(rng: np.random.Generator, machine: Machine) -> Instruction | None:
    """An instruction that keeps rules 1, 2 and 5, or None when the draw was unlucky."""
    n = machine.array
    product = Product(int(rng.integers(0, 3)))
    a_memory, b_memory, aux_memory = PORTS[product]
    m_tiles, p_tiles = int(rng.integers(1, 4)), int(rng.integers(1, 4))

    def depth(memory: int) -> int:
        return len(machine.memories[memory][0])

    def tile(memory: int) -> int:
        return n * int(rng.integers(0, depth(memory) // n))

    def stride() -> int:
        return n * int(rng.integers(-2, 3)) % 2**16

    destination = int(rng.integers(0, 3))
    segments = []
    for _ in range(int(rng.choice([1, 1, 2, 3, 5]))):
        k = int(rng.integers(1, 3 * n + 1))
        pad = int(rng.choice([0, 0, 0, 1, 2, 5]))
        segments.append(
            Segment(
                k=k,
                a_base=tile(a_memory),
                a_m=stride(),
                a_k=stride(),
                b_base=tile(b_memory),
                b_p=stride(),
                b_k=stride(),
                pad=max(pad, 2 - k),
                ones=int(rng.random() < 0.2),
                ones_shift=int(rng.integers(0, machine.bits - 1)),
                a_column=int(rng.integers(0, 2)),
                b_column=int(rng.integers(0, 2)),
            )
        )
    short = n - sum(segment.cycles for segment in segments)
    if short > 0:
        segments[-1] = replace(segments[-1], pad=segments[-1].pad + short)
    d = (tile(destination), stride(), stride())
    aux = (tile(aux_memory), stride(), stride())
    if aux_memory == destination and rng.random() < 0.5:
        aux = d
    item = Instruction(
        m_tiles=m_tiles,
        p_tiles=p_tiles,
        product=product,
        destination=Memory(destination),
        rows_last=int(rng.integers(1, n + 1)),
        d_base=d[0],
        d_m=d[1],
        d_p=d[2],
        segments=tuple(segments),
        aux_base=aux[0],
        aux_m=aux[1],
        aux_p=aux[2],
        shift=int(rng.choice([0, 1, 3, machine.bits // 2, machine.bits, machine.bits + 3, 40])),
        rounding=Rounding(int(rng.integers(0, 4))),
        aux_mode=AuxMode(int(rng.integers(0, 3))),
        gate=Gate(int(rng.integers(0, 4))),
        negate=int(rng.integers(0, 2)),
        d_column=int(rng.integers(0, 2)),
        aux_column=int(rng.integers(0, 2)),
    )
    if sum(segment.k for segment in segments) > 2 ** (machine.sum_bits - 2 * machine.bits):
        return None
    tiles = Schedule(n).place(item)
    written = {time.d[1] for time in tiles}
    if len(written) != item.tiles or not in_memory(written, n, depth(destination)):
        return None
    for time in tiles:
        for _, memory, address in time.terms:
            if address + n > depth(memory) or (memory, address) in {t.d for t in tiles}:
                return None
        if uses_aux(item) and time.aux[0][2] + n > depth(aux_memory):
            return None
    return item


def random_program(
    rng: np.random.Generator, machine: Machine, instructions: int
) -> tuple[list[Instruction], Schedule]:
    """A legal program whose delays are the smallest, and how long it takes."""
    schedule = Schedule(machine.array)
    program: list[Instruction] = []
    while len(program) < instructions:
        item = random_instruction(rng, machine)
        if item is None:
            continue
        for delay in range(12 * machine.array + 40):
            delayed = replace(item, delay=delay)
            tiles = schedule.place(delayed)
            if schedule.legal(tiles):
                program.append(delayed)
                schedule.append(delayed, tiles)
                break
    return program, schedule


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
