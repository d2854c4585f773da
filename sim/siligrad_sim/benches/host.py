"""What benches of the accelerator share: a host on some bus, and the machine it compares with.

The parameters of a bench that uses :class:`Session` are ``geometry`` (its fields), ``lines`` (the
program, each line in hexadecimal) and ``loop`` (how often it is executed: the fields of
``siligrad.isa.Loop``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from cocotb.triggers import FallingEdge
from numpy.typing import NDArray

from siligrad.isa import Geometry, Instruction, Loop, Memory, decode_program
from siligrad.registers import Region, Register, Status, element_address, program_address
from siligrad_sim.bench_runner import bench_parameters
from siligrad_sim.benches.cycles import next_cycle, now, random_generator, settled, start
from siligrad_sim.benches.programs import Contents, draw_words
from siligrad_sim.benches.specification import Machine, busy_cycles

__all__ = ["PATIENCE", "Bus", "HostBus", "Session"]

PATIENCE = 40
"""Cycles in which the port must have acknowledged."""


class Bus(ABC):
    """How the host reaches the accelerator."""

    @abstractmethod
    async def begin(self) -> None:
        """Start the clock and reset."""

    @abstractmethod
    async def request(self, address: int, value: int | None) -> int:
        """Write `value` to the word at the word address `address`, or read it if there is none."""


class HostBus(Bus):
    """The accelerator's own port, ``host`` of `dut`."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut

    async def begin(self) -> None:
        inputs = ("strobe", "write", "address", "write_data")
        await start(self.dut, dict.fromkeys([f"host__{name}" for name in inputs], 0))

    async def request(self, address: int, value: int | None) -> int:
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
            if acknowledged:
                dut.host__strobe.value = 0
                return int(answer.to_unsigned()) if value is None else 0
        raise AssertionError(
            f"cycle {now()}: no acknowledgement of an access to word {address:#x} "
            f"in {PATIENCE} cycles"
        )


class Session:
    """The accelerator, its host on a bus, and the machine that it should be."""

    def __init__(self, dut: Any, bus: Bus | None = None) -> None:
        self.dut = dut
        self.bus = bus or HostBus(dut)
        parameters = bench_parameters()
        self.geometry = Geometry(**parameters["geometry"])
        self.lines = [int(line, 16) for line in parameters["lines"]]
        self.instructions = decode_program(self.lines)
        self.loop = Loop(**parameters["loop"])
        self.machine = Machine(self.geometry)

    async def begin(self) -> None:
        """Reset."""
        await self.bus.begin()

    async def read(self, address: int) -> int:
        """Read a word."""
        return await self.bus.request(address, None)

    async def write(self, address: int, value: int) -> None:
        """Write a word."""
        await self.bus.request(address, value & 0xFFFFFFFF)

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
                    f"cycle {now()}: word {address} of bank {bank} of {memory.name} {got}, "
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
