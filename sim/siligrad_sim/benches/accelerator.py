"""Bench of :class:`siligrad_hdl.accelerator.Accelerator`: programs, through the host port.

Parameters ``geometry`` (its fields), ``lines`` (the program, each line in hexadecimal), ``loop``
(how often it is executed: the fields of ``siligrad.isa.Loop``), and if not only drawn contents of
the memories are wanted, ``words`` (a file of numpy arrays X, W and E).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge
from numpy.typing import NDArray

from siligrad.isa import ONE_STEP, Geometry, Instruction, Loop, Memory, decode_program
from siligrad.registers import (
    IDENTIFICATION,
    OVERRUN_CYCLES,
    VERSION,
    Region,
    Register,
    Status,
    element_address,
    program_address,
)
from siligrad_sim.bench_runner import bench_parameters
from siligrad_sim.benches.cycles import next_cycle, random_generator, settled, start
from siligrad_sim.benches.programs import Contents, draw_words
from siligrad_sim.benches.specification import Machine, busy_cycles

PATIENCE = 40
"""Cycles in which the port must have acknowledged."""


class Bench:
    """The accelerator, its host, and the machine that it should be."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        parameters = bench_parameters()
        self.geometry = Geometry(**parameters["geometry"])
        self.lines = [int(line, 16) for line in parameters["lines"]]
        self.instructions = decode_program(self.lines)
        self.loop = Loop(**parameters["loop"])
        self.machine = Machine(self.geometry)
        self.cycle = 0

    async def begin(self) -> None:
        """Reset."""
        inputs = ("strobe", "write", "address", "write_data")
        await start(self.dut, dict.fromkeys([f"host__{name}" for name in inputs], 0))

    async def request(self, address: int, value: int | None) -> int:
        """Carry one request of the port and return what was read."""
        dut = self.dut
        dut.host__strobe.value = 1
        dut.host__write.value = int(value is not None)
        dut.host__address.value = address
        dut.host__write_data.value = value or 0
        for _ in range(PATIENCE):
            await settled()
            acknowledged = bool(dut.host__acknowledge.value)
            answer = dut.host__read_data.value
            await next_cycle(dut)
            self.cycle += 1
            if acknowledged:
                dut.host__strobe.value = 0
                return int(answer.to_unsigned()) if value is None else 0
        raise AssertionError(
            f"cycle {self.cycle}: no acknowledgement of an access to word {address:#x} "
            f"in {PATIENCE} cycles"
        )

    async def read(self, address: int) -> int:
        """Read a word."""
        return await self.request(address, None)

    async def write(self, address: int, value: int) -> None:
        """Write a word."""
        await self.request(address, value & 0xFFFFFFFF)

    async def read_register(self, register: int) -> int:
        """Read a register."""
        return await self.read(Region.REGISTERS.base + register)

    async def write_register(self, register: int, value: int) -> None:
        """Write a register."""
        await self.write(Region.REGISTERS.base + register, value)

    async def load(self, words: dict[Memory, NDArray[np.int32]]) -> None:
        """Write the program, the memories and the shift registers, here and in the machine."""
        for number, line in enumerate(self.lines):
            for word in range(4):
                await self.write(program_address(number, word), line >> 32 * word & 0xFFFFFFFF)
        for memory, contents in words.items():
            self.machine.words[memory][:] = contents
            for (address, bank), code in np.ndenumerate(contents):
                await self.write(self.place(memory, address, bank), int(code))
        rng = random_generator()
        for number, lane in enumerate(self.machine.lanes):
            lane.state = int(rng.integers(1, 1 << 32))
            await self.write_register(Register.LFSR + number, lane.state)

    def place(self, memory: Memory, address: int, bank: int) -> int:
        """Return the word address of a word of a memory."""
        return element_address(memory, self.geometry.array, bank, address)

    async def start_program(self, loop: Loop, entry: int = 0) -> None:
        """Start the program, without waiting for its end."""
        await self.write_register(Register.ENTRY, entry)
        await self.write_register(Register.STEPS, loop.steps)
        await self.write_register(Register.X_STRIDE, loop.x_stride)
        await self.write_register(Register.W_STRIDE, loop.w_stride)
        await self.write_register(Register.E_STRIDE, loop.e_stride)
        await self.write_register(Register.CONTROL, 1)

    async def wait(self, promised: int) -> None:
        """Wait for the end of a program just started; it must take the cycles it promises."""
        busy = 0
        await settled()
        while self.dut.busy.value:
            await FallingEdge(self.dut.clk)
            busy += 1
            assert busy <= promised, f"still busy after the {promised} cycles promised"
            await settled()
        await next_cycle(self.dut)
        assert busy == promised, f"busy for {busy} cycles, want {promised}"

    def promised(self, instructions: list[Instruction], loop: Loop) -> int:
        """Return the busy cycles that a run must take."""
        return busy_cycles(instructions, self.geometry.array, loop.steps)

    async def compare(self, promised: int) -> None:
        """Compare everything that can be read with the machine, and the cycles."""
        status = await self.read_register(Register.STATUS)
        assert status == Status.DONE, f"status {status}, want {Status.DONE}"
        cycles = await self.read_register(Register.CYCLES)
        cycles |= await self.read_register(Register.CYCLES_HIGH) << 32
        assert cycles == promised, f"counted {cycles} cycles, want {promised}"
        await self.compare_words()
        for number, lane in enumerate(self.machine.lanes):
            state = await self.read_register(Register.LFSR + number)
            assert state == lane.state, (
                f"state of lane {number} {state:#010x}, want {lane.state:#010x}"
            )
        for number, want in enumerate([*self.machine.saturations, 0]):
            got = await self.read(Region.SATURATIONS.base + number)
            assert got == want, f"instruction {number}: {got} saturated, want {want}"

    async def compare_words(self) -> None:
        """Compare every word of the three memories."""
        for memory, contents in self.machine.words.items():
            for (address, bank), want in np.ndenumerate(contents):
                word = await self.read(self.place(memory, address, bank))
                got = word - (1 << 32 if word >> 31 else 0)
                assert got == want, (
                    f"cycle {self.cycle}: word {address} of bank {bank} of {memory.name} {got}, "
                    f"want {want}"
                )

    async def read_words(self) -> None:
        """Let the machine go on from what the three memories hold."""
        for memory, contents in self.machine.words.items():
            for address, bank in np.ndindex(contents.shape):
                word = await self.read(self.place(memory, address, bank))
                contents[address, bank] = word - (1 << 32 if word >> 31 else 0)

    def draw(self, contents: Contents) -> dict[Memory, NDArray[np.int32]]:
        """Draw the words of the memories."""
        return draw_words(random_generator(), self.geometry, contents)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def tells_what_it_is(dut: Any) -> None:
    """The registers that a host asks first, and those that do not exist."""
    bench = Bench(dut)
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
    bench = Bench(dut)
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
    bench = Bench(dut)
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
    bench = Bench(dut)
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
    bench = Bench(dut)
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
    bench = Bench(dut)
    await bench.begin()
    await bench.load(bench.draw("coarse"))
    bench.machine.run(bench.instructions, bench.loop)
    promised = bench.promised(bench.instructions, bench.loop)
    await bench.start_program(bench.loop)
    began = bench.cycle
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
    while bench.cycle - began < promised - 2 * PATIENCE:
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
