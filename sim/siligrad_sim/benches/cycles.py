"""Clock and reset, and what a cycle is to a bench.

A cycle of a bench reaches from one falling edge to the next: inputs are set at its beginning,
outputs are read when they have settled, and the rising edge in its middle ends it for the
component.

    for cycle in range(cycles):
        dut.input.value = ...
        await settled()
        assert dut.output.value == ..., f"cycle {cycle}: ..."
        await next_cycle(dut)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, ReadOnly
from cocotb.utils import get_sim_time

__all__ = ["next_cycle", "now", "random_generator", "settled", "start"]

_PERIOD_NS = 10


async def start(dut: Any, inputs: Mapping[str, int]) -> None:
    """Start the clock, set `inputs`, reset, and return at the beginning of a cycle."""
    for name, value in inputs.items():
        getattr(dut, name).value = value
    dut.rst.value = 1
    Clock(dut.clk, _PERIOD_NS, unit="ns").start()
    await FallingEdge(dut.clk)
    await FallingEdge(dut.clk)
    dut.rst.value = 0


def now() -> int:
    """Return the number of this cycle, counted from the start of the clock."""
    return int(get_sim_time("ns")) // _PERIOD_NS


async def settled() -> None:
    """Wait until the outputs follow the inputs of this cycle; no input can be set after it."""
    await ReadOnly()


async def next_cycle(dut: Any) -> None:
    """Wait for the next cycle."""
    await FallingEdge(dut.clk)


def random_generator() -> np.random.Generator:
    """Return the bench's generator of random data, the same on every run."""
    return np.random.default_rng(cocotb.RANDOM_SEED)
