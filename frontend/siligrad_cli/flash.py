"""``siligrad flash``: loads what ``siligrad build`` has built into a board."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siligrad.errors import SiligradError
from siligrad_cli.hardware import needing_hardware

if TYPE_CHECKING:
    from siligrad_hdl.boards import Board

__all__ = ["PACKAGES", "FlashError", "add_parser"]


class FlashError(SiligradError):
    """There is nothing to load, nothing to load it with, or loading fails."""


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``siligrad``."""
    parser = commands.add_parser(
        "flash",
        help="load a bitstream into a board",
        description="Load the bitstream in a folder of siligrad build into the board, with "
        "openFPGALoader, iceprog or dfu-util, whichever the board needs and is on PATH.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="what siligrad build wrote to")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the command instead of running it"
    )
    parser.set_defaults(run=_command)


def _command(options: argparse.Namespace) -> int:
    with needing_hardware():
        from siligrad_hdl.boards import find_board  # noqa: PLC0415  optional
    report = options.folder / "report.json"
    try:
        record = json.loads(report.read_text(encoding="utf-8"))
        name, bitstream = str(record["board"]), options.folder / Path(str(record["bitstream"])).name
    except (OSError, ValueError, KeyError, TypeError):
        raise FlashError(
            f"{report} is no report of a build: type `siligrad build --board NAME "
            f"-o {options.folder}` first"
        ) from None
    board = find_board(name)
    if not bitstream.is_file():
        raise FlashError(f"{bitstream} is not there any more: build it anew")
    command = _programmer(board, bitstream)
    print(shlex.join(command), flush=True)
    if options.dry_run:
        return 0
    done = subprocess.run(command, check=False)
    if done.returncode:
        raise FlashError(
            f"{command[0]} fails with status {done.returncode}: is {board.title} connected, and "
            "may you use its port?"
        )
    return 0


def _programmer(board: Board, bitstream: Path) -> list[str]:
    """Return the command of the first program of the board that is here."""
    for program, *arguments in board.programmers:
        if shutil.which(program) is not None:
            return [program, *(str(bitstream) if item == "{}" else item for item in arguments)]
    names = " or ".join(program for program, *_ in board.programmers)
    raise FlashError(
        f"{names} is missing, which loads {board.title}: install it (Debian: `apt install "
        f"{' '.join(PACKAGES[program] for program, *_ in board.programmers[:1])}`)"
    )


PACKAGES = {"iceprog": "fpga-icestorm", "openFPGALoader": "openfpgaloader", "dfu-util": "dfu-util"}
"""What Debian calls the programs' packages."""
