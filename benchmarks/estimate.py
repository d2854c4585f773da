"""``python -m benchmarks.estimate``: what the estimates of ``siligrad estimate`` are fitted to.

``measure`` synthesises and packs accelerators, which tells their sizes; ``add`` takes builds, which
have a clock too; ``fit`` fits the coefficients to both and writes them beside them; ``table``
prints estimates beside what was measured, for ``docs/boards.md``. After a change of the hardware,
``forget`` the builds, measure, and add anew.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siligrad.errors import SiligradError
from siligrad.files import replacing
from siligrad.isa import Geometry
from siligrad.program import Program
from siligrad_hdl.boards import BOARDS, Board, find_board
from siligrad_hdl.boards.netlist import cut_unread
from siligrad_hdl.boards.routed import read_report, read_uses
from siligrad_hdl.boards.tools import find_tool
from siligrad_hdl.boards.top import BoardTop
from siligrad_hdl.estimate import DATA, device_series, estimate, parts
from siligrad_hdl.flow import plan

__all__ = [
    "POINTS",
    "Row",
    "RowError",
    "built_row",
    "deviations",
    "fit",
    "main",
    "measure",
    "not_negative",
    "read_rows",
    "routed_row",
    "table",
]

_SHALLOW = Geometry(x_depth=256, w_depth=512, e_depth=256, program_depth=64)
_NARROW = replace(_SHALLOW, w_depth=256, operand_bits=8, word_bits=8, sum_bits=22)


def _points() -> Iterator[tuple[str, Geometry]]:
    for name, array, operand_bits in (
        ("icebreaker", 2, 8),
        ("icebreaker", 2, 12),
        ("icebreaker", 2, 16),
        ("icebreaker", 3, 8),
        ("hx8k", 2, 8),
        ("hx8k", 2, 12),
        ("hx8k", 3, 8),
        ("ulx3s-85f", 2, 16),
        ("ulx3s-85f", 3, 16),
        ("ulx3s-85f", 4, 8),
        ("ulx3s-85f", 4, 16),
        ("ulx3s-85f", 6, 12),
        ("tang-primer-20k", 2, 16),
        ("tang-primer-20k", 3, 16),
        ("tang-primer-20k", 4, 8),
        ("tang-primer-20k", 4, 16),
        ("crosslink-nx-vip", 2, 16),
        ("crosslink-nx-vip", 3, 16),
        ("crosslink-nx-vip", 4, 8),
        ("crosslink-nx-vip", 4, 16),
    ):
        yield name, find_board(name).sized(array, operand_bits)
    for name, array in (("icebreaker", 2), ("icebreaker", 4), ("hx8k", 2), ("hx8k", 4)):
        yield name, replace(_NARROW, array=array)
    for array in (4, 8):
        yield "ulx3s-85f", replace(_SHALLOW, array=array)


POINTS = tuple(_points())
"""Boards and geometries of what ``measure`` synthesises."""

_SIZES = ("lut", "ff", "dsp", "bram")

_WRITING = ("--report", "--asc", "--textcfg", "--fasm", "--write")
"""Options of nextpnr by which it writes what a design that is only packed does not have."""


@dataclass(frozen=True, slots=True)
class Row:
    """An accelerator that was measured.

    Parameters
    ----------
    board, geometry
        What, for which board.
    lut, ff, dsp, bram
        What it takes.
    clock_target_mhz, clock_mhz
        Clock that was asked for, and reached; None if it was only synthesised and packed.
    """

    board: str
    geometry: Geometry
    lut: int
    ff: int
    dsp: int
    bram: int
    clock_target_mhz: float | None = None
    clock_mhz: float | None = None

    @property
    def built(self) -> bool:
        """Whether it was placed and routed."""
        return self.clock_mhz is not None


class RowError(SiligradError):
    """A build is not what it is said to be."""


def read_rows(path: Path = DATA) -> list[Row]:
    """Return the rows in a file."""
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    return [Row(**{**row, "geometry": Geometry(**row["geometry"])}) for row in rows]


def fit(rows: Sequence[Row]) -> dict[str, Any]:
    """Return what is fitted to rows: coefficients of each family, clocks of families and series.

    Coefficients are not negative, and have the least squares of errors relative to what was
    measured. What was only packed counts as so much more as builds take than the same packed: for
    Gowin, nextpnr puts lookup tables before registers after that. A clock is halfway between the
    slowest and the fastest build with an array of a size, each as it would be without block RAMs:
    what deviates most from it, deviates least.
    """
    families = sorted({find_board(row.board).technology.name for row in rows})
    fitted: dict[str, Any] = {"lut": {}, "ff": {}, "clock_mhz": {}, "slower_per_block": {}}
    for family in families:
        of_family = [row for row in rows if find_board(row.board).technology.name == family]
        counted = [parts(row.geometry, find_board(row.board).technology) for row in of_family]
        names = list(counted[0])
        sizes = np.array([[count[name] for name in names] for count in counted], dtype=float)
        for what in ("lut", "ff"):
            grown = _grown(of_family, what)
            measured = np.array([
                getattr(row, what) * (1 if row.built else grown) for row in of_family
            ])
            found = not_negative(sizes / measured[:, None], np.ones(len(measured)))
            fitted[what][family] = {
                name: round(float(value), 6)
                for name, value in zip(names, found, strict=True)
                if value > 0
            }
        slower = _slower_per_block(of_family)
        fitted["slower_per_block"][family] = slower
        for name, of_name in _clocks(of_family, slower).items():
            fitted["clock_mhz"][name] = {
                str(array): round((min(of_name[array]) + max(of_name[array])) / 2, 2)
                for array in sorted(of_name)
            }
    fitted["clock_mhz"] = dict(sorted(fitted["clock_mhz"].items()))
    return fitted


def _grown(rows: Sequence[Row], what: str) -> float:
    """Return how much more builds take than what was packed of the same; 1 if there is no such."""
    packed = {(row.board, row.geometry): getattr(row, what) for row in rows if not row.built}
    ratios = [
        getattr(row, what) / packed[row.board, row.geometry]
        for row in rows
        if row.built and (row.board, row.geometry) in packed
    ]
    return sum(ratios) / len(ratios) if ratios else 1.0


def _clocks(rows: Sequence[Row], slower: float) -> dict[str, dict[int, list[float]]]:
    """Return the clocks of builds without what their block RAMs cost, by family and series."""
    clocks: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        if row.clock_mhz is not None:
            board = find_board(row.board)
            for name in (board.technology.name, device_series(board)):
                of_array = clocks.setdefault(name, {}).setdefault(row.geometry.array, [])
                of_array.append(row.clock_mhz * (1 + slower * row.bram))
    return clocks


def _slower_per_block(rows: Sequence[Row]) -> float:
    """Return the part of a period that a block RAM adds, to tenths of a per mille, at most 2 %.

    It is that which brings the builds with an array of a size, on devices of a series, nearest to
    each other; zero if there are no two of them.
    """
    families = {find_board(row.board).technology.name for row in rows}

    def spread(slower: float) -> float:
        clocks = _clocks(rows, slower)
        groups = [
            reached
            for name, of_name in clocks.items()
            if name not in families
            for reached in of_name.values()
        ]
        return max((max(reached) / min(reached) for reached in groups), default=1.0)

    return min((step / 10_000 for step in range(201)), key=spread)


def not_negative(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the `x` without negative elements for which ``a @ x - b`` has the least square.

    C. L. Lawson and R. J. Hanson, *Solving Least Squares Problems*, chapter 23, algorithm NNLS.
    """
    scale = np.abs(a).max(axis=0)
    scale[scale == 0] = 1
    a = a / scale
    x = np.zeros(a.shape[1])
    free = np.zeros(len(x), dtype=bool)
    while True:
        slope = a.T @ (b - a @ x)
        slope[free] = 0
        if slope.max() <= 1e-9:
            return np.asarray(x / scale)
        free[slope.argmax()] = True
        while True:
            trial = np.zeros(len(x))
            trial[free] = np.linalg.lstsq(a[:, free], b, rcond=None)[0]
            if (trial[free] > 0).all():
                x = trial
                break
            # Go as far as nothing becomes negative, and leave out what becomes zero.
            wrong = free & (trial <= 0)
            x = x + (x[wrong] / (x[wrong] - trial[wrong])).min() * (trial - x)
            free &= x > 1e-12
            x[~free] = 0


