"""``siligrad report``: one page about what a trained network does well, and where it fails."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from siligrad.errors import SiligradError
from siligrad.files import replacing
from siligrad_cli.report.findings import examine
from siligrad_cli.report.page import render
from siligrad_cli.train import load_run

__all__ = ["add_parser", "write_report"]


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "report",
        help="write one HTML page about a trained network",
        description="Write one self-contained HTML page about the run in a folder: curves, "
        "confusions, calibration, the worst mistakes, and accuracy under a perturbation of the "
        "images along the sign of the gradient.",
    )
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="what siligrad train made")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="the page to write (default report.html in the folder of the run)",
    )
    parser.add_argument(
        "--data", metavar="DATA", help="where the data are now, if they have moved since"
    )
    parser.set_defaults(run=_command)


def _command(options: argparse.Namespace) -> int:
    path = options.output or options.run_folder / "report.html"
    print(f"report  {write_report(options.run_folder, path, data=options.data)}")
    return 0


def write_report(folder: Path, path: Path, *, data: str | None = None) -> Path:
    """Write the page about the run in ``folder``; the same run gives the same bytes.

    Raises
    ------
    SiligradError
        If the folder holds no run that can be loaded, or the page cannot be written.
    """
    text = render(examine(load_run(folder, data)))
    try:
        with replacing(path) as beside:
            beside.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SiligradError(f"{path} cannot be written: {error.strerror or error}") from error
    return path
