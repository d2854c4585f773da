"""What commands share that put a program into the initial contents of an accelerator."""

from __future__ import annotations

from dataclasses import fields

from siligrad.baked import Baked
from siligrad.errors import SiligradError
from siligrad.isa import Geometry
from siligrad.program import Program

__all__ = ["BakeError", "bake"]


class BakeError(SiligradError):
    """A program cannot be baked into what is asked for."""


def bake(program: Program, geometry: Geometry) -> Baked:
    """Return what an accelerator of `geometry` begins with that `program` is baked into.

    Raises
    ------
    BakeError
        If the program was compiled for another geometry.
    """
    names = [field.name for field in fields(Geometry)]
    different = [
        f"{name} of {getattr(program.geometry, name)}, not {getattr(geometry, name)}"
        for name in names
        if getattr(program.geometry, name) != getattr(geometry, name)
    ]
    if different:
        raise BakeError(
            f"program {program.name!r} cannot be baked into what is asked for: it was compiled for "
            f"{', '.join(different)}; leave the option out, or compile it for that"
        )
    return program.baked()
