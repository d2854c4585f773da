"""``siligrad verify``: your network, and random programs, on devices beside the reference."""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import siligrad as sg
from siligrad.device import DeviceUnavailable
from siligrad.errors import SiligradError
from siligrad.files import replacing
from siligrad.isa import Geometry
from siligrad.long_work import progress_bar, stopping
from siligrad.program import Program
from siligrad_cli.network import Network, load_network, telling_the_line
from siligrad_cli.options import add_function, add_target, natural, positive
from siligrad_cli.verify.findings import Findings, network_checks, run_checks
from siligrad_cli.verify.page import render
from siligrad_sim.campaign.campaign import finished_chunks, run_campaign, summarize
from siligrad_sim.campaign.chunk import Plan
from siligrad_sim.campaign.differential import Machines, usable_devices
from siligrad_sim.campaign.failure import load_failure

__all__ = ["add_parser"]

DEVICES = ("verilator", "icarus")
"""What runs beside the reference where nobody says otherwise, as far as it is there."""

CHUNK = 25
"""Random programs that one worker runs at a time."""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "verify",
        help="run your network, and random programs, beside the reference; compare every word",
        description="Compile the function in a Python file of yours (as siligrad compile reads it) "
        "and run it on devices beside the reference: with your data, with the largest numbers, "
        "with zeros, at random; then random programs for the same accelerator. Every word, "
        "register and cycle is compared; exit status 1 if one differs. Without a file: random "
        "programs alone.",
    )
    parser.add_argument(
        "network", type=Path, nargs="?", metavar="NET.py", help="your file; it is executed"
    )
    parser.add_argument(
        "--devices",
        metavar="NAMES",
        help="with commas between; the reference is always there "
        f"(default {','.join(DEVICES)}, as far as they can be used here)",
    )
    parser.add_argument(
        "--steps", type=positive, default=50, help="runs with your data (default 50)", metavar="S"
    )
    parser.add_argument(
        "--random",
        type=natural,
        default=20,
        metavar="R",
        help="half as many variations of your network, and random programs for the rest; "
        "without a file, random programs (default 20)",
    )
    add_function(parser)
    add_target(parser)
    parser.add_argument("--seed", type=natural, default=0, help="of everything random (default 0)")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("build/verify"),
        metavar="FOLDER",
        help="where the report, failures and finished chunks go (default build/verify)",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON, only that")
    parser.add_argument(
        "--scheduler",
        default="local",
        metavar="WHERE",
        help="who runs random programs: local, or the address of a Dask cluster (default local)",
    )
    parser.add_argument(
        "--workers",
        type=positive,
        default=1,
        metavar="W",
        help="local processes for random programs (default 1)",
    )
    parser.add_argument(
        "--replay",
        type=Path,
        metavar="FOLDER",
        help="run a program again that differed, from the folder that was kept of it",
    )
    parser.set_defaults(run=_command)


def _command(options: argparse.Namespace) -> int:
    if options.replay is not None:
        return _replay(options)
    say: Callable[[str], None] = (lambda _: None) if options.json else print
    devices, skipped = _devices(options.devices)
    for reason in skipped:
        say(f"skipped   {reason}")
    program: Program | None = None
    network: Network | None = None
    if options.network is not None:
        network = load_network(options.network, options.function, options.batch)
        program = _compiled(options, network)
    findings = Findings(
        network=f"{options.network}: {options.function}" if network else None,
        program=_described(program) if program else _random_target(options),
        seed=options.seed,
        devices=devices,
        skipped=skipped,
    )
    say(f"compared  the reference with {', '.join(devices)}: {findings.program}")
    variations = options.random // 2 if network else 0
    plan = _plan(options, program, devices, options.random - variations)
    folder = options.output / f"random-{_name(plan)}"
    checks = network_checks(program, options.steps, variations, options.seed) if program else []
    total = len(devices) * sum(check.variation.runs for check in checks) + plan.programs
    watched = progress_bar(total, what="verifying", show=not options.json)
    with watched as advance, stopping() as stopped:
        if network is not None and program is not None:
            staying = {*network.donate, *network.resident}
            examples = [
                tuple(value for position, value in enumerate(each) if position not in staying)
                for each in (network.arguments, *network.calibration)
            ]
            origin = {"network": str(options.network), "function": options.function}
            run_checks(
                program,
                examples,
                checks,
                findings,
                options.output,
                origin=origin,
                stopped=stopped,
                advance=advance,
            )
        if plan.programs and not stopped():
            _forget_if_complete(plan, folder)
            summary = run_campaign(
                plan,
                folder,
                scheduler=options.scheduler,
                workers=options.workers,
                stopped=stopped,
                advance=advance,
            )
            findings.add_random(summary, devices)
        if stopped():
            print(
                "siligrad: stopped; the same command goes on with the random programs that are "
                f"not finished, in {folder}",
                file=sys.stderr,
            )
            return 130
    return _report(findings, options, say)