def measure(board: Board, geometry: Geometry) -> Row:
    """Synthesise and pack an accelerator, and return its sizes."""
    top = BoardTop(board, geometry, board.clock(None))
    files, commands = plan(board, top, 1, board.platform())
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name, content in files.items():
            (work / name).write_bytes(content)
        synthesis, packing = commands[0], _without(commands[1], _WRITING)
        for tool, *arguments in (synthesis, [*packing, "--pack-only"]):
            done = subprocess.run(
                [find_tool(tool).path, *arguments],
                cwd=work,
                check=False,
                capture_output=True,
                text=True,
            )
            if done.returncode:
                raise RowError(f"{tool} fails: {done.stderr[-500:]}")
            if tool == synthesis[0] and board.technology.unread:
                cut_unread(work / packing[packing.index("--json") + 1], board.technology.unread)
        log, netlist = (work / packing[packing.index(name) + 1] for name in ("--log", "--json"))
        uses = read_uses(log, netlist)
    return Row(board.name, geometry, **{what: uses[what].used for what in _SIZES})


def _without(command: list[str], options: Sequence[str]) -> list[str]:
    """Return a command without some options and their values."""
    left: list[str] = []
    words = iter(command)
    for word in words:
        if word in options:
            next(words)
        else:
            left.append(word)
    return left


