"""``python -m benchmarks.mutants``: mutants of the hardware (rtl) or of the Python (python).

Each is one change. It is killed if a check of the suite fails with it, equivalent if it is proved
that nothing can tell, and survives otherwise; survivors are listed with their line. The score is
the share of those that are not equivalent which is killed. Results are kept in the output folder as
they come: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.mutants import python, rtl
from benchmarks.mutants.outcome import report, score
from siligrad.errors import SiligradError
from siligrad.long_work import progress_bar, stopping

__all__ = ["main"]

MUTANTS = {"rtl": 300, "python": 150}
"""How many there are if nobody asks for another number."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line asks for, and return the status: 1 after an error or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutants", description=__doc__)
    parser.add_argument("what", choices=MUTANTS, help="of what: the hardware, or the Python")
    parser.add_argument("--mutants", type=int, help="how many (300 of rtl, 150 of python)")
    parser.add_argument("--seed", type=int, default=1, help="what is drawn (default 1)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="at once (processors)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument(
        "--output", type=Path, default=Path("build/mutants"), help="folder (build/mutants)"
    )
    parser.add_argument(
        "--proof-seconds", type=float, default=20.0, help="for each proof, 0 for none (default 20)"
    )
    options = parser.parse_args(argv)
    count = MUTANTS[options.what] if options.mutants is None else options.mutants
    if count < 1 or options.jobs < 1:
        parser.error(f"--mutants and --jobs must be at least 1, not {count} and {options.jobs}")
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        with stopping() as stop, progress_bar(count, what=options.what) as advance:
            common: dict[str, Any] = {
                "jobs": options.jobs,
                "folder": options.output,
                "advance": advance,
                "stop": stop,
            }
            if options.what == "rtl":
                seconds = options.proof_seconds
                verdicts = rtl.run(count, options.seed, proof_seconds=seconds, **common)
            else:
                verdicts = python.run(count, options.seed, **common)
            stopped = stop()
    except (SiligradError, OSError) as error:
        print(f"benchmarks.mutants: {error}", file=sys.stderr)
        return 1
    if options.json:
        found = [asdict(verdict) for verdict in verdicts]
        share = score([verdict.outcome for verdict in verdicts])
        print(json.dumps({"score": share, "mutants": found}, indent=1))
    else:
        print(report(verdicts, "component" if options.what == "rtl" else "file"))
    if stopped:
        print(f"benchmarks.mutants: stopped after {len(verdicts)} of {count}", file=sys.stderr)
    return int(stopped)


if __name__ == "__main__":
    sys.exit(main())
