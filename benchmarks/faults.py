"""Bits that flip in a running accelerator: ``python -m benchmarks.faults``.

A training step runs in simulation again and again; in each run one bit of one register or memory
flips in one cycle. The table says, for each class of bits, what a host that knows the promised
cycles, and nothing of the right words, notices of it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence

from siligrad.errors import SiligradError
from siligrad.long_work import progress_bar, stopping
from siligrad_sim.faults.injection import CLASSES, Experiment, Outcome, Row, inject

__all__ = ["describe", "main"]

_COLUMNS = {
    Outcome.NONE: "none",
    Outcome.ITS_WORD: "its word",
    Outcome.WRONG: "unnoticed",
    Outcome.LATER: "later",
    Outcome.SATURATIONS: "counters",
    Outcome.CYCLES: "cycles",
    Outcome.OVERRUN: "watchdog",
    Outcome.NOT_DONE: "status",
    Outcome.NEVER_ENDED: "no end",
}


def describe(experiment: Experiment, rows: Mapping[str, Row], seed: int) -> str:
    """Return the table."""
    geometry = experiment.step.geometry
    lines = [
        (
            f"a training step of {len(experiment.step.instructions)} instructions, "
            f"{experiment.cycles} cycles, N = {geometry.array}; one flip in each run, seed {seed}"
        ),
        "",
        f"{'class':<20} {'bits':>6} {'flips':>6}"
        + "".join(f" {name:>9}" for name in (*_COLUMNS.values(), "program", "lasting")),
    ]
    for name, row in rows.items():
        bits = sum(part.bits * part.words for part in experiment.parts(name))
        counts = [row.outcomes[outcome] for outcome in _COLUMNS]
        counts += [row.program_changed, row.lasting]
        lines.append(
            f"{name:<20} {bits:>6} {row.outcomes.total():>6}"
            + "".join(f" {count:>9}" for count in counts)
        )
    lines += ["", *(f"{name:<10} {outcome.value}" for outcome, name in _COLUMNS.items())]
    lines += [
        f"{'program':<10} of all these, those after which the program reads back changed",
        (
            f"{'lasting':<10} of all these, those after which a run is wrong though words, program "
            "and shift registers were written again"
        ),
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Flip bits and print the table; 1 if a run did not end, 130 when stopped."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--injections", type=int, default=300, help="of each class (300)")
    parser.add_argument("--seed", type=int, default=0, help="of where and when (0)")
    parser.add_argument("--array", type=int, default=3, help="N (3)")
    parser.add_argument(
        "--only", action="append", choices=tuple(CLASSES), help="this class, perhaps with others"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args(argv)
    if options.injections < 1:
        parser.error(f"--injections must be at least 1, not {options.injections}")
    if options.seed < 0:
        parser.error(f"--seed must not be negative, not {options.seed}")
    classes = [name for name in CLASSES if not options.only or name in options.only]
    try:
        experiment = Experiment(options.array)
        total = len(classes) * options.injections
        with progress_bar(total, what="flips") as advance, stopping() as stopped:
            rows = inject(
                experiment,
                classes,
                options.injections,
                options.seed,
                advance=advance,
                stopped=stopped,
            )
    except SiligradError as error:
        print(f"benchmarks.faults: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(_to_json(experiment, rows, options.seed), indent=1))
    else:
        print(describe(experiment, rows, options.seed))
    if sum(row.outcomes.total() for row in rows.values()) < total:
        return 130
    return int(any(row.outcomes[Outcome.NEVER_ENDED] for row in rows.values()))


def _to_json(experiment: Experiment, rows: Mapping[str, Row], seed: int) -> dict[str, object]:
    return {
        "seed": seed,
        "array": experiment.step.geometry.array,
        "cycles": experiment.cycles,
        "classes": {
            name: {
                "bits": sum(part.bits * part.words for part in experiment.parts(name)),
                "outcomes": {outcome.name.lower(): row.outcomes[outcome] for outcome in Outcome},
                "program_changed": row.program_changed,
                "lasting": row.lasting,
            }
            for name, row in rows.items()
        },
    }


if __name__ == "__main__":
    sys.exit(main())
