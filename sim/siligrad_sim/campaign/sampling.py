"""A fixed number of random cases, one after the other: as many as a test runs, and which ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hypothesis import HealthCheck, Phase, given, seed, settings

from siligrad.isa import Geometry
from siligrad_sim.campaign.case import Case
from siligrad_sim.campaign.drawing import campaign_geometry, cases

__all__ = ["SUITE_GEOMETRIES", "SUITE_PROGRAMS", "for_each_case"]

_SMALL = {"x_depth": 34, "w_depth": 43, "e_depth": 34}
"""Tiles that the memories of the suite's larger accelerators have room for.

To read every word after every run takes by far most of the time there.
"""


def _suite_geometry(array: int) -> Geometry:
    geometry = campaign_geometry(array, 8 if array in (3, 6) else 16)
    if array < 5:
        return geometry
    return replace(geometry, **{name: tiles * array for name, tiles in _SMALL.items()})


SUITE_GEOMETRIES = tuple(_suite_geometry(array) for array in range(2, 9))
"""The accelerators of the test suite's random programs: every size, both widths of operands."""

SUITE_PROGRAMS = 36
"""Random programs of the test suite on each of them."""


def for_each_case(
    check: Callable[[Case], None], geometry: Geometry, count: int, *, first_seed: int = 0
) -> None:
    """Call `check` with `count` cases for `geometry`; if it raises, with ever smaller ones.

    The cases follow from the arguments alone, with the same version of hypothesis. What is raised
    at last is of the smallest case that was found.

    Parameters
    ----------
    check
        Returns, or raises if a device is wrong.
    geometry
        The accelerator.
    count
        Cases, those that have no program included.
    first_seed
        Seeds of cases count from here.
    """

    @seed(first_seed << 8 | geometry.array)
    @settings(
        max_examples=count,
        derandomize=False,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(case=cases([geometry], first_seed=first_seed))
    def run(case: Case) -> None:
        check(case)

    run()
