"""What the suite's programs reach, and that what they do not reach is listed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import coverage as bench
from siligrad.isa import (
    AuxMode,
    Gate,
    Geometry,
    Instruction,
    Loop,
    Memory,
    Product,
    Rounding,
    Segment,
)
from siligrad_sim.coverage.instructions import GROUPS
from siligrad_sim.coverage.netlist import BitHole, Component, components, parse
from siligrad_sim.coverage.table import Coverage, CoverageError
from siligrad_sim.coverage.unreachable import REASONS, sorted_out
from siligrad_sim.verilator import VerilatorDevice

pytestmark = pytest.mark.extended

BIT_HOLES = Path(__file__).with_name("netlist_holes.txt")
HOLES = Path(__file__).with_name("instruction_holes.txt")
GEOMETRY = Geometry(array=3, x_depth=12, w_depth=12, e_depth=12, program_depth=16)
PROGRAM = [
    Instruction(
        m_tiles=2,
        p_tiles=1,
        product=Product.XW,
        destination=Memory.E,
        rows_last=2,
        d_base=0,
        d_m=3,
        d_p=0,
        segments=(Segment(k=4, a_base=9, a_m=(1 << 16) - 9, a_k=0, b_k=3), Segment(k=1, pad=1)),
        shift=47,
        rounding=Rounding.FLOOR,
    ),
    Instruction(
        m_tiles=1,
        p_tiles=1,
        product=Product.EW,
        destination=Memory.X,
        rows_last=3,
        d_base=9,
        d_m=0,
        d_p=0,
        aux_base=9,
        segments=(Segment(k=3, ones=1, ones_shift=14, b_base=9, b_column=1),),
        aux_mode=AuxMode.ADD,
        gate=Gate.MASK,
        negate=1,
        d_column=1,
        aux_column=1,
        delay=300,
    ),
]


def counted(*programs: list[Instruction]) -> Coverage:
    coverage = Coverage(GROUPS)
    for program in programs:
        coverage.count(program, GEOMETRY)
    return coverage


def listed(path: Path = HOLES) -> set[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return {line for line in lines if line and not line.startswith("#")}


# What is fast: the checks that it leaves out reach more, as `python -m benchmarks.coverage` tells.
CHECKS = ("limits", "words", "refusals", "entry", "training step")


@pytest.fixture(scope="module")
def netlist() -> list[Component]:
    reason = VerilatorDevice.available()
    if reason is not None:
        pytest.skip(reason)
    return bench.netlist_coverage(CHECKS)


def named(coverage: Coverage) -> set[str]:
    return {
        f"{name}: {', '.join(each)}" for name, holes in coverage.holes().items() for each in holes
    }


def test_the_suite_reaches_all_but_what_is_listed() -> None:
    parts = bench.instruction_coverage()
    total = Coverage(GROUPS)
    for part in parts.values():
        total.merge(part)
    new = named(total) - listed()
    assert not new, f"holes that {HOLES.name} does not list: {sorted(new)}"
    assert total.programs >= 400
    # A suite with less of it reaches less, or the list is for nothing.
    del parts["specification"]
    fewer = Coverage(GROUPS)
    for part in parts.values():
        fewer.merge(part)
    assert named(fewer) - listed()


def test_every_listed_hole_is_a_bin_that_is_possible() -> None:
    assert listed() <= named(Coverage(GROUPS))


def test_a_program_is_in_the_bins_of_its_fields() -> None:
    counts = counted(PROGRAM).counts
    assert counts["epilogue"] == {
        ("floor", "none", "none", "0"): 1,
        ("half_even", "mask", "add", "1"): 1,
    }
    assert counts["shift"] == {("floor", "none", "47"): 1, ("half_even", "add", "0"): 1}
    assert counts["route"] == {("XW", "E", "not read"): 1, ("EW", "X", "in place of D"): 1}
    assert counts["shape"] == {("2", "1", "2", "between"): 1, ("1", "1", "1", "N"): 1}
    assert counts["segment"] == {("N to 2N", "0", "0"): 1, ("1", "1", "0"): 1, ("N", "0", "1"): 1}
    assert counts["segment of several"] == {
        ("first", "N to 2N", "0"): 1,
        ("last", "1", "1 and more"): 1,
        ("alone", "N", "0"): 1,
    }
    assert counts["transposition"] == {
        ("XW", "1", "0", "0", "not read"): 2,
        ("EW", "ones", "1", "1", "1"): 1,
    }
    assert counts["ones"] == {("largest", "N", "1"): 1}
    assert counts["from tile to tile"] == {
        ("a_m", "backwards"): 1,
        ("a_k", "0"): 1,
        ("b_k", "a tile"): 1,
        ("d_m", "a tile"): 1,
        ("a_m", "0"): 1,
    }
    assert counts["tile of its memory"] == {
        ("D", "E", "first"): 1,
        ("A", "X", "last"): 1,
        ("A", "X", "first"): 2,
        ("B", "W", "first"): 2,
        ("D", "X", "last"): 1,
        ("aux", "X", "last"): 1,
        ("B", "W", "last"): 1,
    }
    assert counts["one after the other"] == {("none", "0"): 1, ("2 to 5", "2 and more"): 1}
    assert counts["what a start waits for"] == {("pipeline", "none"): 1}
    assert counts["run"] == {("1", "2"): 1}
    assert counts["array"] == {("3", "16", "as words"): 2}
    assert counts["size of a field"]["delay", "256 to 4095"] == 1


def test_what_a_start_waits_for_is_the_hazard_that_it_just_avoids() -> None:
    first, second = PROGRAM
    # The second reads in E what the first has written.
    reads = replace(second, segments=(replace(second.segments[0], ones=0, a_base=3),))
    for delay in range(60):
        found = counted([first, replace(reads, delay=delay)]).counts["what a start waits for"]
        if found["operand", "E"]:
            return
    raise AssertionError("no delay is the smallest that is enough")


def test_what_moves_is_counted_with_its_steps() -> None:
    moving = replace(PROGRAM[0], d_moves=1, rows_last=1)
    coverage = Coverage(GROUPS)
    coverage.count([moving], GEOMETRY, Loop(2, e_stride=6))
    assert coverage.counts["what moves"] == {
        ("D", "E", "moves", "2"): 1,
        ("A", "X", "stays", "2"): 2,
        ("B", "W", "stays", "2"): 2,
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segments": (Segment(k=1), Segment(k=5))}, "segment: 1, 0, 0 was said to be impossible"),
        ({"d_m": 0}, "two tiles of D would have one address"),
    ],
)
def test_a_bin_that_no_program_can_have_is_an_error_when_one_has_it(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(CoverageError, match=message):
        counted([replace(PROGRAM[0], **change)])


def test_what_is_printed_has_all_bins_and_all_holes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "SOURCES", {"networks": bench.network_programs})
    monkeypatch.setattr(
        bench, "instruction_coverage", lambda: {"networks": counted(PROGRAM, PROGRAM)}
    )
    assert bench.main(["--json", "--only", "instructions"]) == 0
    found = json.loads(capsys.readouterr().out)["instructions"]
    assert found["sources"] == {"networks": {"programs": 2, "instructions": 4}}
    epilogue = found["groups"]["epilogue"]
    assert len(epilogue["bins"]) == 4 * 4 * 3 * 2
    assert len(epilogue["holes"]) == len(epilogue["bins"]) - 2
    assert sum(each["hits"]["networks"] for each in epilogue["bins"]) == 4
    assert bench.main(["--bins", "--only", "instructions"]) == 0
    text = capsys.readouterr().out
    assert "epilogue (rounding, gate, aux mode, negate): stochastic, relu, none, 0" in text
    assert "impossible: A is read from X or E" in text


# The Verilog.


def each_bit(lines: set[str]) -> set[tuple[str, int]]:
    """Take ``component signal[7:5, 2]`` apart."""
    found = set()
    for line in lines:
        name, ranges = line.removesuffix("]").rsplit("[", 1)
        for part in ranges.split(", "):
            high, _, low = part.partition(":")
            found |= {(name, bit) for bit in range(int(low or high), int(high) + 1)}
    return found


def test_the_checks_use_every_branch_and_all_bits_but_what_is_listed(
    netlist: list[Component],
) -> None:
    explained, holes = sorted_out(netlist)
    new = each_bit({f"{name} {hole}" for name, hole in holes}) - each_bit(listed(BIT_HOLES))
    assert not new, f"bits that {BIT_HOLES.name} does not list: {sorted(new)}"
    branches = [f"{each.name}: {hole}" for each in netlist for hole in each.branch_holes]
    # It takes 2**32 cycles; tests/sim/test_long_runs.py goes there.
    assert branches == ["watchdog.counter: high when if: count & carry"]
    assert sum(each.branches for each in netlist) > 1000
    assert {each.why for each in REASONS} == set(explained), "a reason for nothing"
    names = {each.name: each.instances for each in netlist}
    assert names["array.cell"] == 9
    assert names["epilogue.lane"] == names["memory"] == 3
    text = bench.describe_netlist(netlist)
    assert all(name in text for name in names)


def test_a_host_alone_does_not_use_the_sequencer() -> None:
    reason = VerilatorDevice.available()
    if reason is not None:
        pytest.skip(reason)
    by_name = {each.name: each for each in bench.netlist_coverage(("words",), programs=0)}
    assert by_name["host"].bits_used > by_name["host"].bits / 2
    for name in ("sequencer.fetch", "sequencer.stream"):
        part = by_name[name]
        assert part.bits_used < part.bits / 2
        assert part.branch_holes


VERILOG = """\
module \\siligrad.box (clk, rst, go);
  reg \\$1 ;
  reg [3:0] count = 4'h0;
  assign \\$2  = go & rst;
  always @(posedge clk)
    count <= \\$1 ;
  always @* begin
    if (\\$auto$verilog_backend.cc:2355:dump_module$1 ) begin end
    \\$1  = count;
    if (\\$2 ) begin
      \\$1  = 4'h0;
    end
  end
