"""A long campaign of random programs over all arrays: ``python -m benchmarks.verify``.

It runs the programs in chunks, each of one accelerator, on every device beside the reference, and
prints what was compared. Stopped, or with a worker that died, the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from siligrad.errors import SiligradError
from siligrad.long_work import progress_bar, stopping
from siligrad_sim.campaign.campaign import Summary, run_campaign
from siligrad_sim.campaign.chunk import Plan
from siligrad_sim.campaign.drawing import campaign_geometry

__all__ = ["describe", "main"]

ARRAYS = range(2, 9)
CHUNK = 50


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign in `argv`; 0 without a difference, 1 with one, 130 when stopped."""
    parser = argparse.ArgumentParser(prog="benchmarks.verify", description=__doc__)
    parser.add_argument("--programs", type=int, default=5000, help="random programs (5000)")
    parser.add_argument("--devices", default="verilator", help="with commas between (verilator)")
    parser.add_argument("--arrays", default=None, help="sizes with commas between (2 to 8)")
    parser.add_argument("--operand-bits", default="16,8", help="widths of operands (16,8)")
    parser.add_argument("--workers", type=int, default=2, help="local processes (2)")
    parser.add_argument("--scheduler", default="local", help="local, or a Dask cluster's address")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (0)")
    parser.add_argument("--chunk", type=int, default=CHUNK, help=f"programs of a chunk ({CHUNK})")
    parser.add_argument("--output", type=Path, default=Path("build/campaign"), metavar="DIR")
    options = parser.parse_args(argv)
    arrays = [int(each) for each in options.arrays.split(",")] if options.arrays else ARRAYS
    widths = [int(each) for each in options.operand_bits.split(",")]
    plan = Plan(
        options.seed,
        options.programs,
        options.chunk,
        tuple(options.devices.split(",")),
        tuple(campaign_geometry(array, bits) for array in arrays for bits in widths),
    )
    began = time.monotonic()
    try:
        with progress_bar(plan.programs, what="programs") as advance, stopping() as stopped:
            summary = run_campaign(
                plan,
                options.output,
                scheduler=options.scheduler,
                workers=options.workers,
                stopped=stopped,
                advance=advance,
            )
    except SiligradError as error:
        print(f"benchmarks.verify: {error}", file=sys.stderr)
        return 1
    print(describe(plan, summary, time.monotonic() - began))
    (options.output / "summary.json").write_text(
        json.dumps({**plan.identity(), "summary": describe(plan, summary).splitlines()}, indent=1)
        + "\n",
        encoding="utf-8",
    )
    if summary.missing and not summary.failures:
        print(
            f"benchmarks.verify: stopped with {len(summary.missing)} chunks left; the same command "
            "goes on",
            file=sys.stderr,
        )
        return 130
    for folder, message in summary.failures:
        print(f"benchmarks.verify: {message}; see {folder}", file=sys.stderr)
    return 1 if summary.failures else 0


def describe(plan: Plan, summary: Summary, seconds: float | None = None) -> str:
    """Return what a campaign found, a line each; `seconds` of this call by the clock."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(summary.by_kind.items()))
    arrays = ", ".join(f"{n}: {count}" for n, count in sorted(summary.by_array.items()))
    refused = ", ".join(f"{count} {kind}" for kind, count in sorted(summary.discarded.items()))
    lines = [
        f"seed         {plan.seed}, chunks of {plan.chunk}",
        f"devices      {', '.join(plan.devices)}, beside the reference",
        f"programs     {summary.programs} of {plan.programs} ({kinds})",
        f"different    {summary.distinct}",
        f"arrays       {arrays}",
        f"words        {summary.words} compared",
        f"cycles       {summary.cycles} compared",
        f"saturations  {summary.saturations} counted",
        f"discarded    {refused or 'none'}",
        f"differences  {len(summary.failures)}",
        f"work         {summary.seconds:.0f} s, all workers together",
    ]
    if seconds is not None:
        lines.append(f"clock        {seconds:.0f} s")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
