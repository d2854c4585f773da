"""What ``siligrad verify`` compares, and what it found."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from siligrad.program import Program
from siligrad_sim.campaign.campaign import Summary
from siligrad_sim.campaign.case import Contents
from siligrad_sim.campaign.differential import Machines
from siligrad_sim.campaign.failure import save_failure
from siligrad_sim.campaign.trial import Variation, varied

__all__ = ["Check", "Failure", "Findings", "Row", "network_checks", "run_checks"]

CUT_SHARE = 0.4
"""Where in a run it is cut off before the check of what that leaves behind."""


@dataclass(frozen=True)
class Check:
    """A network's program with some data.

    Parameters
    ----------
    name
        What it is called in reports.
    variation
        The data.
    """

    name: str
    variation: Variation


@dataclass(frozen=True)
class Row:
    """What a check, or random programs, showed on a device."""

    check: str
    device: str
    runs: int
    words: int
    cycles: int
    saturations: int
    seconds: float
    passed: bool


@dataclass(frozen=True)
class Failure:
    """A difference: in words, and the folder that shows it again."""

    check: str
    message: str
    folder: str


@dataclass
class Findings:
    """Everything that was compared.

    Parameters
    ----------
    network
        File and function, or None where only random programs were run.
    program
        In a few words.
    seed
        Of everything random.
    devices, skipped
        What ran beside the reference, and why others did not.
    rows, failures
        What was compared, and what differs.
    programs, discarded, by_kind
        Of the random programs: how many, how many cases had no program, and their kinds.
    """

    network: str | None
    program: str
    seed: int
    devices: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    rows: list[Row] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    programs: int = 0
    discarded: dict[str, int] = field(default_factory=dict)
    by_kind: dict[str, int] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether devices and reference agree in everything."""
        return not self.failures

    @property
    def words(self) -> int:
        """Words compared, on all devices."""
        return sum(row.words for row in self.rows)

    @property
    def cycles(self) -> int:
        """Cycles compared, on all devices."""
        return sum(row.cycles for row in self.rows)

    @property
    def saturations(self) -> int:
        """Elements that saturated, on all devices."""
        return sum(row.saturations for row in self.rows)

    def add_random(self, summary: Summary, devices: Sequence[str]) -> None:
        """Add what a campaign found."""
        self.programs += summary.programs
        self.discarded = dict(summary.discarded)
        self.by_kind = dict(summary.by_kind)
        self.rows.append(
            Row(
                "random programs",
                ", ".join(devices),
                summary.programs,
                summary.words,
                summary.cycles,
                summary.saturations,
                summary.seconds,
                not summary.failures,
            )
        )
        for folder, message in summary.failures:
            self.failures.append(Failure("random programs", message, str(folder)))

    def as_json(self) -> dict[str, Any]:
        """Return everything as what :mod:`json` writes."""
        return {
            "passed": self.passed,
            "words_compared": self.words,
            "cycles_compared": self.cycles,
            **asdict(self),
        }


def network_checks(program: Program, steps: int, variations: int, seed: int) -> list[Check]:
    """Return what a network's program is run with.

    Parameters
    ----------
    program
        The network's.
    steps
        Runs with the user's examples.
    variations
        Runs with parameters and inputs drawn at random.
    seed
        Of what is drawn.
    """
    cut = max(round(program.cycles * CUT_SHARE), 1)
    checks = [
        Check("your data", Variation(leftover="random", runs=steps, seed=seed)),
        Check("coarse numbers", Variation(inputs="coarse", parameters="coarse", runs=2, seed=seed)),
        Check("largest inputs", Variation(inputs="largest", runs=2, seed=seed)),
        Check(
            "everything saturates",
            Variation(inputs="largest", parameters="largest", leftover="largest", seed=seed),
        ),
        Check(
            "zeros",
            Variation(inputs="zeros", parameters="zeros", leftover="random", seed=seed),
        ),
        Check("after a run that was cut off", Variation(leftover="random", cut=cut, seed=seed)),
    ]
    rng = np.random.default_rng(seed)
    kinds: tuple[Contents, ...] = ("example", "random", "coarse", "largest")
    for number in range(variations):
        drawn = Variation(
            inputs=kinds[int(rng.integers(4))],
            parameters=kinds[int(rng.integers(1, 4))],
            leftover="random",
            seed=int(rng.integers(1 << 32)),
        )
        checks.append(Check(f"variation {number}", drawn))
    return checks


def run_checks(
    program: Program,
    examples: Sequence[tuple[Any, ...]],
    checks: Sequence[Check],
    findings: Findings,
    folder: Path,
    *,
    origin: Mapping[str, Any],
    stopped: Callable[[], bool] = lambda: False,
    advance: Callable[[int, str], None] = lambda steps, text: None,
) -> None:
    """Run `checks` on every device of `findings`, and add to these what is found.

    A device that differs is not run any more; the program that shows it is kept in a folder in
    `folder`.

    Parameters
    ----------
    program
        The network's.
    examples
        What a run may be given; at least one set.
    checks
        In order.
    findings
        To be added to.
    folder
        For failures.
    origin
        Says in a failure's folder what the network is.
    stopped, advance
        As :mod:`siligrad.long_work` gives them; a step is a run.
    """
    with Machines() as machines:
        for device in findings.devices:
            for check in checks:
                if stopped():
                    return
                trial = varied(program, examples, check.variation)
                began = time.monotonic()
                result = machines.compare(trial, device)
                advance(len(trial.runs), f"{device}: {check.name}")
                mismatch = result.mismatch
                findings.rows.append(
                    Row(
                        check.name,
                        device,
                        result.runs,
                        result.words,
                        result.cycles,
                        result.saturations,
                        round(time.monotonic() - began, 3),
                        mismatch is None,
                    )
                )
                if mismatch is None:
                    continue
                what = {
                    "what": f"{check.name} of a network",
                    "variation": asdict(check.variation),
                    **origin,
                }
                shown = replace(trial, runs=trial.runs[: mismatch.run + 1])
                place = folder / f"failure-{device}-{check.name.replace(' ', '-')}"
                save_failure(place, shown, mismatch, what)
                findings.failures.append(Failure(check.name, str(mismatch), str(place)))
                break
