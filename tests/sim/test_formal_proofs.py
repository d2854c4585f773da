"""The proofs in their quick form, their faults, and that the documents say what they prove."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from siligrad_sim.formal.accumulator import ACCUMULATOR
from siligrad_sim.formal.buses import AXI_LITE, WISHBONE
from siligrad_sim.formal.catalogue import PROOFS
from siligrad_sim.formal.faults import edited
from siligrad_sim.formal.ports import PORTS
from siligrad_sim.formal.proof import Proof, Verdict
from siligrad_sim.formal.sequencer import RUN_CYCLES, Shape, check_run
from siligrad_sim.formal.stream import SEGMENT_CYCLES
from siligrad_sim.formal.tools import ProverError, run_sby, run_yosys

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("proof", [PORTS, SEGMENT_CYCLES, ACCUMULATOR], ids=lambda item: item.name)
def test_a_proof_holds_and_its_faults_are_noticed(proof: Proof) -> None:
    outcome = proof.run(4)
    assert outcome.proved, outcome.reason
    assert outcome.controls
    for fault, found in outcome.controls.items():
        assert found is not None, fault


# The masters' and the host port's patience is in the scope; induction over all of it takes longest.
@pytest.mark.parametrize("proof", [AXI_LITE, WISHBONE], ids=lambda item: item.name)
def test_a_bus_keeps_its_protocol_and_faulty_ones_do_not(proof: Proof) -> None:
    outcome = proof.run()
    assert outcome.proved, outcome.reason
    for fault, found in outcome.controls.items():
        assert found is not None, fault
        assert re.search(r"Assert failed in bench: buses\.py:\d+", found), found


def test_every_cycle_of_small_runs_is_as_specified() -> None:
    verdict = check_run(2, Shape(((1, 2, 1),)))
    assert verdict.holds, verdict.reason


@pytest.mark.parametrize("fault", RUN_CYCLES.controls)
def test_a_sequencer_with_another_schedule_is_caught(fault: str) -> None:
    verdict = RUN_CYCLES.controls[fault](2)
    assert not verdict.holds
    assert "cycles of 0.0" in verdict.reason


def test_the_document_says_what_is_proved_in_exactly_these_lines() -> None:
    text = (ROOT / "docs" / "verification.md").read_text(encoding="utf-8")
    section = text.partition("## Proofs")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([\w-]+)` \| (.+) \| (.+) \|$", section, re.MULTILINE)
    assert rows == [
        (proof.name, proof.scope, "; ".join(proof.controls) or "none") for proof in PROOFS
    ]
    assert all("\n" not in proof.scope for proof in PROOFS)


def test_a_proof_passes_only_if_every_fault_is_noticed() -> None:
    def holds(array: int) -> Verdict:
        return Verdict(True, f"N = {array}")

    def fails(array: int) -> Verdict:
        return Verdict(False, f"found at {array}")

    assert Proof("a", "b", holds, {"c": fails}).run(3).passed
    assert not Proof("a", "b", holds, {"c": fails, "d": holds}).run(3).passed
    assert not Proof("a", "b", fails, {"c": fails}).run(3).passed
    outcome = Proof("a", "b", holds, {"c": fails}, per_array=True).run(3)
    assert (outcome.array, outcome.reason, outcome.controls) == (3, "N = 3", {"c": "found at 3"})


def test_every_proof_has_a_fault_to_notice() -> None:
    assert len({proof.name for proof in PROOFS}) == len(PROOFS)
    assert all(proof.controls for proof in PROOFS)


def test_a_fault_that_fits_nowhere_is_an_error() -> None:
    assert edited("a b a", "a", "c") == "c b c"
    with pytest.raises(ProverError, match="a fault was to be put in at 'x', which is nowhere"):
        edited("a b a", "x", "c")


def test_a_tool_that_fails_says_why_in_a_line() -> None:
    with pytest.raises(ProverError, match=r"^Yosys failed: ERROR: .*$"):
        run_yosys("read_rtlil missing.il", {}, "out")
    with pytest.raises(ProverError, match=r"^sby gave no answer: .*ERROR.*$"):
        run_sby("prove", 3, "this is no netlist", top="bench")
