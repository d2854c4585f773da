"""Bench of :class:`siligrad_hdl.host.HostInterface`: registers, regions, and what a run refuses.

The bench is all that is behind the component, and answers each memory as late as it may. Parameters
``geometry`` (its fields), ``address_bits``, ``read_latency``.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np

from siligrad.isa import Geometry, Timing
from siligrad.registers import IDENTIFICATION, VERSION
from siligrad_sim.bench_runner import bench_parameters
from siligrad_sim.benches.cycles import next_cycle, now, random_generator, settled, start

WORD = 0xFFFFFFFF
PROGRAM, SATURATIONS, X, W, E = (region << 20 for region in (1, 2, 4, 5, 6))
CONTROL, STATUS, ENTRY, CYCLES, CYCLES_HIGH, LFSR, STEPS = 9, 10, 11, 12, 13, 16, 32
STRIDES, LIMIT, LIMIT_HIGH = (33, 34, 35), 36, 37
BUSY, DONE, REFUSED, OVERRUN = 1, 2, 4, 8

Event = tuple[str, int, int]
"""Something that the component does to what is behind it: what, where, and a value."""


def noise(*numbers: int) -> int:
    """Return 32 bits that depend on `numbers` and on nothing else: what a word holds."""
    total = 0x9E3779B9
    for number in numbers:
        total = (total ^ number) * 0x85EBCA6B % 2**32
        total ^= total >> 13
    return total


@dataclass
class World:
    """What host.md says of the registers: their contents, and what an access does."""

    geometry: Geometry
    busy: int = 0
    overrun: int = 0
    cycles: int = 0
    instructions: int = 0
    started: int = 0
    refused: int = 0

    def __post_init__(self) -> None:
        self.held = {ENTRY: 0, STEPS: 1, LIMIT: 0, LIMIT_HIGH: 0} | dict.fromkeys(STRIDES, 0)
        self.entry_bits = (self.geometry.program_depth - 1).bit_length()

    def memory(self, address: int) -> tuple[int, int, int] | None:
        """Return number, bank and word of a word of X, W or E, or None where there is none."""
        n = self.geometry.array
        bits = (n - 1).bit_length()
        region, inside = address >> 20, address & (1 << 20) - 1
        depths = {
            4: self.geometry.x_depth,
            5: self.geometry.w_depth,
            6: self.geometry.e_depth,
        }
        bank, word = inside & (1 << bits) - 1, inside >> bits
        if region not in depths or bank >= n or word >= depths[region]:
            return None
        return region - 4, bank, word

    def read(self, address: int) -> int:
        """Return what a read reads, and remember that it was refused."""
        geometry = self.geometry
        region, inside = address >> 20, address & (1 << 20) - 1
        if region == 0:
            return self.registers().get(inside, 0)
        if self.busy:
            self.refused |= region in {1, 2, 4, 5, 6}
            return 0
        if region == 1 and inside >> 2 < geometry.program_depth:
            return noise(1, inside >> 2, inside & 3)
        if region == 2 and inside < self.instructions:
            return noise(2, inside)
        if (place := self.memory(address)) is not None:
            code = noise(4, *place) & (1 << geometry.word_bits) - 1
            negative = code >> geometry.word_bits - 1
            return (code - (negative << geometry.word_bits)) & WORD
        return 0

    def registers(self) -> dict[int, int]:
        """Return what the registers read."""
        geometry, done = self.geometry, self.started & ~self.busy & ~self.overrun
        status = self.busy | DONE * done | REFUSED * self.refused | OVERRUN * self.overrun
        sizes = (geometry.array, geometry.operand_bits, geometry.sum_bits)
        depths = (geometry.x_depth, geometry.w_depth, geometry.e_depth, geometry.program_depth)
        return {
            **dict(enumerate((IDENTIFICATION, VERSION, *sizes, *depths))),
            STATUS: status,
            CYCLES: self.cycles & WORD,
            CYCLES_HIGH: self.cycles >> 32,
            14: geometry.word_bits,
            **{LFSR + lane: noise(3, lane) for lane in range(geometry.array)},
            **self.held,
        }

    def write(self, address: int, value: int) -> list[Event]:
        """Return what a write does to what is behind the component; do what it does here."""
        region, inside = address >> 20, address & (1 << 20) - 1
        if (region, inside) == (0, STATUS):
            self.refused = 0
            return []
        if self.busy:
            self.refused = 1
            return []
        if region == 0:
            if inside == CONTROL and value & 1:
                self.started = 1
                return [("start", self.held[ENTRY], 0)]
            if inside in self.held:
                wide = {ENTRY: self.entry_bits, LIMIT: 32, LIMIT_HIGH: 32}
                self.held[inside] = value & (1 << wide.get(inside, 16)) - 1
            elif LFSR <= inside < LFSR + self.geometry.array:
                return [("shift register", inside - LFSR, value)]
        if region == 1 and inside >> 2 < self.geometry.program_depth:
            return [("line", inside, value)]
        if (place := self.memory(address)) is not None:
            memory, bank, word = place
            code = value & (1 << self.geometry.word_bits) - 1
            return [(f"memory {memory}", word << 8 | bank, code)]
        return []


class Bench:
    """The component, and what it should be."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        parameters = bench_parameters()
        self.world = World(Geometry(**parameters["geometry"]))
        self.address_bits: int = parameters["address_bits"]
        latency: int = parameters["read_latency"]
        # What was asked for in the cycles before, the latest first.
        flags = 3  # the first word of a column
        idle = flags << self.address_bits + (self.world.geometry.array - 1).bit_length()
        self.requests: deque[int] = deque([idle] * latency, latency)
        self.lines: deque[int] = deque([0] * latency, latency)
        self.numbers: deque[int] = deque([0] * latency, latency)

    async def begin(self) -> None:
        """Reset."""
        n = self.world.geometry.array
        names = ["host__strobe", "host__write", "host__address", "host__write_data", "busy"]
        names += ["cycles", "overrun", "instruction_data", "instructions"]
        names += [f"line_data__{number}" for number in range(4)]
        names += [f"request_data__{memory}" for memory in range(3)]
        await start(self.dut, dict.fromkeys(names, 0))
        for lane in range(n):
            getattr(self.dut, f"lfsr_states__{lane}").value = noise(3, lane)

    def state(self, **values: int) -> None:
        """Set what the component is told, here and in the world."""
        for name, value in values.items():
            setattr(self.world, name, value)
            getattr(self.dut, name).value = value

    def bank_and_word(self, request: int) -> tuple[int, int]:
        """Return bank and word of a request for a single word."""
        bits = (self.world.geometry.array - 1).bit_length()
        word, rest = request & (1 << self.address_bits) - 1, request >> self.address_bits
        assert rest >> bits == 3, f"cycle {now()}: the request {request:#x} is not for a word"
        return rest & (1 << bits) - 1, word

    async def cycle(self) -> list[Event]:
        """End a cycle whose outputs have settled; return what was done to what is behind."""
        dut, geometry = self.dut, self.world.geometry
        events: list[Event] = []
        if dut.start.value:
            events.append(("start", int(dut.entry.value), 0))
        loads = int(dut.lfsr_load.value)
        for lane in range(geometry.array):
            if loads >> lane & 1:
                events.append(("shift register", lane, int(dut.lfsr_load_state.value)))
        words, line = int(dut.line_words.value), int(dut.line.value)
        for number in range(4):
            if words >> number & 1:
                events.append(("line", 4 * line + number, int(dut.line_write_data.value)))
        request, writes = int(dut.request.value), int(dut.request_write.value)
        bank, word = self.bank_and_word(request)
        code = int(dut.request_write_data.value)
        for memory in range(3):
            if writes >> memory & 1:
                events.append((f"memory {memory}", word << 8 | bank, code))
        self.requests.appendleft(request)
        self.lines.appendleft(line)
        self.numbers.appendleft(int(dut.instruction.value))
        await next_cycle(dut)
        bank, word = self.bank_and_word(self.requests[-1])
        for memory in range(3):
            held = noise(4, memory, bank, word) & (1 << geometry.word_bits) - 1
            getattr(dut, f"request_data__{memory}").value = held
        for number in range(4):
            getattr(dut, f"line_data__{number}").value = noise(1, self.lines[-1], number)
        dut.instruction_data.value = noise(2, self.numbers[-1])
        return events

    async def access(self, address: int, value: int | None) -> None:
        """Carry a request, and check its answer, its effect and its time."""
        dut = self.dut
        took = 4 if value is not None else 8 + Timing(self.world.geometry.array).rotate
        dut.host__strobe.value = 1
        dut.host__write.value = int(value is not None)
        dut.host__address.value = address
        dut.host__write_data.value = value or 0
        what = f"{'reading' if value is None else 'writing'} word {address:#x}"
        events: list[Event] = []
        for cycle in range(took):
            await settled()
            acknowledged = bool(dut.host__acknowledge.value)
            assert acknowledged == (cycle == took - 1), (
                f"cycle {now()}: acknowledge {acknowledged} in cycle {cycle} of {what}, "
                f"want it in cycle {took - 1}"
            )
            answer = int(dut.host__read_data.value) if acknowledged else 0  # says nothing before
            events += await self.cycle()
        dut.host__strobe.value = 0
        if value is None:
            want = self.world.read(address)
            assert answer == want, f"cycle {now()}: {what}: {answer:#x}, want {want:#x}"
        wanted = [] if value is None else self.world.write(address, value)
        assert events == wanted, f"cycle {now()}: {what}: did {events}, want {wanted}"
        self.compare()

    def compare(self) -> None:
        """Compare what the component says all the time."""
        dut, held = self.dut, self.world.held
        outputs = {"entry": held[ENTRY], "steps": held[STEPS]}
        outputs |= {f"strides__{number}": held[register] for number, register in enumerate(STRIDES)}
        outputs["limit"] = held[LIMIT_HIGH] << 32 | held[LIMIT]
        for name, want in outputs.items():
            got = int(getattr(dut, name).value)
            assert got == want, f"cycle {now()}: {name} {got:#x}, want {want:#x}"

    async def rest(self, cycles: int) -> None:
        """Let cycles pass without a request."""
        for _ in range(cycles):
            await settled()
            assert not self.dut.host__acknowledge.value, f"cycle {now()}: acknowledge of nothing"
            events = await self.cycle()
            assert not events, f"cycle {now()}: {events} without a request"

    def addresses(self) -> list[int]:
        """List every register, the ends of every region, and words that do not exist."""
        geometry = self.world.geometry
        banks = 1 << (geometry.array - 1).bit_length()
        result = [*range(72), (1 << 20) - 1, 1 << 19 | ENTRY, 3 << 20, 7 << 20 | 1]
        result += [PROGRAM + word for word in range(4 * geometry.program_depth + 5)]
        result += [SATURATIONS + number for number in range(8)]
        depths = {X: geometry.x_depth, W: geometry.w_depth, E: geometry.e_depth}
        for region, depth in depths.items():
            result += [region + word for word in range(2 * banks)]
            result += [region + (depth - 1) * banks + word for word in range(2 * banks)]
            result += [region + (1 << 20) - 1, region + (1 << 19)]
        return result


