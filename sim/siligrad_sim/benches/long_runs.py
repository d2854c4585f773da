"""Bench of :class:`siligrad_hdl.accelerator.Accelerator`: runs that nobody could wait for.

Counters, of cycles and of saturations, are set by hand while a program runs, to what they would
be after hours; then what they and a limit do with every bit takes some cycles each. At last, a
reset in the middle of a run. Needs a simulator that lets a bench see, and set, registers and
memories inside: Icarus.

Parameters as in :mod:`siligrad_sim.benches.host`; the program must take more than a hundred cycles.
"""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.handle import HierarchyObject

from siligrad.isa import Loop
from siligrad.registers import OVERRUN_CYCLES, Region, Register, Status
from siligrad_sim.benches.cycles import next_cycle, random_generator, settled
from siligrad_sim.benches.host import Session

__all__: list[str] = []

_STEPS = 1000
"""Of a run: more than is waited for."""

_BEFORE = 6
"""Cycles before a limit from which on it is looked at."""

_NOT_COUNTED = 0xFFFFFFFF
"""What no counter of saturations holds after a step."""


class _LongRun:
    """A run that is far advanced."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.bench = Session(dut)

    async def begin(self) -> None:
        """Reset, and load the program."""
        await self.bench.begin()
        await self.bench.load(self.bench.draw("zeros"))

    async def start(self, limit: int) -> None:
        """Start a run with that limit."""
        await self.bench.write_register(Register.LIMIT, limit & 0xFFFFFFFF)
        await self.bench.write_register(Register.LIMIT_HIGH, limit >> 32)
        await self.bench.start_program(Loop(_STEPS))
        for _ in range(4):  # the first cycle of a run is not compared, nor what it leaves behind
            await next_cycle(self.dut)

    async def advance_to(self, cycles: int) -> None:
        """Let it be at that cycle."""
        counter = self.dut.watchdog.counter
        counter.low.value = cycles & 0xFFFFFFFF
        counter.high.value = cycles >> 32
        counter.carry.value = 0
        await settled()
        await next_cycle(self.dut)

    async def busy_for(self, patience: int) -> int:
        """Return the cycles that it goes on, up to `patience` of them."""
        for cycle in range(patience):
            await settled()
            busy = bool(self.dut.busy.value)
            await next_cycle(self.dut)
            if not busy:
                return cycle
        return patience

    async def counted(self) -> int:
        """Return what the host reads of the counter."""
        low = await self.bench.read_register(Register.CYCLES)
        return low | await self.bench.read_register(Register.CYCLES_HIGH) << 32

    async def end(self) -> None:
        """Reset, which leaves the program where it is."""
        self.dut.rst.value = 1
        await next_cycle(self.dut)
        self.dut.rst.value = 0


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def ends_at_a_limit_of_any_bits(dut: Any) -> None:
    """A run ends at its limit, wherever that is, and the counter says when."""
    run = _LongRun(dut)
    await run.begin()
    rng = random_generator()
    limits = [(1 << bit) + 2 for bit in range(6, 64)]  # every carry of the counter
    limits += [(1 << 32) - 2, (1 << 32) - 1, 1 << 32, (1 << 64) - 16]
    limits += [int(rng.integers(1 << 63)) for _ in range(4)]
    for limit in limits:
        await run.start(limit)
        await run.advance_to(limit - _BEFORE)
        went_on = await run.busy_for(4 * _BEFORE)
        assert went_on < 4 * _BEFORE, f"limit {limit:#x}: nobody ended the run"
        status = await run.bench.read_register(Register.STATUS)
        assert status == Status.OVERRUN, f"limit {limit:#x}: status {status}"
        got = await run.counted()
        want = limit + OVERRUN_CYCLES
        assert got == want, f"limit {limit:#x}: counted {got:#x} cycles, want {want:#x}"


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def goes_on_beside_its_limit(dut: Any) -> None:
    """A run goes on when its counter is like the limit but for one bit, whichever it is."""
    run = _LongRun(dut)
    await run.begin()
    rng = random_generator()
    for bit in range(64):
        # Far from a carry, which would change more than the one bit.
        limit = int(rng.integers(1 << 64, dtype="uint64")) & ~0xFFFF | 0x4321
        await run.start(limit)
        await run.advance_to((limit ^ 1 << bit) - _BEFORE if bit > 3 else limit + 4)
        went_on = await run.busy_for(4 * _BEFORE)
        assert went_on == 4 * _BEFORE, f"limit {limit:#x}: ended where bit {bit} is another"
        await run.end()
        got = await run.counted()
        assert got == 0, f"limit {limit:#x}: counted {got:#x} cycles after a reset"


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def adds_up_saturations_of_any_bits(dut: Any) -> None:
    """The counter of an instruction goes on from whatever it held after the step before."""
    bench = Session(dut)
    await bench.begin()
    await bench.load(bench.draw("largest"))
    sums = _saturation_counters(dut).sums.memory
    for far in _far_counts(len(bench.instructions)):
        for number in range(len(far)):
            sums[number].value = _NOT_COUNTED
        await bench.start_program(Loop(2))
        beyond: dict[int, int] = {}
        await settled()
        while dut.busy.value:
            await next_cycle(dut)
            for number, value in enumerate(far):
                held = sums[number].value.to_unsigned()
                if number not in beyond and held != _NOT_COUNTED:
                    sums[number].value = value
                    beyond[number] = value - held
            await settled()
        await next_cycle(dut)
        bench.machine.run(bench.instructions, Loop(2))
        await _compare_saturations(bench, beyond)


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def adds_up_rows_of_any_bits(dut: Any) -> None:
    """What has saturated of an instruction goes on from whatever it was after the first row."""
    bench = Session(dut)
    await bench.begin()
    await bench.load(bench.draw("largest"))
    saturations = _saturation_counters(dut)
    for far in _far_counts(len(bench.instructions)):
        await bench.start_program(Loop(1))
        beyond: dict[int, int] = {}
        await settled()
        while dut.busy.value:
            first = bool(saturations.count.value) and bool(saturations.count_first.value)
            await next_cycle(dut)
            if first:
                number = len(beyond)
                beyond[number] = far[number] - saturations.total.value.to_unsigned()
                saturations.total.value = far[number]
            await settled()
        await next_cycle(dut)
        bench.machine.run(bench.instructions, Loop(1))
        await _compare_saturations(bench, beyond)


def _saturation_counters(dut: Any) -> Any:
    """Return the component, which is not the only thing of its name."""
    modules = (each for each in dut if isinstance(each, HierarchyObject))
    return next(each for each in modules if each._name.startswith("saturations"))


def _far_counts(instructions: int) -> list[list[int]]:
    """Return what to set the counters of so many instructions to, in one run after the other."""
    rng = random_generator()
    counts = [(1 << bit) - 1 for bit in range(4, 33)]  # every carry of the counter
    counts += [
        int(rng.integers(1 << 32)) for _ in range(2 * instructions - len(counts) % instructions)
    ]
    return [counts[i : i + instructions] for i in range(0, len(counts), instructions)]


async def _compare_saturations(bench: Session, beyond: dict[int, int]) -> None:
    """Compare the counters with those of the machine, and what they were set to beyond them."""
    assert sorted(beyond) == list(range(len(bench.instructions))), f"counters set: {beyond}"
    for number, counted in enumerate(bench.machine.saturations):
        want = (counted + beyond[number]) % (1 << 32)
        got = await bench.read(Region.SATURATIONS.base + number)
        assert got == want, f"instruction {number}: {got:#x} saturated, want {want:#x}"


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def is_as_new_after_a_reset(dut: Any) -> None:
    """A reset in the middle of a run leaves nothing of it but the memories."""
    bench = Session(dut)
    await bench.begin()

    async def everything() -> list[int]:
        saturations = [Region.SATURATIONS.base + each for each in range(len(bench.instructions))]
        registers = [Region.REGISTERS.base + each for each in range(Register.HELD + 1)]
        return [await bench.read(address) for address in [*registers, *saturations]]

    new = await everything()
    await bench.load(bench.draw("coarse"))
    once = bench.promised(bench.instructions, Loop(1))
    rng = random_generator()
    for moment in rng.integers(once // 8, 2 * once, 4):
        for register in (Register.LIMIT, Register.LIMIT_HIGH):
            await bench.write_register(register, 0xFFFFFFFF)
        await bench.start_program(Loop(_STEPS, 1, 1, 1), entry=0)
        for _ in range(moment):
            await next_cycle(dut)
        assert dut.busy.value, f"the run of {_STEPS} steps is over after {moment} cycles"
        dut.rst.value = 1
        await next_cycle(dut)
        dut.rst.value = 0
        got = await everything()
        assert got == new, f"after a reset in cycle {moment} {got}, at first {new}"
        for lane in bench.machine.lanes:
            lane.state = 1
        await bench.read_words()
        await bench.start_program(bench.loop)
        await bench.wait(bench.promised(bench.instructions, bench.loop))
        bench.machine.run(bench.instructions, bench.loop)
        await bench.compare(bench.promised(bench.instructions, bench.loop))
