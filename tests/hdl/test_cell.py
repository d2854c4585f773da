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
def test_sum_of_products_appears_after_the_stated_latency(operand_bits: int, sum_bits: int) -> None:
    rng = np.random.default_rng(operand_bits)
    limit = 1 << operand_bits - 1
    cycles = 60
    a = rng.integers(-limit, limit, cycles).tolist()
    b = rng.integers(-limit, limit, cycles).tolist()
    a[10:14] = b[10:14] = [-limit] * 4  # the largest product there is
    first = (rng.random(cycles) < 0.2).astype(int).tolist()
    first[0] = 1
    dut = ProcessingElement(operand_bits=operand_bits, sum_bits=sum_bits)

    async def bench(ctx: Any) -> None:
        expected = []
        total = 0
        for cycle in range(cycles):
            total = wrap((0 if first[cycle] else total) + a[cycle] * b[cycle], sum_bits)
            expected.append(total)
        for cycle in range(cycles + dut.drain_latency):
            ctx.set(dut.a_west, a[cycle] if cycle < cycles else 0)
            ctx.set(dut.b_north, b[cycle] if cycle < cycles else 0)
            lagging = cycle - dut.first_lag
            ctx.set(dut.first_west, first[lagging] if 0 <= lagging < cycles else 0)
            ctx.set(dut.capture_west, 1)  # the drain register shows each sum, one cycle later
            if cycle >= dut.drain_latency:
                then = cycle - dut.drain_latency
                assert ctx.get(dut.drain_south) == expected[then], f"cycle {cycle}"
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
        for _ in range(dut.drain_latency):  # a sum of constant 6, as every product is the first
            ctx.set(dut.a_west, 2)
            ctx.set(dut.b_north, 3)
            ctx.set(dut.first_west, 1)
            await ctx.tick()
        held = ctx.get(dut.drain_south)
        flags_before = (0, 0)
        for cycle in range(100):
            capture, accept = rng.integers(0, 2, 2).tolist()
            north = int(rng.integers(-1000, 1000))
            ctx.set(dut.capture_west, capture)
            ctx.set(dut.accept_west, accept)
            ctx.set(dut.drain_north, north)
            if cycle:
                assert (ctx.get(dut.capture_east), ctx.get(dut.accept_east)) == flags_before
            flags_before = capture, accept
            held = 6 if capture else north if accept else held
            await ctx.tick()
            assert ctx.get(dut.drain_south) == held, f"cycle {cycle}"

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_latency_is_the_one_that_schedules_count_on() -> None:
    assert ProcessingElement.latency == Timing(8).cell


def test_a_sum_that_cannot_hold_a_product_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sum_bits must be at least 16 to hold .*, not 15"):
        ProcessingElement(operand_bits=8, sum_bits=15)
