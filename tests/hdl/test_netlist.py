"""What synthesis makes of the accelerator, cell by cell, trains like the reference."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from amaranth.back import rtlil

import siligrad as sg
from siligrad_hdl.accelerator import Accelerator
from siligrad_sim.icarus import IcarusDevice
from siligrad_sim.lockstep import Lockstep
from siligrad_sim.reference import ReferenceDevice
from tests.hdl.netlists import (
    FAMILIES,
    Family,
    baked_netlist,
    batch,
    check_training,
    difference_of,
    flipped,
    run_yosys,
    small_program,
)

pytestmark = pytest.mark.synthesis


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def program(family: Family) -> sg.Program:
    return small_program(family.bits)


@pytest.fixture(scope="module")
def netlist(program: sg.Program, family: Family, tmp_path_factory: pytest.TempPathFactory) -> str:
    return baked_netlist(program, family.board, family.script, tmp_path_factory.mktemp("netlist"))


def test_the_netlist_trains_like_the_reference_from_its_initial_contents(
    program: sg.Program, family: Family, netlist: str
) -> None:
    assert [cell for cell in family.blocks if f"\n  {cell} " not in netlist] == []
    check_training(program, netlist + family.cells())


def test_a_wrong_initial_bit_is_noticed(program: sg.Program, family: Family, netlist: str) -> None:
    block = "program.word_2" if family is FAMILIES["ecp5"] else "memory_w.bank_0"
    assert difference_of(program, flipped(netlist, family, block) + family.cells()) is not None


def test_no_word_that_is_read_while_it_is_written_is_used(tmp_path: Path) -> None:
    program = small_program()
    # So synthesis is told, and memories return unknowns here when that happens.
    il = rtlil.convert(Accelerator(program.geometry), name="siligrad")
    verilog = run_yosys(tmp_path, il, "proc")
    # Banks, words of a line, counters, queues of tiles, running addresses: each looks for it.
    assert len(re.findall(r"&& \S+ == \S+\) begin", verilog)) == 2 * 3 + 4 + 1 + 3 + 1
    with IcarusDevice(program.geometry, verilog=verilog) as device:
        pair = Lockstep(ReferenceDevice(program.geometry), device)
        pair.load(program, seed=3)
        for seed in range(3):
            result = pair.run(*batch(seed))
            assert result.first is None, str(result.first)
