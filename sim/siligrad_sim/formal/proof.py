"""What a proof is: a claim with its scope, a check of it, and checks that must fail."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

__all__ = ["Outcome", "Proof", "Verdict"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check has found out.

    Parameters
    ----------
    holds
        Whether the claim holds.
    reason
        A line: what was covered if it does, a counterexample if it does not.
    """

    holds: bool
    reason: str


Check = Callable[[int], Verdict]
"""Checks a claim for an array of size N; proofs that do not depend on N ignore it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a proof, for one size of the array.

    Parameters
    ----------
    proof, scope
        The proof's name and what it proves.
    array
        N, or None if the proof does not depend on it.
    proved, reason
        Whether the claim holds, and what was covered or the counterexample.
    controls
        For each negative control what it found, None if it found nothing.
    seconds
        By the clock: the check, and its controls together.
    """

    proof: str
    scope: str
    array: int | None
    proved: bool
    reason: str
    controls: Mapping[str, str | None]
    seconds: tuple[float, float]

    @property
    def passed(self) -> bool:
        """Whether the claim holds and every control was caught."""
        return self.proved and all(found is not None for found in self.controls.values())


@dataclass(frozen=True, slots=True)
class Proof:
    """A claim about the hardware, or about what the compiler counts on.

    Parameters
    ----------
    name
        What it is called on the command line.
    scope
        One line: what is proved, for what, and what is bounded.
    check
        Checks the claim.
    controls
        Negative controls by the fault that each puts in: checks of the same kind that must fail.
    per_array
        Whether it depends on N.
    """

    name: str
    scope: str
    check: Check
    controls: Mapping[str, Check] = field(default_factory=dict)
    per_array: bool = False

    def run(self, array: int = 4) -> Outcome:
        """Check the claim and all controls for an array of size `array`."""
        begin = time.perf_counter()
        verdict = self.check(array)
        middle = time.perf_counter()
        controls: dict[str, str | None] = {}
        for fault, control in self.controls.items():
            found = control(array)
            controls[fault] = None if found.holds else found.reason
        end = time.perf_counter()
        return Outcome(
            self.name,
            self.scope,
            array if self.per_array else None,
            verdict.holds,
            verdict.reason,
            controls,
            (middle - begin, end - middle),
        )
