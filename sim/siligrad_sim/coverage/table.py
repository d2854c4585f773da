"""Tables of bins, and how often each was met.

A :class:`Group` is a table of bins: the product of a few axes, each with some labels. A program is
counted instruction by instruction (:meth:`Coverage.count`); a bin that is never met is a hole. Some
bins no program can have, since a rule of ``docs/spec/isa.md`` forbids it: these have a reason, and
to meet one of them is an error, of the reason or of what checked the program.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from siligrad.errors import SiligradError
from siligrad.isa import ONE_STEP, Geometry, Instruction, Loop
from siligrad_sim.coverage.moment import Moment, moments

__all__ = ["Axis", "Bin", "Coverage", "CoverageError", "Group"]

Bin = tuple[str, ...]
"""A label of each axis of a group."""


class CoverageError(SiligradError):
    """A program has what no program can have."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A property, and the labels of its values."""

    name: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """A table of bins.

    Parameters
    ----------
    name
        What is looked at, in a few words.
    axes
        A bin has a label of each.
    bins
        Gives the bins that an instruction belongs to, at its place in a program.
    impossible
        Why no program has a bin, or None.
    """

    name: str
    axes: tuple[Axis, ...]
    bins: Callable[[Moment], Iterator[Bin]] = field(repr=False)
    impossible: Callable[[Bin], str | None] = field(repr=False, default=lambda labels: None)

    def all(self) -> Iterator[Bin]:
        """Yield every bin, the possible and the impossible ones."""
        yield from itertools.product(*(axis.labels for axis in self.axes))


class Coverage:
    """How often each bin of each of some groups was met.

    Parameters
    ----------
    groups
        By name.

    Attributes
    ----------
    counts
        For each group how often each of its bins was met.
    programs, instructions
        Counted.
    """

    def __init__(self, groups: Mapping[str, Group]) -> None:
        self.groups = groups
        self.counts: dict[str, Counter[Bin]] = {name: Counter() for name in groups}
        self.programs = 0
        self.instructions = 0

    def count(
        self, instructions: Sequence[Instruction], geometry: Geometry, loop: Loop = ONE_STEP
    ) -> None:
        """Count a program that is run.

        Raises
        ------
        CoverageError
            If it has a bin that is not of its group, or that no program can have.
        """
        self.programs += 1
        for moment in moments(instructions, geometry, loop):
            self.instructions += 1
            for name, group in self.groups.items():
                for found in group.bins(moment):
                    self._check(group, found, moment)
                    self.counts[name][found] += 1

    @staticmethod
    def _check(group: Group, found: Bin, moment: Moment) -> None:
        known = len(found) == len(group.axes) and all(
            label in axis.labels for label, axis in zip(found, group.axes, strict=True)
        )
        if not known:
            raise CoverageError(f"{group.name}: {', '.join(found)} is no bin of {moment}")
        reason = group.impossible(found)
        if reason is not None:
            raise CoverageError(
                f"{group.name}: {', '.join(found)} was said to be impossible ({reason}), but "
                f"{moment} has it"
            )

    def holes(self) -> dict[str, list[Bin]]:
        """Return the bins of each group that are possible and were not met."""
        return {
            name: [
                each
                for each in group.all()
                if not self.counts[name][each] and group.impossible(each) is None
            ]
            for name, group in self.groups.items()
        }

    def merge(self, other: Coverage) -> None:
        """Add what `other` has counted."""
        self.programs += other.programs
        self.instructions += other.instructions
        for name, counts in other.counts.items():
            self.counts[name].update(counts)