def _replay(options: argparse.Namespace) -> int:
    """Run what was kept of a failure."""
    trial = load_failure(options.replay)
    names = options.devices or _device_of(options.replay)
    devices, _ = _devices(names)
    status = 0
    with Machines() as machines:
        for device in devices:
            result = machines.compare(trial, device)
            if result.mismatch is None:
                print(
                    f"{device}: equal in {result.words} words and {result.cycles} cycles, "
                    f"{result.runs} runs"
                )
            else:
                print(f"siligrad: {result.mismatch}", file=sys.stderr)
                status = 1
    return status


def _device_of(folder: Path) -> str:
    """Return the device on which a failure was found."""
    path = folder / "difference.json"
    try:
        with path.open(encoding="utf-8") as file:
            device = json.loads(file.read(1 << 20))["device"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SiligradError(
            f"{path} does not say which device differed ({error}); choose one with --devices"
        ) from error
    return str(device)


def _devices(names: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the devices to run, and why others are not; one that was named must be usable."""
    wanted = list(DEVICES) if names is None else [each.strip() for each in names.split(",")]
    wanted = [each for each in dict.fromkeys(wanted) if each != "reference"]
    if not wanted:
        raise DeviceUnavailable(
            "the reference alone has nothing to be compared with; name another device, such as "
            "--devices reference,verilator"
        )
    usable, reasons = usable_devices(wanted)
    if names is not None and reasons:
        raise DeviceUnavailable(reasons[0])
    if not usable:
        raise DeviceUnavailable(f"no device can be used here: {'; '.join(reasons)}")
    return tuple(usable), tuple(reasons)


def _target(options: argparse.Namespace) -> sg.Target:
    return sg.Target(
        array=options.array,
        operand_bits=options.operand_bits,
        sum_bits=options.sum_bits,
        word_bits=options.word_bits,
    )


def _compiled(options: argparse.Namespace, network: Network) -> Program:
    with telling_the_line(options.network):
        return sg.compile(
            network.function,
            *network.arguments,
            target=_target(options),
            donate=network.donate,
            resident=network.resident,
            calibration=network.calibration,
            round_factors=True,
        )


def _plan(
    options: argparse.Namespace, program: Program | None, devices: tuple[str, ...], programs: int
) -> Plan:
    geometry = program.geometry if program else _random_geometry(options)
    return Plan(options.seed, programs, CHUNK, devices, (geometry,))


def _random_geometry(options: argparse.Namespace) -> Geometry:
    tiles = 56 * options.array  # in each bank
    return Geometry(
        array=options.array,
        operand_bits=options.operand_bits,
        sum_bits=options.sum_bits,
        word_bits=options.word_bits,
        x_depth=tiles,
        w_depth=tiles,
        e_depth=tiles,
        program_depth=128,
    )


def _random_target(options: argparse.Namespace) -> str:
    return f"random programs, array {options.array} x {options.array}"


def _described(program: Program) -> str:
    geometry = program.geometry
    return (
        f"{program.name}, {len(program.instructions)} instructions, {program.cycles} cycles a run, "
        f"array {geometry.array} x {geometry.array}, operands of {geometry.operand_bits} bits"
    )


def _name(plan: Plan) -> str:
    return f"{zlib.crc32(json.dumps(plan.identity()).encode()):08x}"


def _forget_if_complete(plan: Plan, folder: Path) -> None:
    """Begin a campaign anew that has ended; one that was stopped goes on."""
    if folder.is_dir() and not summarize(plan, folder).missing:
        for number in finished_chunks(plan, folder):
            (folder / f"chunk-{number:05d}.json").unlink()


def _report(findings: Findings, options: argparse.Namespace, say: Callable[[str], None]) -> int:
    text = json.dumps(findings.as_json(), indent=1) + "\n"
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        for name, content in (("report.json", text), ("report.html", render(findings))):
            with replacing(options.output / name) as beside:
                beside.write_text(content, encoding="utf-8")
    except OSError as error:
        raise SiligradError(
            f"{options.output} cannot be written: {error.strerror or error}"
        ) from error
    for device in dict.fromkeys(row.device for row in findings.rows):
        rows = [row for row in findings.rows if row.device == device]
        runs = sum(row.runs for row in rows)
        words = sum(row.words for row in rows)
        cycles = sum(row.cycles for row in rows)
        say(f"{device:<9} {runs} runs, {words} words, {cycles} cycles compared")
    if findings.programs:
        refused = sum(findings.discarded.values())
        say(f"random    {findings.programs} programs; {refused} more cases had none")
    say(f"report    {options.output / 'report.html'}")
    if options.json:
        print(text, end="")
    for failure in findings.failures:
        print(
            f"siligrad: {failure.message} ({failure.check}); again: siligrad verify --replay "
            f"{failure.folder}",
            file=sys.stderr,
        )
    return 0 if findings.passed else 1
