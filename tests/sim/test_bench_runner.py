from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from siligrad_sim.bench_runner import (
    SEED,
    BenchFailed,
    Simulator,
    bench_parameters,
    convert_to_verilog,
    run_bench,
)

BITS = 5
BENCH = "counter_bench"
TESTS = [
    "counts_when_enabled",
    "never_counts_when_not_enabled/cycles=1",
    "never_counts_when_not_enabled/cycles=7",
    "notes_its_seed",
]

simulators = pytest.mark.parametrize("simulator", ["icarus", "verilator"])


class Counter(wiring.Component):  # type: ignore[misc]  # Amaranth has no types
    def __init__(self, *, stuck_at: int | None = None) -> None:
        self.stuck_at = stuck_at
        super().__init__({"enable": In(1), "count": Out(BITS)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        with m.If(self.enable & (self.count != self.stuck_at if self.stuck_at else 1)):
            m.d.sync += self.count.eq(self.count + 1)
        return m


@pytest.fixture(autouse=True)
def bench_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)


def run(
    simulator: Simulator,
    component: object | None = None,
    *,
    tests: Sequence[str] | None = None,
    seed: int = SEED,
    seeds: str = os.devnull,
) -> list[str]:
    return run_bench(
        Counter() if component is None else component,
        BENCH,
        simulator=simulator,
        parameters={"bits": BITS, "seeds": seeds},
        tests=tests,
        seed=seed,
    )


@simulators
def test_every_test_of_a_bench_runs_and_is_named(simulator: Simulator) -> None:
    assert sorted(run(simulator)) == TESTS


@simulators
def test_a_wrong_component_fails_its_bench_in_the_cycle_where_it_is_wrong(
    simulator: Simulator,
) -> None:
    with pytest.raises(BenchFailed, match=r"1 of 4 tests failed") as caught:
        run(simulator, Counter(stuck_at=13))
    assert "counts_when_enabled: " in str(caught.value)
    assert "count 13, want 14" in str(caught.value)


def test_what_a_bench_draws_depends_on_the_seed_and_not_on_the_simulator(tmp_path: Path) -> None:
    seeds = tmp_path / "seeds"
    for simulator, seed in [("icarus", 7), ("verilator", 7), ("icarus", 8)]:
        run(simulator, tests=["notes_its_seed"], seed=seed, seeds=str(seeds))  # type: ignore[arg-type]
    first, other_simulator, other_seed = seeds.read_text(encoding="utf-8").split()
    assert first == other_simulator
    assert first != other_seed


@simulators
def test_tests_are_chosen_by_name(simulator: Simulator) -> None:
    assert run(simulator, tests=["never_counts_when_not_enabled"]) == TESTS[1:3]


def test_a_name_that_no_test_has_is_refused() -> None:
    with pytest.raises(BenchFailed, match="there is no test 'counts_when_asleep'"):
        run("icarus", tests=["counts_when_enabled", "counts_when_asleep"])
    with pytest.raises(BenchFailed, match=r"no test ran|without results"):
        run("icarus", tests=["counts_when_asleep"])


def test_a_bench_without_tests_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty_bench.py").write_text("", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BenchFailed, match="empty_bench in icarus"):
        run_bench(Counter(), "empty_bench", simulator="icarus")


def test_a_bench_that_cannot_be_imported_is_refused_with_the_reason() -> None:
    with pytest.raises(BenchFailed, match="No module named 'no_such_bench'"):
        run_bench(Counter(), "no_such_bench", simulator="icarus")


@simulators
def test_verilog_that_does_not_build_is_refused_with_what_the_simulator_says(
    simulator: Simulator,
) -> None:
    verilog = "module top(\n  clk);\n  input clk;\n  nonsense;\nendmodule\n"
    with pytest.raises(BenchFailed, match=rf"{simulator} does not build top.*\n.*top\.v:4"):
        run(simulator, verilog)


def test_a_top_that_the_verilog_does_not_have_is_refused() -> None:
    with pytest.raises(BenchFailed, match="no module 'bottom'"):
        run_bench(convert_to_verilog(Counter()), BENCH, simulator="verilator", top="bottom")


INTERNALS_BENCH = """
import cocotb
from cocotb.triggers import Timer

@cocotb.test(timeout_time=1, timeout_unit="us")
async def sees_inside(dut):
    await Timer(1, unit="ns")
    assert dut.inner.hidden.value == 5
"""

INTERNALS = """
module inner(output [3:0] shown);
  reg [3:0] hidden = 5;
  assign shown = hidden;
endmodule
module top(
    shown);
  output [3:0] shown;
  inner inner(.shown(shown));
endmodule
"""


def test_signals_inside_are_seen_in_verilator_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "internals_bench.py").write_text(INTERNALS_BENCH, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    bench = "internals_bench"
    for simulator in ("icarus", "verilator"):
        run_bench(INTERNALS, bench, simulator=simulator, internals=True)
    with pytest.raises(BenchFailed, match="1 of 1 tests failed"):
        run_bench(INTERNALS, bench, simulator="verilator")


def test_a_bench_leaves_the_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAVES", "1")
    before = dict(os.environ)
    run("icarus")
    assert dict(os.environ) == before


def test_outside_a_bench_there_are_no_parameters() -> None:
    assert bench_parameters() == {}
