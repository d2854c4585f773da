"""Whether the suite notices a mutant of the hardware.

The checks are those of the suite: first a device that has the mutant is put through the checks of
:mod:`siligrad_sim.benches.device`, as in ``tests/sim/test_device_bench.py``, then it runs random
programs beside the reference, as many as ``tests/sim/test_campaign.py`` runs on each accelerator.
What lets all of that pass is perhaps equivalent: see :mod:`benchmarks.mutants.equivalence`. What
is not is put through one bench more, of runs of hours and a reset: ``tests/sim/test_long_runs.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from benchmarks.mutants.equivalence import proof_of
from benchmarks.mutants.netlist import CHOICE, Design, Mutant
from benchmarks.mutants.outcome import MutantsError, Outcome
from siligrad.compiler import CapacityError
from siligrad.device import DeviceError, DeviceUnavailable
from siligrad.host import HostDevice
from siligrad.isa import Geometry, encode_program
from siligrad_sim.bench_runner import BenchFailed, run_bench
from siligrad_sim.benches.device import CHECKS
from siligrad_sim.benches.programs import training_step
from siligrad_sim.campaign.differential import compare
from siligrad_sim.campaign.drawing import campaign_geometry, cases
from siligrad_sim.campaign.sampling import SUITE_PROGRAMS
from siligrad_sim.campaign.trial import Trial, trial_of
from siligrad_sim.verilator import VerilatorDevice

__all__ = ["GEOMETRY", "Suspects"]

GEOMETRY = campaign_geometry(3, 8)
"""The accelerator that has the mutants. Its N is no power of two, and it rounds operands."""

_SEED = 0

_LONG_RUNS = "siligrad_sim.benches.long_runs"

_SET_BY_HAND = {"cycle counter", "saturations"}
"""Components with registers that the bench of long runs sets, which a mutant of such a register
does not follow."""


@dataclass(frozen=True)
class Suspects:
    """An accelerator with all mutants, and what decides about each.

    Parameters
    ----------
    geometry
        Of the accelerator.
    mutants
        All of them.
    seconds
        How long a proof that one is equivalent may take; none is tried in 0.
    """

    geometry: Geometry
    mutants: tuple[Mutant, ...]
    seconds: float

    def judge(self) -> Callable[[int], Outcome]:
        """Return :meth:`outcome`: what a worker asks for."""
        return self.outcome

    def outcome(self, number: int) -> Outcome:
        """Return what becomes of mutant `number`; the first is 1."""
        killed = self.killed(number)
        if killed is not None:
            return killed
        mutant = self.mutants[number - 1]
        proof = proof_of(self.design, mutant, seconds=self.seconds)
        if proof is not None:
            return Outcome("equivalent", proof)
        return self.killed_in_bench(mutant) or Outcome("survived")

    def killed(self, number: int) -> Outcome | None:
        """Return which check fails with mutant `number`, or None; 0 is the original."""
        with VerilatorDevice(self.geometry, verilog=self.verilog) as device:
            device.write_word(CHOICE, number)
            for name, check in {"identification": HostDevice.identify, **CHECKS}.items():
                try:
                    check(device)
                except DeviceUnavailable:
                    raise
                except (AssertionError, DeviceError) as error:
                    return Outcome("killed", name, _in_a_line(error))
            for index, trial in enumerate(self.trials):
                mismatch = compare(trial, device).mismatch
                if mismatch is not None:
                    return Outcome("killed", "campaign", f"program {index}: {mismatch}")
        return None

    def killed_in_bench(self, mutant: Mutant | None) -> Outcome | None:
        """Return how the bench of long runs fails with `mutant`, or None; without is the original.

        A bench that sets a register by hand says nothing of a mutant that is where it is set: then
        there is only the reset.
        """
        tests = None
        if mutant is not None and mutant.component in _SET_BY_HAND and mutant.port == "Q":
            tests = ["is_as_new_after_a_reset"]
        n = self.geometry.array
        bits = self.geometry.operand_bits
        step = training_step(n, batch=2, inputs=n, hidden=n, outputs=2, operand_bits=bits)
        parameters = {
            "geometry": asdict(self.geometry),
            "lines": [f"{line:x}" for line in encode_program(step.instructions)],
            "loop": asdict(step.loop),
        }
        verilog = self.design.with_one(mutant, top="top")
        try:
            run_bench(verilog, _LONG_RUNS, simulator="icarus", parameters=parameters, tests=tests)
        except BenchFailed as error:
            if "tests failed" in str(error):
                return Outcome("killed", "long runs", _in_a_line(error))
            raise
        return None

    def check_original(self) -> None:
        """Check that the netlist passes everything while no mutant is chosen.

        Raises
        ------
        MutantsError
            If it does not: then nothing that fails would mean anything.
        """
        killed = self.killed(0) or self.killed_in_bench(None)
        if killed is not None:
            raise MutantsError(
                f"the netlist without a mutant fails the check {killed.by!r}: {killed.why}"
            )

    @cached_property
    def design(self) -> Design:
        """The netlist."""
        return Design(self.geometry)

    @cached_property
    def verilog(self) -> str:
        """The netlist with all mutants."""
        return self.design.with_all(self.mutants)

    @cached_property
    def trials(self) -> Sequence[Trial]:
        """The random programs."""
        trials: list[Trial] = []

        @seed(_SEED)
        @settings(
            max_examples=SUITE_PROGRAMS,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=cases([self.geometry]))
        def draw(case: Any) -> None:
            try:
                trials.append(trial_of(case))
            except CapacityError:  # a network that is too large is no program
                return

        draw()
        return trials


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
