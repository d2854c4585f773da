"""The programs that the test suite runs on the hardware, drawn again as it draws them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from siligrad.isa import ONE_STEP, Geometry, Instruction, Loop
from siligrad_sim.benches.device_runs import (
    device_geometry,
    drawn_programs,
    large_programs,
    step,
)
from siligrad_sim.campaign.case import Case
from siligrad_sim.campaign.drawing import campaign_geometry
from siligrad_sim.campaign.sampling import SUITE_GEOMETRIES, SUITE_PROGRAMS, for_each_case
from siligrad_sim.campaign.trial import REFUSALS, trial_of

__all__ = ["BENCH_GEOMETRIES", "Executed", "bench_programs", "campaign_programs"]

BENCH_GEOMETRIES = (campaign_geometry(3, 8), device_geometry(2), device_geometry(12))
"""The accelerators of the device bench: operands that are rounded, or not, and far banks."""


@dataclass(frozen=True, slots=True)
class Executed:
    """A program that is run.

    Parameters
    ----------
    geometry
        Of the accelerator.
    instructions, loop
        What it runs, and how often.
    """

    geometry: Geometry
    instructions: Sequence[Instruction]
    loop: Loop = ONE_STEP


def campaign_programs(
    geometries: Sequence[Geometry] = SUITE_GEOMETRIES, count: int = SUITE_PROGRAMS
) -> Iterator[Executed]:
    """Yield the random programs, `count` on each accelerator, that ``test_campaign`` runs."""
    for geometry in geometries:
        drawn: list[Case] = []
        for_each_case(drawn.append, geometry, count)
        for case in drawn:
            try:
                program = trial_of(case).program
            except REFUSALS:
                continue
            yield Executed(geometry, program.instructions, program.loop)


def bench_programs(geometries: Sequence[Geometry] = BENCH_GEOMETRIES) -> Iterator[Executed]:
    """Yield the programs of the device bench, written by hand and random, for each accelerator."""
    for geometry in geometries:
        for instructions, loop, _ in drawn_programs(geometry):
            yield Executed(geometry, instructions, loop)
        for large, often in large_programs(geometry):
            yield Executed(geometry, large, often)
        yield Executed(geometry, step(geometry).instructions)
