# amaranth: UnusedElaboratable=no
# A component that refuses its parameters is never used.

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator

from siligrad.isa import Timing
from siligrad_hdl.cell import ProcessingElement


def wrap(value: int, bits: int) -> int:
    return (value + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)


@pytest.mark.parametrize(("operand_bits", "sum_bits"), [(16, 40), (8, 16), (4, 9), (16, 48)])
def test_sums_of_products_drain_after_the_stated_latency(operand_bits: int, sum_bits: int) -> None:
    rng = np.random.default_rng(operand_bits)
    limit = 1 << operand_bits - 1
    cycles = 200
    a = rng.integers(-limit, limit, cycles).tolist()
    b = rng.integers(-limit, limit, cycles).tolist()
    a[10:14] = b[10:14] = [-limit] * 4  # the largest product there is
    last = (rng.random(cycles) < 0.3).astype(int).tolist()
    last[20:23] = [1, 1, 1]
    dut = ProcessingElement(operand_bits=operand_bits, sum_bits=sum_bits)

    async def bench(ctx: Any) -> None:
        drained = []
        total = held = 0
        for cycle in range(cycles):
            total = wrap(total + a[cycle] * b[cycle], sum_bits)
            if last[cycle]:
                held, total = total, 0
            drained.append(held)
        for cycle in range(cycles + dut.latency):
            ctx.set(dut.a_west, a[cycle] if cycle < cycles else 0)
            ctx.set(dut.b_north, b[cycle] if cycle < cycles else 0)
            lagging = cycle - dut.lag
            ctx.set(dut.last_west, last[lagging] if 0 <= lagging < cycles else 0)
            if cycle >= dut.latency:
                assert ctx.get(dut.drain_south) == drained[cycle - dut.latency], f"cycle {cycle}"
            if 0 < cycle <= cycles:
                assert ctx.get(dut.a_east) == a[cycle - 1], f"cycle {cycle}"
                assert ctx.get(dut.b_south) == b[cycle - 1], f"cycle {cycle}"
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_drain_register_captures_before_it_accepts_and_keeps_without_either() -> None:
    rng = np.random.default_rng(1)
    dut = ProcessingElement(operand_bits=8, sum_bits=20)

    async def bench(ctx: Any) -> None:
        ctx.set(dut.a_west, 2)
        ctx.set(dut.b_north, 3)
        for _ in range(dut.lag):
            await ctx.tick()
        total = held = 0
        flags_before = (0, 0)
        for cycle in range(100):
            last, accept = rng.integers(0, 2, 2).tolist()
            north = int(rng.integers(-1000, 1000))
            ctx.set(dut.last_west, last)
            ctx.set(dut.accept_west, accept)
            ctx.set(dut.drain_north, north)
            if cycle:
                assert (ctx.get(dut.last_east), ctx.get(dut.accept_east)) == flags_before
            flags_before = last, accept
            total += 6
            held = total if last else north if accept else held
            total = 0 if last else total
            await ctx.tick()
            assert ctx.get(dut.drain_south) == held, f"cycle {cycle}"

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_latency_is_the_one_that_schedules_count_on() -> None:
    assert ProcessingElement.latency == Timing(8).cell + 1


def test_a_sum_that_cannot_hold_a_product_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sum_bits must be at least 16 to hold .*, not 15"):
        ProcessingElement(operand_bits=8, sum_bits=15)
