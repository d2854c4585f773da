"""An instruction at its place in a program that is run: what coverage looks at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from siligrad.isa import Geometry, Instruction, Loop, Memory
from siligrad.timing import Hazard, Timeline, a_tiles, aux_tiles, b_tiles, destination_tiles

__all__ = ["Moment", "moments"]


@dataclass(frozen=True)
class Moment:
    """An instruction in the first step of a run.

    Parameters
    ----------
    geometry, loop
        Of the run.
    count
        Instructions of the program.
    index, instruction
        Which one, and the instruction itself.
    before
        The one before it, or None.
    hazard
        What it has to wait for, as :meth:`siligrad.timing.Timeline.earliest` has it.
    slack
        Cycles that it waits longer than it has to in this step.
    """

    geometry: Geometry
    loop: Loop
    count: int
    index: int
    instruction: Instruction
    before: Instruction | None
    hazard: Hazard
    slack: int

    def __str__(self) -> str:
        return f"instruction {self.index} of {self.count} (N = {self.geometry.array})"

    @property
    def in_place(self) -> bool:
        """Whether the auxiliary operand lies where D is written, stored the same way."""
        item = self.instruction
        return (
            item.product.aux == item.destination
            and item.aux_column == item.d_column
            and item.aux_moves == item.d_moves
            and np.array_equal(aux_tiles(item), destination_tiles(item))
        )

    @cached_property
    def operands(self) -> list[tuple[str, Memory, int, NDArray[np.int64]]]:
        """What is read and written: name, memory, whether it moves, addresses of tiles."""
        item, n = self.instruction, self.geometry.array
        result = [("D", item.destination, item.d_moves, destination_tiles(item))]
        if item.uses_aux:
            result.append(("aux", item.product.aux, item.aux_moves, aux_tiles(item)))
        for segment in item.segments:
            result.append(("B", item.product.b, segment.b_moves, b_tiles(item, segment, n)))
            if not segment.ones:
                result.append(("A", item.product.a, segment.a_moves, a_tiles(item, segment, n)))
        return result


def moments(
    instructions: Sequence[Instruction], geometry: Geometry, loop: Loop
) -> Iterator[Moment]:
    """Yield each instruction of a program that keeps the rules, in its first step."""
    timeline = Timeline(geometry)
    before = None
    for index, instruction in enumerate(instructions):
        hazard = timeline.earliest(instruction)
        start = timeline.ready + instruction.delay
        yield Moment(
            geometry,
            loop,
            len(instructions),
            index,
            instruction,
            before,
            hazard,
            start - hazard.cycle,
        )
        timeline.place(instruction, start)
        before = instruction
