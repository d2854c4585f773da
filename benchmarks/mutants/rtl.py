"""Draw mutants of the hardware, have all of them judged, and tell what became of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from benchmarks.mutants.hardware import GEOMETRY, Suspects
from benchmarks.mutants.netlist import Design, sample
from benchmarks.mutants.outcome import Outcome, Record, Verdict
from benchmarks.mutants.workers import judged
from siligrad_sim.campaign.sampling import SUITE_PROGRAMS
from siligrad_sim.formal.tools import tools_missing
from siligrad_sim.toolchain import ToolMissing
from siligrad_sim.verilator import VerilatorDevice

__all__ = ["missing", "run"]

CANDIDATES = 12
"""Mutants to choose from for each that is chosen."""

PATIENCE = 600.0
"""Seconds after which a mutant is given up; the checks take some three, a proof is bounded."""


def missing() -> str | None:
    """Return None if mutants of the hardware can be run here, else what is missing."""
    return VerilatorDevice.available() or tools_missing()


def run(
    count: int,
    seed: int,
    *,
    jobs: int,
    folder: Path,
    proof_seconds: float,
    advance: Callable[[int, str], object] = lambda steps, text: None,
    stop: Callable[[], bool] = lambda: False,
) -> list[Verdict]:
    """Judge `count` mutants, but for those that `folder` has a result of, and return all verdicts.

    Parameters
    ----------
    count, seed
        How many are drawn, and what they follow from.
    jobs
        Judges that work at once.
    folder
        Where results are kept.
    proof_seconds
        How long a proof that a mutant is equivalent may take.
    advance, stop
        As :mod:`siligrad.long_work` gives them.

    Raises
    ------
    ToolMissing
        If a simulator or a prover is not installed.
    MutantsError
        If the hardware without a mutant does not pass.
    """
    if (reason := missing()) is not None:
        raise ToolMissing(reason)
    advance(0, "netlist")
    design = Design(GEOMETRY)
    mutants = sample(design.candidates(CANDIDATES * count, seed), count, seed)
    key = hashlib.sha256(f"{design.rtlil}{SUITE_PROGRAMS}{proof_seconds}".encode()).hexdigest()
    record = Record(folder / "rtl.json", key)
    numbers = dict(enumerate(mutants, 1))
    kept = {number: record.get(str(mutant)) for number, mutant in numbers.items()}
    outcomes = {number: outcome for number, outcome in kept.items() if outcome is not None}
    left = [number for number in numbers if number not in outcomes]
    if left:
        suspects = Suspects(GEOMETRY, tuple(mutants), proof_seconds)
        advance(len(outcomes), "original")
        suspects.check_original()
        for number, outcome in judged(
            left, suspects.judge, jobs=jobs, seconds=PATIENCE, given_up=_given_up, stop=stop
        ):
            outcomes[number] = outcome
            record.add(str(numbers[number]), outcome)
            advance(1, f"{outcome.status} {numbers[number].component}")
    return [
        Verdict(mutant.component, str(mutant), outcomes[number])
        for number, mutant in numbers.items()
        if number in outcomes
    ]


def _given_up(reason: str) -> Outcome:
    # Neither a check failed nor a proof was found: it counts as one that nobody noticed.
    return Outcome("survived", "given up", reason)
