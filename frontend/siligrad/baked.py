"""What an accelerator begins with that is configured with a program in its memories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from siligrad.isa import Geometry, Loop, Memory

__all__ = ["Baked"]


@dataclass(frozen=True, slots=True)
class Baked:
    """Initial contents of memories and registers, so that nothing must be loaded.

    :meth:`siligrad.program.Program.baked` makes it.

    Parameters
    ----------
    image
        CRC-32 of the program's image, by which a host knows it again; not zero.
    geometry
        The accelerator that it is for.
    lines
        Of the program memory, from line 0 on.
    banks
        Words of X, W and E, one sequence for each bank, as long as the bank is deep.
    states
        Shift register of each lane.
    loop
        How often a run executes the program, and how far operands move.
    limit
        Cycles that a run may take.
    """

    image: int
    geometry: Geometry
    lines: tuple[int, ...]
    banks: Mapping[Memory, tuple[tuple[int, ...], ...]]
    states: tuple[int, ...]
    loop: Loop
    limit: int
