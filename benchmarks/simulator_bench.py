"""The bench of ``benchmarks.simulators``: a program, over and over, timed inside the simulator.

Parameters: ``writes`` (a file of address and word of everything to write first), ``cycles`` (what
the program promises), ``seconds`` (to run for, at least; zero: do nothing) and ``result`` (a JSON
file to write cycles and processor seconds to).
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.simtime import get_sim_time
from cocotb.triggers import FallingEdge, RisingEdge

from siligrad.registers import Region, Register
from siligrad_sim.bench_runner import bench_parameters
from siligrad_sim.benches.cycles import next_cycle, settled, start

__all__ = ["rate"]

_START = Region.REGISTERS.base + Register.CONTROL
_PERIOD_NS = 10


async def _write(dut: Any, address: int, word: int) -> None:
    dut.host__strobe.value = 1
    dut.host__write.value = 1
    dut.host__address.value = address
    dut.host__write_data.value = word
    acknowledged = False
    while not acknowledged:
        await settled()
        acknowledged = bool(dut.host__acknowledge.value)
        await next_cycle(dut)
    dut.host__strobe.value = 0


@cocotb.test(timeout_time=10, timeout_unit="sec")
async def rate(dut: Any) -> None:
    """Load everything, then run until the seconds are over; sleep while the program runs."""
    parameters = bench_parameters()
    inputs = ("strobe", "write", "address", "write_data")
    await start(dut, dict.fromkeys([f"host__{name}" for name in inputs], 0))
    if not parameters["seconds"]:
        return
    for address, word in np.load(parameters["writes"]).tolist():
        await _write(dut, address, word)
    cycles, spent = 0, 0.0
    while spent < parameters["seconds"]:
        begin = time.process_time()
        await _write(dut, _START, 1)
        if not dut.busy.value:
            await RisingEdge(dut.busy)
        rise = get_sim_time("ns")
        await FallingEdge(dut.busy)
        taken = round((get_sim_time("ns") - rise) / _PERIOD_NS)
        spent += time.process_time() - begin
        # The bench looks at the falling edge of the clock, in the middle of a cycle.
        assert abs(taken - parameters["cycles"]) <= 1, f"{taken} cycles"
        cycles += parameters["cycles"]
    found = json.dumps({"cycles": cycles, "seconds": spent})
    Path(parameters["result"]).write_text(found, encoding="ascii")
