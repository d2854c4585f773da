"""What the test suite reaches of all that there is: ``python -m benchmarks.coverage``.

Of the instructions that ``make test`` runs on the hardware, how many bins of each group were met,
and every one that was not; of the Verilog of one accelerator, how many bits changed both ways and
how many branches were taken while the checks and random programs of the tests ran on it. The
programs are drawn here as the tests draw them.
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
from siligrad.long_work import progress, progress_bar
from siligrad_sim.benches.device import CHECKS
from siligrad_sim.campaign.case import Case
from siligrad_sim.campaign.differential import compare
from siligrad_sim.campaign.drawing import campaign_geometry
from siligrad_sim.campaign.sampling import SUITE_PROGRAMS, for_each_case
from siligrad_sim.campaign.trial import REFUSALS, trial_of
from siligrad_sim.coverage.instructions import GROUPS
from siligrad_sim.coverage.netlist import Component, CountingDevice, components
from siligrad_sim.coverage.programs import Executed, bench_programs, campaign_programs
from siligrad_sim.coverage.table import Coverage, CoverageError
from siligrad_sim.coverage.unreachable import sorted_out
from tests.hdl.model import Machine
from tests.hdl.programs import random_program, random_steps
from tests.hdl.test_accelerator import CASES, FURTHER_CASES, SEED, fill
from tests.sim.test_networks import NARROW, NETWORKS, WIDE, arguments

__all__ = [
    "GEOMETRY",
    "SOURCES",
    "describe_instructions",
    "describe_netlist",
    "instruction_coverage",
    "main",
    "netlist_coverage",
    "network_programs",
    "specification_programs",
]


PARTS = ("instructions", "netlist")


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
    for case in (*CASES, *FURTHER_CASES):
        array, word_bits, operand_bits, sum_bits, depths, program_depth, size, data, count = case
        rng = np.random.default_rng(1000 * array + SEED)
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


GEOMETRY = campaign_geometry(3, 8)
"""The accelerator whose Verilog is looked at. Its N is no power of two, and it rounds operands."""


def netlist_coverage(
    checks: Sequence[str] = tuple(CHECKS), programs: int = SUITE_PROGRAMS
) -> list[Component]:
    """Run checks of the device bench and random programs; return what they used.

    Raises
    ------
    CoverageError
        If the hardware does not do what it should.
    """
    with (
        CountingDevice(GEOMETRY) as device,
        progress_bar(len(checks) + programs, what="simulation") as advance,
    ):
        for name in checks:
            CHECKS[name](device)
            advance(1, name)
        drawn: list[Case] = []
        if programs:
            for_each_case(drawn.append, GEOMETRY, programs)
        for case in drawn:
            advance(1, "random programs")
            try:
                trial = trial_of(case)
            except REFUSALS:
                continue
            mismatch = compare(trial, device).mismatch
            if mismatch is not None:
                raise CoverageError(f"what is to be covered is wrong: {mismatch}")
        return components(device.points(), device.verilog)


def describe_netlist(found: Sequence[Component]) -> str:
    """Return the table of components, the holes, and what has a reason not to be used."""
    explained, holes = sorted_out(found)
    lines = [
        f"Verilog, N = {GEOMETRY.array}, operands of {GEOMETRY.operand_bits} bits",
        "",
        f"{'component':<24} {'times':>5} {'bits':>6} {'changed':>8} {'branches':>9} {'taken':>6}",
    ]
    for each in found:
        lines.append(
            f"{each.name:<24} {each.instances:>5} {each.bits:>6} {each.bits_used:>8} "
            f"{each.branches:>9} {each.branches_used:>6}"
        )
    total = [
        sum(column)
        for column in zip(
            *((each.bits, each.bits_used, each.branches, each.branches_used) for each in found),
            strict=True,
        )
    ]
    lines.append(f"{'all':<24} {'':>5} {total[0]:>6} {total[1]:>8} {total[2]:>9} {total[3]:>6}")
    lines += ["", "holes"]
    lines += [f"  {name} {hole}" for name, hole in holes]
    lines += [f"  {each.name} {hole}" for each in found for hole in each.branch_holes]
    lines += ["", "bits that cannot change, or not in the time of a test"]
    for why, bits in explained.items():
        count = sum(len(hole.bits) for _, hole in bits)
        lines.append(f"  {count:>4} {why}")
    return "\n".join(lines)


def _netlist_to_json(found: Sequence[Component]) -> dict[str, Any]:
    explained, holes = sorted_out(found)
    return {
        "components": [
            {
                "name": each.name,
                "instances": each.instances,
                "bits": each.bits,
                "bits_used": each.bits_used,
                "branches": each.branches,
                "branches_used": each.branches_used,
            }
            for each in found
        ],
        "holes": [f"{name} {hole}" for name, hole in holes],
        "branch_holes": [f"{each.name} {hole}" for each in found for hole in each.branch_holes],
        "explained": {
            why: [f"{name} {hole}" for name, hole in bits] for why, bits in explained.items()
        },
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Count and print; 1 if a program has what none can have, or the hardware is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--bins", action="store_true", help="print every bin with its hits")
    parser.add_argument("--only", choices=PARTS, help="this part alone")
    options = parser.parse_args(argv)
    chosen = [options.only] if options.only else PARTS
    try:
        parts = instruction_coverage() if "instructions" in chosen else None
        found = netlist_coverage() if "netlist" in chosen else None
    except (AssertionError, SiligradError) as error:
        print(f"benchmarks.coverage: {str(error).splitlines()[0]}", file=sys.stderr)
        return 1
    if options.json:
        result = {} if parts is None else {"instructions": _to_json(parts)}
        if found is not None:
            result["netlist"] = _netlist_to_json(found)
        print(json.dumps(result, indent=1))
    else:
        texts = [] if parts is None else [describe_instructions(parts, bins=options.bins)]
        texts += [] if found is None else [describe_netlist(found)]
        print("\n\n".join(texts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
