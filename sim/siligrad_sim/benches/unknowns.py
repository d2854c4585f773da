"""Bench of what reaches the ports of an accelerator whose registers and memories begin unknown.

To be run with ``unknowns=True``. Parameters as in :mod:`siligrad_sim.benches.host`.
"""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.triggers import FallingEdge

from siligrad.registers import OVERRUN_CYCLES, Register, Status
from siligrad_sim.benches.cycles import now, settled
from siligrad_sim.benches.host import Session


async def watch(dut: Any, answers: list[int]) -> None:
    """Check in every cycle that every output is known, and data where it is the answer to a read.

    The answers are appended to `answers`.
    """
    while True:
        await FallingEdge(dut.clk)
        await settled()
        if dut.rst.value:
            continue
        outputs = ["busy", "host__acknowledge"]
        if dut.host__acknowledge.value == 1 and not dut.host__write.value:
            outputs.append("host__read_data")
        for name in outputs:
            value = getattr(dut, name).value
            known = not set(str(value)) - {"0", "1"}
            assert known, f"cycle {now()}: {name} is {value} after the reset, want it known"
        if len(outputs) == 3:
            answers.append(int(dut.host__read_data.value))


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def nothing_unknown_reaches_a_port_after_the_reset(dut: Any) -> None:
    """Through reset, loading, a run, a run that is ended, another one, and reading back."""
    session = Session(dut)
    for name in ("busy", "host__acknowledge", "host__read_data"):
        value = getattr(dut, name).value
        assert set(str(value)) == {"X"}, f"{name} is {value} before there was a clock, want X"
    answers: list[int] = []
    cocotb.start_soon(watch(dut, answers))
    await session.begin()
    for register in Register:
        await session.read_register(register)
    await session.load(session.draw("coarse"))
    promised = session.promised(session.instructions, session.loop)
    session.machine.run(session.instructions, session.loop)
    await session.start_program(session.loop)
    await session.wait(promised)
    await session.compare(promised)
    limit = promised // 2
    await session.write_register(Register.LIMIT, limit)
    await session.start_program(session.loop)
    await session.wait(limit + OVERRUN_CYCLES)
    status = await session.read_register(Register.STATUS)
    assert status == Status.OVERRUN, f"cycle {now()}: status {status}, want {Status.OVERRUN}"
    await session.read_words()
    for number, lane in enumerate(session.machine.lanes):
        lane.state = await session.read_register(Register.LFSR + number)
    await session.write_register(Register.LIMIT, promised)
    session.machine.run(session.instructions, session.loop)
    await session.start_program(session.loop)
    await session.wait(promised)
    await session.compare(promised)
    assert len(answers) > 2 * session.geometry.array * session.geometry.x_depth
