"""``siligrad estimate``: what an accelerator will take of a board, without synthesis."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siligrad.program import Program
from siligrad_cli.build import add_board, asked_geometry
from siligrad_cli.hardware import needing_hardware

if TYPE_CHECKING:
    from siligrad_hdl.boards import Board

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``siligrad``."""
    parser = commands.add_parser(
        "estimate",
        help="estimate what siligrad build will report, in a moment",
        description="Estimate what an accelerator will take of a board, its clock, and how fast it "
        "runs a program, from builds that were measured. Nothing is synthesised. Exits with 1 if "
        "the board is too small by what can be counted: multipliers and block RAMs.",
    )
    add_board(parser)
    parser.add_argument(
        "--program",
        type=Path,
        metavar="IMAGE",
        help="what siligrad compile wrote: estimate for its target, and say how fast it runs",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=_command)


def _command(options: argparse.Namespace) -> int:
    with needing_hardware():
        from siligrad_hdl.boards import find_board  # noqa: PLC0415  optional
    board = find_board(options.board)
    program = None if options.program is None else Program.load(options.program)
    record = _record(board, program, options)
    if options.json:
        print(json.dumps(record, indent=1))
    else:
        print("\n".join(f"{name:<10}{value}" for name, value in _rows(board, record)))
    board.check(asked_geometry(board, program, options))
    return 0


def _record(board: Board, program: Program | None, options: argparse.Namespace) -> dict[str, Any]:
    """Return the estimate, by the names of ``report.json`` and a few more."""
    from siligrad_hdl.boards import BoardError  # noqa: PLC0415  optional
    from siligrad_hdl.estimate import estimate  # noqa: PLC0415  optional

    geometry = asked_geometry(board, program, options)
    clock = board.clock(options.clock).mhz
    try:
        found = estimate(board, geometry)
    except ValueError as error:  # deeper than a block
        raise BoardError(f"{board.title} is too small: {error}") from None
    gmacs = geometry.array**2 * clock / 1000
    record = {
        "board": board.name,
        "device": board.device,
        "array": geometry.array,
        "operand_bits": geometry.operand_bits,
        "lut": found.lut,
        "ff": found.ff,
        "dsp": found.dsp,
        "bram": found.bram,
        "clock_target_mhz": clock,
        "clock_mhz": None if found.clock_mhz is None else round(found.clock_mhz, 2),
        "gmacs": round(gmacs, 4),
    }
    if program is not None:
        record |= {
            "program": program.name,
            "cycles": program.cycles,
            "steps_per_second": round(program.loop.steps * clock * 1e6 / program.cycles, 2),
            "program_gmacs": round(gmacs * program.utilisation, 4),
        }
    return record


def _rows(board: Board, record: dict[str, Any]) -> list[tuple[str, str]]:
    """Return names and values of a table."""
    n, asked, reached = record["array"], record["clock_target_mhz"], record["clock_mhz"]
    rows = [
        ("board", f"{board.title}, {board.device}"),
        ("array", f"{n} x {n}, operands of {record['operand_bits']} bits"),
    ]
    has = {"lut": board.luts, "dsp": board.multipliers, "bram": board.blocks}
    for name in ("lut", "ff", "dsp", "bram"):
        most = has.get(name)
        of = f" of {most} ({record[name] / most:.0%})" if most else ""
        rows.append((name.upper(), f"{record[name]}{of}"))
    within = "no build to judge by" if reached is None else f"about {reached:g} MHz within reach"
    rows += [
        ("clock", f"{asked:g} MHz asked, {within}"),
        ("peak", f"{record['gmacs']:.3f} GMAC/s at {asked:g} MHz"),
    ]
    if "program" in record:
        rows.append((
            "program",
            f"{record['program']}: {record['cycles']} cycles, "  # noqa: ISC004
            f"{record['program_gmacs']:.3f} GMAC/s, {record['steps_per_second']:.0f} steps/s",
        ))
    return rows