def built_row(folder: Path, program: Path | None) -> Row:
    """Return the row of a build in a folder."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    board = find_board(report["board"])
    geometry = board.sized(report["array"], report["operand_bits"])
    if program is not None:
        geometry = Program.load(program).geometry
    found = (geometry.array, geometry.operand_bits, board.blocks_of(geometry))
    expected = (report["array"], report["operand_bits"], report["bram"])
    if found != expected:
        raise RowError(
            f"{folder}: its array, operands and block RAMs are {expected}, not {found}: it was "
            "built for a program, give it with --program"
        )
    clocks = {name: report[name] for name in ("clock_target_mhz", "clock_mhz")}
    return Row(board.name, geometry, **{what: report[what] for what in _SIZES}, **clocks)


def routed_row(folder: Path, name: str, program: Path | None) -> Row:
    """Return the row of a build that was routed and missed its clock, so that it has no report."""
    board = find_board(name)
    geometry = board.geometry if program is None else Program.load(program).geometry
    work = folder / "work"
    routed = read_report(work / "routed.json", work / "top.json")
    clocks = json.loads((work / "routed.json").read_text(encoding="utf-8"))["fmax"].values()
    return Row(
        board.name,
        geometry,
        **{what: getattr(routed, what).used for what in _SIZES},
        clock_target_mhz=round(max(clock["constraint"] for clock in clocks), 2),
        clock_mhz=round(routed.mhz, 2),
    )


def _write(rows: Sequence[Row]) -> None:
    ordered = sorted(rows, key=_order)
    text = json.dumps({"rows": [asdict(row) for row in ordered], "fitted": fit(ordered)}, indent=1)
    with replacing(DATA) as beside:
        beside.write_text(text + "\n", encoding="utf-8")


def _order(row: Row) -> tuple[Any, ...]:
    geometry = tuple(asdict(row.geometry).values())
    return (list(BOARDS).index(row.board), geometry, not row.built, row.clock_mhz or 0)


def deviations(rows: Sequence[Row], most: float = 0.1) -> list[str]:
    """Return what is wrong with the estimates of builds: sizes and clocks by more than `most`.

    Multipliers and block RAMs must be exact.
    """
    wrong = []
    for row in rows:
        if row.clock_mhz is None:
            continue
        guess = estimate(find_board(row.board), row.geometry)
        for what in (*_SIZES, "clock_mhz"):
            measured, guessed = getattr(row, what), getattr(guess, what) or 0
            allowed = 0 if what in {"dsp", "bram"} else most * measured
            if abs(guessed - measured) > allowed:
                wrong.append(
                    f"{row.board}, {row.geometry}: {what} is {measured}, estimated {guessed:g}"
                )
    return wrong


def table(rows: Sequence[Row]) -> list[str]:
    """Return a table in Markdown of the builds: what was measured, and in brackets estimated."""
    lines = ["| board | array | LUT | FF | DSP | BRAM | clock |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        if row.clock_mhz is None:
            continue
        board = find_board(row.board)
        guess = estimate(board, row.geometry)
        cells = [f"`{board.name}`", f"{row.geometry.array} x {row.geometry.array}"]
        cells[1] += f", {row.geometry.operand_bits} bits"
        cells += [f"{getattr(row, what):,} ({getattr(guess, what):,})" for what in _SIZES]
        cells.append(f"{row.clock_mhz:.1f} ({guess.clock_mhz or 0:.1f}) MHz")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _put(lines: Sequence[str], path: Path) -> None:
    """Put a table in the place of the one in a file that begins with the same line."""
    text = path.read_text(encoding="utf-8").splitlines()
    if lines[0] not in text:
        raise RowError(f"{path} has no table that begins with {lines[0]!r}")
    begin = text.index(lines[0])
    end = begin
    while end < len(text) and text[end].startswith("|"):
        end += 1
    with replacing(path) as beside:
        beside.write_text("\n".join([*text[:begin], *lines, *text[end:], ""]), encoding="utf-8")


def _measure(options: argparse.Namespace) -> None:
    """Measure each of :data:`POINTS`, and keep it before going on to the next."""
    for point in POINTS:
        name, geometry = point
        array, operand_bits = geometry.array, geometry.operand_bits
        if name not in (options.board or [name]) or array not in (options.array or [array]):
            continue
        measured = measure(find_board(name), geometry)
        sizes = f"{measured.lut} LUT, {measured.ff} FF"
        print(f"{name} {array} x {array}, {operand_bits} bits: {sizes}")
        # What is measured no more was of other hardware.
        kept = set(POINTS) - {point}
        others = [row for row in read_rows() if row.built or (row.board, row.geometry) in kept]
        _write([*others, measured])


def _add(options: argparse.Namespace) -> None:
    rows = read_rows()
    for folder in options.folder:
        if (folder / "report.json").exists() or options.board is None:
            rows.append(built_row(folder, options.program))
        else:
            rows.append(routed_row(folder, options.board, options.program))
    _write(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in `argv` and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimate", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure", help="synthesise and pack what is to be fitted")
    measuring.add_argument("--board", action="append", help="only for this board")
    measuring.add_argument("--array", type=int, action="append", help="only of this size")
    adding = commands.add_parser("add", help="take builds")
    adding.add_argument("folder", type=Path, nargs="+", help="of siligrad build")
    adding.add_argument("--program", type=Path, help="image that they were built for")
    adding.add_argument("--board", help="of builds that missed their clock, and have no report")
    forgetting = commands.add_parser("forget", help="forget builds, before new ones")
    forgetting.add_argument("--board", action="append", help="only of this board")
    commands.add_parser("fit", help="fit anew")
    showing = commands.add_parser("table", help="print estimates beside what was measured")
    showing.add_argument("--into", type=Path, help="replace the table in this file")
    options = parser.parse_args(argv)
    try:
        if options.command == "measure":
            _measure(options)
        elif options.command == "add":
            _add(options)
        elif options.command == "forget":
            boards = options.board or list(BOARDS)
            _write([row for row in read_rows() if not (row.built and row.board in boards)])
        elif options.command == "fit":
            _write(read_rows())
        elif options.into is not None:
            _put(table(read_rows()), options.into)
        else:
            print("\n".join(table(read_rows())))
    except (SiligradError, OSError) as error:
        print(f"benchmarks.estimate: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
