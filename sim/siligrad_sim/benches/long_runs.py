"""Bench of :class:`siligrad_hdl.accelerator.Accelerator`: runs that nobody could wait for.

The counter of cycles is set by hand while a program runs, to what it would be after hours; then
what a limit, its comparison and the counter do with every bit of 64 takes some cycles each. Needs
a simulator that lets a bench see, and set, registers inside: Icarus.

Parameters as in :mod:`siligrad_sim.benches.host`; the program must take more than a hundred cycles.
"""

from __future__ import annotations

from typing import Any

import cocotb

from siligrad.isa import Loop
from siligrad.registers import OVERRUN_CYCLES, Register, Status
from siligrad_sim.benches.cycles import next_cycle, random_generator, settled
from siligrad_sim.benches.host import Session

__all__: list[str] = []

_STEPS = 1000
"""Of a run: more than is waited for."""

_BEFORE = 6
"""Cycles before a limit from which on it is looked at."""


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