@cocotb.test(timeout_time=10, timeout_unit="ms")
@cocotb.parametrize(busy=[0, 1])
async def answers_at_every_address(dut: Any, busy: int) -> None:
    """Every register and every region to its end, read, written and read, idle or busy."""
    bench = Bench(dut)
    await bench.begin()
    rng = random_generator()
    bench.state(cycles=0x123456789ABCDEF0, instructions=5, busy=busy)
    for address in bench.addresses():
        await bench.access(address, None)
        await bench.access(address, int(rng.integers(1 << 32)) | 1)
        await bench.access(STATUS, None)
        await bench.access(address, None)
        await bench.access(STATUS, 0)


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def answers_whatever_happens(dut: Any) -> None:
    """Any access, directly after the other or not, while runs begin and end at random."""
    bench = Bench(dut)
    await bench.begin()
    rng = random_generator()
    addresses = bench.addresses()
    favourites = [CONTROL, STATUS, ENTRY, LIMIT, CYCLES, LFSR, PROGRAM, X, W + 1, E]
    for _ in range(1500):
        choices = favourites if rng.integers(3) == 0 else addresses
        address = int(rng.choice(choices))
        value = int(rng.integers(1 << 32)) if rng.integers(2) else None
        await bench.access(address, value)
        if rng.integers(4) == 0:
            await bench.rest(int(rng.integers(1, 4)))
        if rng.integers(4) == 0:
            bench.state(
                busy=int(rng.integers(2)),
                overrun=int(rng.integers(4) == 0),
                cycles=int(rng.integers(0, 1 << 64, dtype=np.uint64)),
                instructions=int(rng.integers(6)),
            )
