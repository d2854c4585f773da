from __future__ import annotations

from typing import Any

import numpy as np
from amaranth.sim import Simulator

from siligrad_hdl.cycle_counter import CycleCounter


def test_cycles_are_counted() -> None:
    rng = np.random.default_rng(2)
    dut = CycleCounter(half_bits=3)

    async def bench(ctx: Any) -> None:
        counted = 0
        for cycle in range(400):
            clear, count = int(cycle in {150, 151, 300}), int(rng.random() < 0.8)
            ctx.set(dut.clear, clear)
            ctx.set(dut.count, count)
            counted = 0 if clear else (counted + count) % 64
            await ctx.tick()
            assert ctx.get(dut.cycles) == counted, f"cycle {cycle}"

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
