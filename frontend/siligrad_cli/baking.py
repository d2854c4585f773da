"""What commands share that put a program into the initial contents of an accelerator."""

from __future__ import annotations

import argparse
from dataclasses import fields

from siligrad.baked import Baked
from siligrad.errors import SiligradError
from siligrad.isa import Geometry
from siligrad.program import Program

__all__ = ["BakeError", "add_lock", "bake", "check_lock"]


class BakeError(SiligradError):
    """A program cannot be baked into what is asked for."""


def add_lock(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--lock`` to a command that has ``--bake``."""
    parser.add_argument(
        "--lock",
        action="store_true",
        help="with --bake: the host can neither read nor write the program and W; "
        "docs/security.md says what that does not protect against",
    )


def check_lock(options: argparse.Namespace) -> None:
    """Check the options of a command.

    Raises
    ------
    BakeError
        If what is locked would be nothing.
    """
    if options.lock and options.bake is None:
        raise BakeError(
            "--lock keeps the host from the program and the weights that --bake puts in; without "
            "--bake IMAGE there are none, and a host could never load any"
        )


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
