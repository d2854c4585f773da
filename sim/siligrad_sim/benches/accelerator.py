"""Bench of :class:`siligrad_hdl.accelerator.Accelerator`: programs, through the host port.

Parameters as in :mod:`siligrad_sim.benches.host`, and if not only drawn contents of the memories
are wanted, ``words`` (a file of numpy arrays X, W and E).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cocotb
import numpy as np

from siligrad.isa import ONE_STEP, Memory
from siligrad.registers import (
    IDENTIFICATION,
    OVERRUN_CYCLES,
    VERSION,
    Region,
    Register,
    Status,
    program_address,
)
from siligrad_sim.bench_runner import bench_parameters
from siligrad_sim.benches.cycles import next_cycle, now
from siligrad_sim.benches.host import PATIENCE, Session
from siligrad_sim.benches.programs import Contents


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def tells_what_it_is(dut: Any) -> None:
    """The registers that a host asks first, and those that do not exist."""
    bench = Session(dut)
    await bench.begin()
    geometry = bench.geometry
    wanted = [IDENTIFICATION, VERSION, geometry.array, geometry.operand_bits, geometry.sum_bits]
    wanted += [geometry.x_depth, geometry.w_depth, geometry.e_depth, geometry.program_depth]
    wanted += [0] * (Register.WORD_BITS - len(wanted))  # nothing has happened yet
    wanted += [geometry.word_bits, 0]
    wanted += [1] * geometry.array
    wanted += [0] * (Register.STEPS - len(wanted))
    wanted += [1, 0, 0, 0, 0, 0]
    wanted += [0] * 40
    for register, want in enumerate(wanted):
        got = await bench.read_register(register)
        assert got == want, f"register {register} {got:#x}, want {want:#x}"
    for address in (3 << 20, 7 << 20, (7 << 20) + 5, 1 << 6, (1 << 20) - 1):
        got = await bench.read(address)
        assert got == 0, f"word {address:#x}, which does not exist, {got:#x}"


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def keeps_every_word_where_it_was_written(dut: Any) -> None:
    """The memories, the program and the shift registers; what does not exist changes nothing."""
    bench = Session(dut)
    await bench.begin()
    geometry = bench.geometry
    await bench.load(bench.draw("random"))
    banks = 1 << (geometry.array - 1).bit_length()
    for memory in Memory:
        beyond = [bench.place(memory, 0, bank) for bank in range(geometry.array, banks)]
        beyond += [bench.place(memory, geometry.depth(memory), bank) for bank in range(banks)]
        beyond.append(Region.X.base + (memory + 1 << 20) - 1)
        for address in beyond:
            await bench.write(address, 0x1234)
            got = await bench.read(address)
            assert got == 0, f"word {address:#x} of {memory.name}, beyond its end, {got:#x}"
    await bench.write(program_address(geometry.program_depth), 0x1234)
    await bench.write_register(Register.CYCLES, 0x1234)
    await bench.write_register(Register.ARRAY, 0x1234)
    await bench.write_register(Register.WORD_BITS, 0x1234)
    loop = (Register.STEPS, Register.X_STRIDE, Register.W_STRIDE, Register.E_STRIDE)
    for register in loop:
        await bench.write_register(register, 0xABC00 + register)
    await bench.compare_words()
    for number, line in enumerate(bench.lines):
        for word in range(4):
            got = await bench.read(program_address(number, word))
            want = line >> 32 * word & 0xFFFFFFFF
            assert got == want, f"word {word} of line {number} {got:#x}, want {want:#x}"
    array = await bench.read_register(Register.ARRAY)
    assert array == geometry.array, f"ARRAY {array}, want {geometry.array}"
    for register in loop:
        got = await bench.read_register(register)
        want = 0xBC00 + register
        assert got == want, f"{register.name} {got:#x}, want {want:#x}: the low 16 bits"
    for register in (Register.LIMIT, Register.LIMIT_HIGH):
        await bench.write_register(register, 0xFEDCBA00 + register)
    for register in (Register.LIMIT, Register.LIMIT_HIGH):
        got = await bench.read_register(register)
        want = 0xFEDCBA00 + register
        assert got == want, f"{register.name} {got:#x}, want {want:#x}"


@cocotb.test(timeout_time=10, timeout_unit="ms")
@cocotb.parametrize(contents=["zeros", "largest", "random", "coarse"])
async def runs_the_program(dut: Any, contents: Contents) -> None:
    """Twice, on what the first run left; every word, counter and cycle."""
    bench = Session(dut)
    await bench.begin()
    words = bench.draw(contents)
    if contents == "coarse" and "words" in bench_parameters():
        with np.load(Path(bench_parameters()["words"])) as file:
            words = {memory: file[memory.name] for memory in Memory}
    await bench.load(words)
    promised = bench.promised(bench.instructions, bench.loop)
    for _ in range(2):
        bench.machine.run(bench.instructions, bench.loop)
        await bench.start_program(bench.loop)
        await bench.wait(promised)
        await bench.compare(promised)


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def runs_from_any_entry(dut: Any) -> None:
    """From the second instruction on."""
    bench = Session(dut)
    await bench.begin()
    await bench.load(bench.draw("coarse"))
    entry, instructions = bench.instructions[0].lines, bench.instructions[1:]
    bench.machine.run(instructions)
    promised = bench.promised(instructions, ONE_STEP)
    await bench.start_program(ONE_STEP, entry)
    await bench.wait(promised)
    await bench.compare(promised)


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def ends_a_run_at_its_limit_and_runs_the_next_whole(dut: Any) -> None:
    """A run that is ended early, late, and in its very last cycle; each followed by a whole one."""
    bench = Session(dut)
    await bench.begin()
    await bench.load(bench.draw("coarse"))
    promised = bench.promised(bench.instructions, bench.loop)
    for limit in (1, promised // 2, promised - OVERRUN_CYCLES):
        ended = limit + OVERRUN_CYCLES
        await bench.write_register(Register.LIMIT, limit)
        await bench.start_program(bench.loop)
        await bench.wait(ended)
        status = await bench.read_register(Register.STATUS)
        assert status == Status.OVERRUN, f"limit {limit}: status {status}, want {Status.OVERRUN}"
        cycles = await bench.read_register(Register.CYCLES)
        assert cycles == ended, f"limit {limit}: counted {cycles} cycles, want {ended}"
        for number, lane in enumerate(bench.machine.lanes):
            lane.state = await bench.read_register(Register.LFSR + number)
        await bench.read_words()
        await bench.write_register(Register.LIMIT, promised)
        bench.machine.run(bench.instructions, bench.loop)
        await bench.start_program(bench.loop)
        await bench.wait(promised)
        await bench.compare(promised)


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def refuses_a_host_that_disturbs_a_run(dut: Any) -> None:
    """Whatever a host tries while a program runs: the run is the same, and the host is told."""
    bench = Session(dut)
    await bench.begin()
    await bench.load(bench.draw("coarse"))
    bench.machine.run(bench.instructions, bench.loop)
    promised = bench.promised(bench.instructions, bench.loop)
    await bench.start_program(bench.loop)
    began = now()
    status = await bench.read_register(Register.STATUS)
    assert status == Status.BUSY, f"status {status} of a run that nobody disturbed"
    disturbed = [
        *(bench.place(memory, 1, 1) for memory in Memory),
        program_address(len(bench.lines) - 1),
        Region.SATURATIONS.base,
        *(
            Region.REGISTERS.base + item
            for item in (
                Register.CONTROL,
                Register.ENTRY,
                Register.LFSR,
                Register.STEPS,
                Register.X_STRIDE,
                Register.W_STRIDE,
                Register.E_STRIDE,
                Register.LIMIT,
                Register.LIMIT_HIGH,
            )
        ),
    ]
    attempts = 0
    while now() - began < promised - 2 * PATIENCE:
        address = disturbed[attempts % len(disturbed)]
        await bench.write(address, 1)
        status = await bench.read_register(Register.STATUS)
        assert status == Status.BUSY | Status.REFUSED, f"status {status} after writing {address:#x}"
        await bench.write_register(Register.STATUS, 0)
        status = await bench.read_register(Register.STATUS)
        assert status == Status.BUSY, f"status {status} after it was cleared"
        if address >> 20:
            got = await bench.read(address)
            assert got == 0, f"word {address:#x} of a busy accelerator {got:#x}"
            status = await bench.read_register(Register.STATUS)
            assert status == Status.BUSY | Status.REFUSED, f"status {status} after reading"
            await bench.write_register(Register.STATUS, 0)
        attempts += 1
    assert attempts > 0, f"{promised} cycles are too few to try anything in"
    while dut.busy.value:
        await next_cycle(dut)
    await bench.compare(promised)
