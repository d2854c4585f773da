"""Runs of hours, in the accelerator's own counter and watchdog: a cocotb bench on Icarus."""

from __future__ import annotations

import re

import pytest

from siligrad_hdl.accelerator import to_verilog
from siligrad_sim.bench_runner import BenchFailed
from tests.sim.bench_cases import run_accelerator, small_step

STEP = small_step(2)


def run(verilog: str) -> list[str]:
    return run_accelerator(STEP, "icarus", component=verilog, bench="long_runs")


@pytest.fixture(scope="module")
def verilog() -> str:
    return to_verilog(STEP.geometry, name="top")


def test_a_run_of_hours_ends_at_its_limit_and_not_beside_it(verilog: str) -> None:
    assert len(run(verilog)) == 2


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        (
            r"(\S+)  == limit\[31:0\]",
            r"{\1 [31:18], \1 [16:0]} == {limit[31:18], limit[16:0]}",
            r"limit 0x\w+: ended where bit 17 is another",
        ),
        (
            r"== limit\[63:32\]",
            "== {limit[63:46], limit[44:32]}",
            r"limit 0x200000000002: counted 0x1ff",
        ),
        (
            r"(\n +)carry <= \S+",
            r"\1carry <= 1'h0",
            r"limit 0x100000002: nobody ended the run",
        ),
    ],
    ids=["a bit of the limit ignored", "the limit shifted", "no carry"],
)
def test_a_watchdog_that_is_wrong_after_hours_is_found(
    verilog: str, right: str, wrong: str, message: str
) -> None:
    broken, count = re.subn(right, wrong, verilog)
    assert count == 1
    with pytest.raises(BenchFailed, match=message):
        run(broken)
