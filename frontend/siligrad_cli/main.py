"""The command line: parse, call one function, print one line when it goes wrong."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

import siligrad_cli.one_thread  # noqa: F401  # before anything imports numpy
from siligrad.errors import SiligradError
from siligrad_cli import (
    bench,
    boards,
    build,
    compile,  # noqa: A004  a command
    demo,
    disassemble,
    estimate,
    export,
    flash,
    prove,
    quantize,
    report,
    run,
    selftest,
    soc,
    train,
    verify,
)

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in `argv` and return its exit status.

    0 if all is well, 1 if something is wrong (one line on stderr says what), 2 for a command that
    is not understood, 130 after Ctrl-C.
    """
    parser = argparse.ArgumentParser(
        prog="siligrad", description="From Python functions to hardware that trains and runs them."
    )
    parser.add_argument("--version", action="version", version=f"siligrad {version('siligrad')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo.add_parser(commands)
    train.add_parser(commands)
    compile.add_parser(commands)
    disassemble.add_parser(commands)
    run.add_parser(commands)
    bench.add_parser(commands)
    boards.add_parser(commands)
    estimate.add_parser(commands)
    build.add_parser(commands)
    flash.add_parser(commands)
    selftest.add_parser(commands)
    export.add_parser(commands)
    quantize.add_parser(commands)
    report.add_parser(commands)
    prove.add_parser(commands)
    verify.add_parser(commands)
    soc.add_parser(commands)
    options = parser.parse_args(argv)
    try:
        return int(options.run(options))
    except SiligradError as error:
        print(f"siligrad: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output has gone
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        print("siligrad: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
