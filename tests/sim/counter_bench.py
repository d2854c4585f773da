"""A bench for the test of the bench runner."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from siligrad_sim.bench_runner import bench_parameters


async def start(dut: Any) -> None:
    dut.enable.value = 0
    dut.rst.value = 0
    Clock(dut.clk, 10, unit="ns").start()
    await FallingEdge(dut.clk)


@cocotb.test(timeout_time=100, timeout_unit="us")
async def counts_when_enabled(dut: Any) -> None:
    await start(dut)
    limit = 2 ** bench_parameters()["bits"]
    rng = random.Random(cocotb.RANDOM_SEED)
    expected = 0
    for cycle in range(100):
        enable = rng.randrange(2)
        dut.enable.value = enable
        await FallingEdge(dut.clk)
        expected = (expected + enable) % limit
        got = dut.count.value.to_unsigned()
        assert got == expected, f"cycle {cycle}: count {got}, want {expected}"


@cocotb.test(timeout_time=100, timeout_unit="us")
async def notes_its_seed(dut: Any) -> None:
    await start(dut)
    with Path(bench_parameters()["seeds"]).open("a", encoding="utf-8") as file:
        file.write(f"{cocotb.RANDOM_SEED}\n")


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(cycles=[1, 7])
async def never_counts_when_not_enabled(dut: Any, cycles: int) -> None:
    await start(dut)
    before = dut.count.value.to_unsigned()
    for _ in range(cycles):
        await FallingEdge(dut.clk)
    assert dut.count.value.to_unsigned() == before
