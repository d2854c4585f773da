"""``siligrad bench``: whole programs on a device, measured beside what the compiler promises.

Each sub-command is a module. What they share, programs and runs of them, is in
:mod:`~siligrad_cli.bench.programs` and :mod:`~siligrad_cli.bench.measure`.
"""

from __future__ import annotations

from typing import Any

from siligrad_cli.bench import accuracy, channels, cycles, epoch

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command and its sub-commands to the parser."""
    parser = commands.add_parser(
        "bench",
        help="measure programs on a device, beside what the compiler promises",
        description="Run programs on a device, compare every word with the reference, and print "
        "what was measured beside what the compiler promised. Exit status 1 if a word or a cycle "
        "differs.",
    )
    benches = parser.add_subparsers(dest="bench", required=True, metavar="BENCH")
    cycles.add_parser(benches)
    channels.add_parser(benches)
    accuracy.add_parser(benches)
    epoch.add_parser(benches)
