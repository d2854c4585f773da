"""``siligrad build``: a bitstream for a board, with programs that pip installs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siligrad.errors import SiligradError
from siligrad.isa import Geometry
from siligrad.program import Program
from siligrad_cli.baking import add_lock, bake, check_lock
from siligrad_cli.hardware import needing_hardware
from siligrad_cli.options import natural, positive
from siligrad_host.traffic import run_traffic

if TYPE_CHECKING:
    from siligrad_hdl.boards import Board
    from siligrad_hdl.flow import Built

__all__ = ["OptionsError", "add_board", "add_parser", "asked_geometry", "built_table", "mhz"]


class OptionsError(SiligradError):
    """What is asked for does not go together."""


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``siligrad``."""
    parser = commands.add_parser(
        "build",
        help="build the bitstream of an accelerator for a board",
        description="Synthesise, place, route and pack the accelerator for a board. What was done "
        "before in the same folder is not done again. Prints a table and writes report.json; exits "
        "with 1 if the clock is missed.",
    )
    add_board(parser)
    parser.add_argument(
        "--seed", type=natural, default=1, metavar="S", help="of place and route (default 1)"
    )
    images = parser.add_mutually_exclusive_group()
    images.add_argument(
        "--program",
        type=Path,
        metavar="IMAGE",
        help="what siligrad compile wrote: build its target, and say how fast it runs",
    )
    images.add_argument(
        "--bake",
        type=Path,
        metavar="IMAGE",
        help="the same, and configure the memories with its program and weights: nothing must be "
        "loaded",
    )
    add_lock(parser)
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="folder (default build/NAME)"
    )
    parser.set_defaults(run=_command)


def add_board(parser: argparse.ArgumentParser) -> None:
    """Add what chooses a board, and of its accelerator what is not as usual."""
    parser.add_argument("--board", required=True, metavar="NAME", help="see siligrad boards")
    parser.add_argument("--array", type=positive, metavar="N", help="size of the array, N x N")
    parser.add_argument("--operand-bits", type=positive, metavar="B", help="width of an operand")
    parser.add_argument("--clock", type=mhz, metavar="MHZ", help="clock of the accelerator")


def mhz(text: str) -> float:
    """Return a number of MHz, from 1 to 1000."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number of MHz, not {text!r}") from None
    if not 1 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"must be from 1 to 1000 MHz, not {value:g}")
    return value


def _command(options: argparse.Namespace) -> int:
    check_lock(options)
    with needing_hardware():
        from siligrad_hdl.boards import find_board  # noqa: PLC0415  optional
        from siligrad_hdl.flow import build  # noqa: PLC0415  optional
    board = find_board(options.board)
    image = options.program or options.bake
    program = None if image is None else Program.load(image)
    geometry = asked_geometry(board, program, options)
    built = build(
        board,
        geometry,
        board.clock(options.clock),
        options.output or Path("build") / board.name,
        seed=options.seed,
        baked=bake(program, geometry) if program is not None and options.bake else None,
        locked=options.lock,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(built_table(built, program, baked=options.bake is not None, locked=options.lock))
    return 0


def asked_geometry(board: Board, program: Program | None, options: argparse.Namespace) -> Geometry:
    """Return what to build: the program's, else the board's with the options' sizes.

    Raises
    ------
    OptionsError
        If the options ask for another size than the program's.
    """
    if program is None:
        return board.sized(options.array, options.operand_bits)
    geometry = program.geometry
    if options.array not in (None, geometry.array) or options.operand_bits not in (
        None,
        geometry.operand_bits,
    ):
        raise OptionsError(
            f"program {program.name!r} was compiled for an array of {geometry.array} and "
            f"operands of {geometry.operand_bits} bits and runs on nothing else: leave out "
            "--array and --operand-bits"
        )
    return geometry


def built_table(
    built: Built, program: Program | None, *, baked: bool = False, locked: bool = False
) -> str:
    """Return what was built, in lines."""
    routed, geometry = built.routed, built.geometry
    rows = [
        ("board", f"{built.board.title}, {built.board.device}"),
        ("array", f"{geometry.array} x {geometry.array}, operands of {geometry.operand_bits} bits"),
    ]
    for name in ("lut", "ff", "dsp", "bram"):
        use = getattr(routed, name)
        share = f" ({use.used / use.available:.0%})" if use.available else ""
        rows.append((name.upper(), f"{use.used} of {use.available}{share}"))
    rows += [
        ("clock", f"{built.clock.mhz:g} MHz asked, {routed.mhz:.2f} MHz reached"),
        ("peak", f"{built.gmacs:.3f} GMAC/s at {built.clock.mhz:g} MHz"),
    ]
    if program is not None:
        seconds = program.cycles / (built.clock.mhz * 1e6)
        rows.append((
            "program",
            f"{program.name}: {built.gmacs * program.utilisation:.3f} GMAC/s, "  # noqa: ISC004
            f"{program.loop.steps / seconds:.0f} steps/s in compute",
        ))
        traffic = run_traffic(program)
        rate = program.loop.steps / (seconds + traffic.seconds(built.baud))
        rows.append((
            "",
            f"{rate:.3g} steps/s with new data over the link, "  # noqa: ISC004
            f"{traffic.sent + traffic.received} bytes a run",
        ))
    if baked:
        rows.append(("baked", "program, words and shift registers; nothing must be loaded"))
    if locked:
        rows.append(("locked", "the host can neither read nor write program and W"))
    rows += [
        ("link", f"{built.baud} baud on {built.board.serial}"),
        ("seconds", ", ".join(f"{title} {t:.1f}" for title, t in built.seconds.items())),
        ("bitstream", str(built.bitstream)),
    ]
    return "\n".join(f"{name:<10}{value}" for name, value in rows)
