"""``siligrad bench cycles``: cycles of many programs, predicted beside measured."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from siligrad.errors import DataError, SiligradError
from siligrad_cli.bench.measure import DEVICE, Measurement, measure
from siligrad_cli.bench.programs import Case, compile_all

__all__ = ["CASES", "add_parser", "as_row", "table"]

AD08 = (64, 72, 72, 8, 72, 72, 64)
"""The autoencoder of MLPerf Tiny's anomaly detection as hls4ml submitted it (arXiv:2206.11791)."""

CASES = (
    Case((64, 32, 10), array=8, batch=16, kind="step"),
    Case((784, 128, 10), array=8, batch=32, kind="step"),
    Case(AD08, array=8, batch=1, kind="inference"),
    Case(AD08, array=8, batch=8, kind="inference"),
    Case(AD08, array=8, batch=8, kind="step", autoencoder=True),
    Case(AD08, array=8, batch=32, kind="step", autoencoder=True),
    Case((784, 64, 10), array=2, batch=16, kind="inference"),
    Case((784, 64, 10), array=2, batch=16, kind="step"),
    Case((784, 128, 64, 10), array=4, batch=4, kind="inference"),
    Case((784, 128, 64, 10), array=4, batch=32, kind="step"),
    Case((784, 256, 128, 10), array=16, batch=32, kind="step"),
)
"""What is measured; those of one array size one after the other, they share a machine."""


def add_parser(benches: Any) -> None:
    """Add the sub-command to the parser."""
    parser = benches.add_parser(
        "cycles",
        help="cycles of inference and of training steps, predicted and measured",
        description="Compile networks for arrays of several sizes, run each program once with "
        "random data, and print the cycles that the compiler promised beside those that the device "
        "counted. Every word of its memories is compared with the reference. Utilisation is the "
        "multiply-accumulates of the mathematics over those that the array could have done: "
        "filling, biases and waiting count as waste. Exit status 1 if a word or a cycle differs.",
    )
    parser.add_argument(
        "--device",
        default=DEVICE,
        metavar="NAME",
        help=f"verilator, cxxrtl or another installed device (default {DEVICE}); the reference "
        "counts what the specification says, and simulates nothing",
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="NETWORK",
        help="measure this network alone, such as 784-128-10; may be repeated",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the rows as JSON, only that; progress is on stderr in either case",
    )
    parser.set_defaults(run=_command)


def _command(options: argparse.Namespace) -> int:
    chosen = _chosen(options.only)
    # Compiled together even if few are run, so that they find the simulators that are there.
    compiled = [each for each in compile_all(CASES) if each.case in chosen]
    found = list(measure(compiled, options.device))
    if options.json:
        print(json.dumps([as_row(each) for each in found], indent=1))
    else:
        print(table(found, options.device))
    for each in found:
        if each.difference is not None:
            raise SiligradError(f"{each.compiled.case}: {each.difference}")
    return 0


def _chosen(networks: Sequence[str] | None) -> list[Case]:
    """Return the cases of `networks`; all of them where none is named.

    Raises
    ------
    DataError
        If there is no such network.
    """
    known = list(dict.fromkeys(case.network for case in CASES))
    for network in networks or ():
        if network not in known:
            raise DataError(f"--only {network}: no network is called so; {', '.join(known)} are")
    return [case for case in CASES if networks is None or case.network in networks]


def as_row(measurement: Measurement) -> dict[str, Any]:
    """Return the row of the table as what :mod:`json` writes."""
    case, program = measurement.compiled.case, measurement.compiled.program
    return {
        "network": case.network,
        "array": case.array,
        "batch": case.batch,
        "kind": case.kind,
        "cycles_predicted": program.cycles,
        "cycles_measured": measurement.cycles,
        "macs": sum(program.macs),
        "utilisation": measurement.utilisation,
    }


def table(found: Sequence[Measurement], device: str) -> str:
    """Return the measurements as a table for people, with what was compared below it."""
    width = max(len(each.compiled.case.network) for each in found)
    head = f"{'network':<{width}}  {'kind':<9}  array  batch  {'predicted':>9}  {'measured':>9}"
    lines = [f"{head}  {'a sample':>9}  utilisation"]
    for each in found:
        case = each.compiled.case
        square = f"{case.array}x{case.array}"
        lines.append(
            f"{case.network:<{width}}  {case.kind:<9}  {square:>5}  {case.batch:>5}  "
            f"{each.compiled.program.cycles:>9}  {each.cycles:>9}  "
            f"{each.cycles / case.batch:>9.1f}  {each.utilisation:>11.1%}"
        )
    words = sum(each.words_compared for each in found)
    different = sum(each.words_different for each in found)
    lines.append(f"\n{words} words of {device} compared with the reference, {different} different")
    return "\n".join(lines)
