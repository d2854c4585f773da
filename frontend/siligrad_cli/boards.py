"""``siligrad boards``: which boards there are, and what fits them."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from siligrad.isa import Memory
from siligrad_cli.capacity import BATCH, CLASSES, INPUTS, largest_hidden
from siligrad_cli.hardware import needing_hardware

if TYPE_CHECKING:
    from siligrad_hdl.boards import Board

__all__ = ["add_parser"]

_COLUMNS = (
    *("board", "device", "usual array", "bits", "clock", "words X/W/E", "largest"),
    *(f"{INPUTS}-h-{CLASSES}", "tools", "status"),
)


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``siligrad``."""
    parser = commands.add_parser(
        "boards",
        help="list the boards that siligrad build knows",
        description="List the boards: what is built unless something else is asked for (array, "
        "width of a word, clock, words in each bank of X, W and E), the largest array that the "
        "multipliers and block RAMs would do for, the most hidden units h with which that one or "
        f"the usual trains {INPUTS}-h-{CLASSES} in batches of {BATCH}, the tools, and whether they "
        "are here.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=_command)


def _command(options: argparse.Namespace) -> int:
    with needing_hardware():
        from siligrad_hdl.boards import BOARDS  # noqa: PLC0415  optional
    records = [_record(board) for board in BOARDS.values()]
    if options.json:
        print(json.dumps(records, indent=1))
        return 0
    rows = [_COLUMNS, *map(_row, records)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print(
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        )
    return 0


def _record(board: Board) -> dict[str, Any]:
    from siligrad_hdl.boards.tools import ToolMissing, find_tool  # noqa: PLC0415  optional

    hidden, array = largest_hidden(board)
    missing = []
    for name in board.technology.tools:
        try:
            find_tool(name)
        except ToolMissing:
            missing.append(name)
    return {
        "board": board.name,
        "title": board.title,
        "device": board.device,
        "geometry": asdict(board.geometry),
        "clock_mhz": board.clock(None).mhz,
        "largest_array": board.largest_array(),
        "largest_hidden": {
            "inputs": INPUTS,
            "hidden": hidden,
            "outputs": CLASSES,
            "batch": BATCH,
            "array": array,
        },
        "serial": board.serial,
        "tools": list(board.technology.tools),
        "missing": missing,
    }


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    geometry = record["geometry"]
    depths = "/".join(str(geometry[f"{memory.name.lower()}_depth"]) for memory in Memory)
    n, largest = geometry["array"], record["largest_array"]
    network, missing = record["largest_hidden"], record["missing"]
    hidden, array = network["hidden"], network["array"]
    return (
        record["board"],
        record["device"],
        f"{n} x {n}",
        str(geometry["word_bits"]),
        f"{record['clock_mhz']:g} MHz",
        depths,
        f"{largest} x {largest}",
        f"h = {hidden} on {array} x {array}" if hidden else "does not fit",
        ", ".join(record["tools"][1:]),  # they all begin with Yosys
        "ready" if not missing else f"missing: {', '.join(missing)}",
    )
