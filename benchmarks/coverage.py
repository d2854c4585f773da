"""What the test suite reaches of all that there is: ``python -m benchmarks.coverage``.

Of the instructions that ``make test`` runs on the hardware, how many bins of each group were met,
and every one that was not. The programs are drawn here as the tests draw them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import siligrad as sg
from siligrad.errors import SiligradError
from siligrad.isa import Geometry, Loop
from siligrad.long_work import progress
from siligrad_sim.coverage.instructions import GROUPS
from siligrad_sim.coverage.programs import Executed, bench_programs, campaign_programs
from siligrad_sim.coverage.table import Coverage
from tests.hdl.model import Machine
from tests.hdl.programs import random_program, random_steps
from tests.hdl.test_accelerator import CASES, SEEDS, fill
from tests.sim.test_networks import NARROW, NETWORKS, WIDE, arguments

__all__ = [
    "SOURCES",
    "describe_instructions",
    "instruction_coverage",
    "main",
    "network_programs",
    "specification_programs",
]


def network_programs() -> Iterator[Executed]:
    """Yield the programs that ``tests/sim/test_networks.py`` runs on the hardware."""
    for network in NETWORKS.values():
        for target, steps in ((WIDE, 1), (NARROW, 3)):
            program = sg.compile(
                network.step, *arguments(network, 0), donate=0, target=target, steps=steps
            )
            yield Executed(program.geometry, program.instructions, program.loop)


def specification_programs() -> Iterator[Executed]:
    """Yield the random programs that ``tests/hdl/test_accelerator.py`` runs on the hardware."""
    for array, word_bits, operand_bits, sum_bits, depths, program_depth, size, data, count in CASES:
        for seed in SEEDS:
            rng = np.random.default_rng(1000 * array + seed)
            machine = Machine(array, word_bits, operand_bits, sum_bits, depths)
            fill(rng, machine, data)
            steps = random_steps(rng, machine, count)
            program, _ = random_program(rng, machine, size, steps)
            geometry = Geometry(
                array=array,
                word_bits=word_bits,
                operand_bits=operand_bits,
                sum_bits=sum_bits,
                x_depth=depths[0],
                w_depth=depths[1],
                e_depth=depths[2],
                program_depth=program_depth,
            )
            yield Executed(geometry, program, Loop(count, *steps.strides))


SOURCES: Mapping[str, Callable[[], Iterator[Executed]]] = {
    "campaign": campaign_programs,
    "device bench": bench_programs,
    "networks": network_programs,
    "specification": specification_programs,
}
"""Where programs come from, and what draws them."""


def instruction_coverage(sources: Sequence[str] = tuple(SOURCES)) -> dict[str, Coverage]:
    """Count the programs of each source."""
    result = {}
    for name in progress(sources, "programs", len(sources)):
        result[name] = Coverage(GROUPS)
        for program in SOURCES[name]():
            result[name].count(program.instructions, program.geometry, program.loop)
    return result


def describe_instructions(parts: Mapping[str, Coverage], *, bins: bool = False) -> str:
    """Return the table of groups and the list of holes; with `bins` every bin with its hits."""
    total = Coverage(GROUPS)
    lines = ["instructions that are run", ""]
    for name, part in parts.items():
        total.merge(part)
        lines.append(f"{name:<24} {part.programs:>5} programs {part.instructions:>7} instructions")
    lines += ["", f"{'group':<24} {'bins':>5} {'impossible':>11} {'met':>5} {'holes':>6} fewest"]
    holes = total.holes()
    for name, group in GROUPS.items():
        every = list(group.all())
        possible = [each for each in every if group.impossible(each) is None]
        met = [total.counts[name][each] for each in possible if total.counts[name][each]]
        lines.append(
            f"{name:<24} {len(every):>5} {len(every) - len(possible):>11} {len(met):>5} "
            f"{len(holes[name]):>6} {min(met, default=0):>6}"
        )
    lines += ["", "holes"]
    for name, missing in holes.items():
        axes = ", ".join(axis.name for axis in GROUPS[name].axes)
        lines += [f"  {name} ({axes}): {', '.join(each)}" for each in missing]
    if not any(holes.values()):
        lines.append("  none")
    if bins:
        lines += _every_bin(total)
    return "\n".join(lines)


def _every_bin(total: Coverage) -> list[str]:
    lines = []
    for name, group in GROUPS.items():
        lines += ["", f"{name} ({', '.join(axis.name for axis in group.axes)})"]
        for each in group.all():
            reason = group.impossible(each)
            hits = total.counts[name][each] if reason is None else f"impossible: {reason}"
            lines.append(f"  {', '.join(each):<44} {hits}")
    return lines


def _to_json(parts: Mapping[str, Coverage]) -> dict[str, Any]:
    total = Coverage(GROUPS)
    for part in parts.values():
        total.merge(part)
    holes = total.holes()
    return {
        "sources": {
            name: {"programs": part.programs, "instructions": part.instructions}
            for name, part in parts.items()
        },
        "groups": {
            name: {
                "axes": [axis.name for axis in group.axes],
                "bins": [
                    {
                        "labels": list(each),
                        "hits": {name_: part.counts[name][each] for name_, part in parts.items()},
                        "impossible": group.impossible(each),
                    }
                    for each in group.all()
                ],
                "holes": [list(each) for each in holes[name]],
            }
            for name, group in GROUPS.items()
        },
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Count and print; 1 if a program has what none can have."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--bins", action="store_true", help="print every bin with its hits")
    parser.add_argument("--only", choices=("instructions",), help="this part alone")
    options = parser.parse_args(argv)
    try:
        parts = instruction_coverage()
    except SiligradError as error:
        print(f"benchmarks.coverage: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps({"instructions": _to_json(parts)}, indent=1))
    else:
        print(describe_instructions(parts, bins=options.bins))
    return 0


if __name__ == "__main__":
    sys.exit(main())