endmodule
"""


def counts(*points: tuple[str, str, int, str, int]) -> str:
    lines = ["# SystemC::Coverage-3"]
    for kind, instance, line, what, count in points:
        keys = {"f": "a.v", "l": str(line), "page": f"v_{kind}/box", "o": what, "h": instance}
        lines.append(
            "C '" + "".join(f"\1{key}\2{value}" for key, value in keys.items()) + f"' {count}"
        )
    return "\n".join(lines) + "\n"


def test_points_of_instances_are_one_and_a_bit_must_change_both_ways() -> None:
    text = counts(
        ("toggle", "siligrad.siligrad.box_0$17", 3, "count[0]:0->1", 5),
        ("toggle", "siligrad.siligrad.box_0$17", 3, "count[0]:1->0", 0),
        ("toggle", "siligrad.siligrad.box_1", 3, "count[0]:0->1", 0),
        ("toggle", "siligrad.siligrad.box_1", 3, "count[0]:1->0", 2),
        ("toggle", "siligrad.siligrad.box_0$17", 3, "count[1]:0->1", 4),
        ("toggle", "siligrad.siligrad.box_0$17", 3, "count[1]:1->0", 0),
        ("branch", "siligrad.siligrad.box_0$17", 10, "if", 0),
        ("branch", "siligrad.siligrad.box_0$17", 10, "else", 3),
        ("branch", "siligrad.siligrad.box_0$17", 8, "if", 0),
    )
    (box,) = components(parse(text), VERILOG)
    assert (box.name, box.instances) == ("box", 2)
    assert (box.bits, box.bits_used, box.bit_holes) == (2, 1, [BitHole("count", (1,))])
    assert (box.branches, box.branches_used) == (2, 1)
    assert [str(hole) for hole in box.branch_holes] == ["count when if: go & rst"]


def test_what_is_no_count_is_an_error() -> None:
    with pytest.raises(ValueError, match="line 1 is no count of Verilator's: 'nothing'"):
        list(parse("nothing\n"))
