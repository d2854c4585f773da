"""Runs of hours in the accelerator's own counters, and a reset: a cocotb bench on Icarus."""

from __future__ import annotations

import re

import pytest

from siligrad_hdl.accelerator import to_verilog
from siligrad_sim.bench_runner import BenchFailed
from tests.sim.bench_cases import run_accelerator, small_step

STEP = small_step(2)


def run(verilog: str, tests: list[str] | None = None) -> list[str]:
    return run_accelerator(STEP, "icarus", component=verilog, bench="long_runs", tests=tests)


@pytest.fixture(scope="module")
def verilog() -> str:
    return to_verilog(STEP.geometry, name="top")


def test_counters_and_limits_have_all_their_bits_and_a_reset_leaves_nothing(verilog: str) -> None:
    assert len(run(verilog)) == 5


@pytest.mark.parametrize(
    ("test", "right", "wrong", "message"),
    [
        (
            "goes_on_beside_its_limit",
            r"(\S+)  == limit\[31:0\]",
            r"{\1 [31:18], \1 [16:0]} == {limit[31:18], limit[16:0]}",
            r"limit 0x\w+: ended where bit 17 is another",
        ),
        (
            "ends_at_a_limit_of_any_bits",
            r"== limit\[63:32\]",
            "== {limit[63:46], limit[44:32]}",
            r"limit 0x200000000002: counted 0x1ff",
        ),
        (
            "ends_at_a_limit_of_any_bits",
            r"(\n +)carry <= \S+",
            r"\1carry <= 1'h0",
            r"limit 0x100000002: nobody ended the run",
        ),
        (
            "adds_up_saturations_of_any_bits",
            r"= rows \+ (\S+) ;",
            r"= rows + (\1 & 32'hfbffffff);",
            r"instruction 7: 0x\w+ saturated, want 0x\w+",
        ),
        (
            "adds_up_rows_of_any_bits",
            r"(\n +)rows <= total",
            r"\1rows <= total[30:0]",
            r"instruction \d: 0x\w+ saturated, want 0x[89a-f]\w{7}",
        ),
        (
            "is_as_new_after_a_reset",
            r"(module \S+lane_1\.lfsr (?:.*\n)+?.*if \()rst\)",
            r"\g<1>1'b0)",
            r"after a reset in cycle \d+",
        ),
    ],
    ids=[
        "a bit of the limit ignored",
        "the limit shifted",
        "no carry",
        "a bit of a count lost",
        "rows of 31 bits",
        "no reset of a shift register",
    ],
)
def test_what_is_wrong_after_hours_or_a_reset_is_found(
    verilog: str, test: str, right: str, wrong: str, message: str
) -> None:
    broken, count = re.subn(right, wrong, verilog)
    assert count == 1
    with pytest.raises(BenchFailed, match=message):
        run(broken, [test])
