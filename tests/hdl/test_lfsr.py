from __future__ import annotations

from typing import Any

import pytest
from amaranth.sim import Simulator

from siligrad_hdl.lfsr import Lfsr
from tests.hdl.model import Lane


@pytest.mark.parametrize("seed", [1, 0x80000000, 0xFFFFFFFF, 0x2545F491])
def test_a_draw_is_sixteen_steps(seed: int) -> None:
    dut = Lfsr()
    lane = Lane(seed)

    async def bench(ctx: Any) -> None:
        assert ctx.get(dut.state) != 0
        ctx.set(dut.load, 1)
        ctx.set(dut.load_state, seed)
        ctx.set(dut.draw, 1)
        await ctx.tick()
        assert ctx.get(dut.state) == seed
        ctx.set(dut.load, 0)
        for cycle in range(200):
            drawing = cycle % 3 != 1
            ctx.set(dut.draw, drawing)
            await ctx.tick()
            if drawing:
                lane.draw()
            assert ctx.get(dut.state) == lane.state, f"cycle {cycle}"

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
