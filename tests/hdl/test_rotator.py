from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator

from siligrad.isa import Timing
from siligrad_hdl.rotator import Rotator


@pytest.mark.parametrize("array", range(2, 17))
def test_every_amount_rotates_the_lanes(array: int) -> None:
    rng = np.random.default_rng(array)
    cycles = 4 * array
    data = rng.integers(0, 256, (cycles, array))
    amounts = np.concatenate([np.arange(array), rng.integers(0, array, cycles - array)])
    dut = Rotator(array=array, shape=8)
    assert dut.latency == Timing(array).rotate

    async def bench(ctx: Any) -> None:
        for cycle in range(cycles + dut.latency):
            if cycle < cycles:
                ctx.set(dut.amount, int(amounts[cycle]))
                for lane in range(array):
                    ctx.set(dut.data[lane], int(data[cycle, lane]))
            then = cycle - dut.latency
            if then >= 0:
                got = [ctx.get(lane) for lane in dut.rotated]
                want = np.roll(data[then], -amounts[then]).tolist()
                assert got == want, f"amount {amounts[then]}"
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
