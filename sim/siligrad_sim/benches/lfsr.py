"""Bench of :class:`siligrad_hdl.lfsr.Lfsr`."""

from __future__ import annotations

from typing import Any

import cocotb

from siligrad_sim.benches.cycles import next_cycle, random_generator, settled, start
from siligrad_sim.benches.specification import Lane

INPUTS = ("draw", "load", "load_state")


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(seed=[1, 0x80000000, 0xFFFFFFFF, 0xDEADBEEF])
async def draws_the_specified_bits(dut: Any, seed: int) -> None:
    """One draw a cycle, for a thousand cycles."""
    await start(dut, dict.fromkeys(INPUTS, 0))
    dut.load.value = 1
    dut.load_state.value = seed
    await next_cycle(dut)
    dut.load.value = 0
    dut.draw.value = 1
    lane = Lane(seed)
    for cycle in range(1000):
        await settled()
        got = dut.state.value.to_unsigned()
        assert got == lane.state, f"cycle {cycle}: state {got:#010x}, want {lane.state:#010x}"
        lane.draw()
        await next_cycle(dut)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def draws_holds_and_loads(dut: Any) -> None:
    """Random commands; a load goes before a draw, and without either the state stays."""
    rng = random_generator()
    await start(dut, dict.fromkeys(INPUTS, 0))
    lane = Lane(1)  # the state after a reset
    for cycle in range(2000):
        draw, load = int(rng.integers(2)), int(rng.integers(8) == 0)
        state = int(rng.integers(1, 1 << 32))
        dut.draw.value = draw
        dut.load.value = load
        dut.load_state.value = state
        await settled()
        got = dut.state.value.to_unsigned()
        assert got == lane.state, f"cycle {cycle}: state {got:#010x}, want {lane.state:#010x}"
        if load:
            lane.state = state
        elif draw:
            lane.draw()
        await next_cycle(dut)
