"""``siligrad compile``: a network file to an image, every cycle and every word accounted for."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import siligrad as sg
from siligrad.errors import DataError, SiligradError
from siligrad.explain import explain
from siligrad.isa import Memory
from siligrad_cli.network import load_network, telling_the_line
from siligrad_cli.options import add_function, add_target, positive

__all__ = ["add_parser", "describe"]

DEPTHS = {
    "x_depth": "words in each bank of X",
    "w_depth": "words in each bank of W",
    "e_depth": "words in each bank of E",
    "program_depth": "lines of program memory",
}
"""Sizes that an accelerator may have already, and what they are."""

PICTURES = (".svg", ".png")
"""What pictures can be written as."""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "compile",
        help="compile the function in a Python file to an image, and say where its cycles go",
        description="Compile a function of a Python file of yours to a static program. The file "
        "defines the function (step, or what --function says) and arguments(), which returns "
        "examples of its arguments; optionally donate, resident (names of parameters) and "
        "calibration(), which returns more examples.",
    )
    parser.add_argument("network", type=Path, metavar="NET.py", help="your file; it is executed")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="image to write, such as step.sgp"
    )
    add_function(parser)
    add_target(parser)
    for depth, meaning in DEPTHS.items():
        parser.add_argument(
            f"--{depth.replace('_', '-')}",
            type=int,
            metavar="D",
            help=f"{meaning} of the target (default: what the program needs)",
        )
    parser.add_argument(
        "--steps",
        type=positive,
        default=1,
        metavar="S",
        help="steps of a run, whose data lie in the memories at once (default 1)",
    )
    parser.add_argument(
        "--headroom",
        type=int,
        default=1,
        metavar="B",
        help="bits kept free above the largest magnitude of the examples (default 1)",
    )
    parser.add_argument(
        "--round-factors",
        action="store_true",
        help="round a learning rate that is no power of two instead of refusing it",
    )
    parser.add_argument(
        "--explain",
        action="store_true",
        help="for each instruction: its line, shapes, memories, cycles, what it waits for and why",
    )
    parser.add_argument("--json", action="store_true", help="print that as JSON, only that")
    parser.add_argument(
        "--timeline", type=_picture, metavar="FILE", help="draw the run over time (.svg or .png)"
    )
    parser.add_argument(
        "--memory-map",
        type=_picture,
        metavar="FILE",
        help="draw which tensor has which words, and how long (.svg or .png); print it too",
    )
    parser.set_defaults(run=_command)


def _picture(text: str) -> Path:
    path = Path(text)
    if path.suffix not in PICTURES:
        raise argparse.ArgumentTypeError(f"must end in {' or '.join(PICTURES)}, not {text!r}")
    return path


def _command(options: argparse.Namespace) -> int:
    say: Callable[[str], None] = (lambda _: None) if options.json else print
    target = sg.Target(
        array=options.array,
        operand_bits=options.operand_bits,
        sum_bits=options.sum_bits,
        word_bits=options.word_bits,
        **{depth: getattr(options, depth) for depth in DEPTHS},
    )
    network = load_network(options.network, options.function, options.batch)
    with telling_the_line(options.network):
        program = sg.compile(
            network.function,
            *network.arguments,
            target=target,
            donate=network.donate,
            resident=network.resident,
            calibration=network.calibration,
            headroom=options.headroom,
            round_factors=options.round_factors,
            steps=options.steps,
        )
    explanation = explain(program)
    say(describe(program))
    if options.explain:
        say(f"\n{explanation}")
    if options.explain or options.memory_map:
        say(f"\n{program.memory_map()}")
    if options.explain or options.memory_map or options.timeline:
        say("")
    if options.timeline:
        from siligrad_cli.timeline import draw_timeline  # noqa: PLC0415  it needs matplotlib

        _write(options.timeline, lambda path: draw_timeline(explanation, path))
        say(f"timeline  {options.timeline}")
    if options.memory_map:
        from siligrad_cli.memory_map import draw_memory_map  # noqa: PLC0415  it needs matplotlib

        _write(options.memory_map, lambda path: draw_memory_map(explanation, path))
        say(f"map       {options.memory_map}")
    if options.output:
        _write(options.output, program.save)
        say(f"image     {options.output}, {options.output.stat().st_size} bytes")
    elif not options.json:
        say("image     none; -o FILE writes it")
    if options.json:
        print(json.dumps(explanation.as_json(), indent=1))
    return 0


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    try:
        write(path)
    except ImportError as error:
        raise SiligradError(
            f"{path} is a picture, which needs matplotlib: pip install 'siligrad[plot]'"
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error


def describe(program: sg.Program) -> str:
    """Return size, cycles, memory use and notes of `program`, a line each."""
    geometry = program.geometry
    count = len(program.instructions)
    lines = sum(instruction.lines for instruction in program.instructions)
    use = ", ".join(
        f"{memory.name} {program.words_used(memory)} of {geometry.depth(memory)}"
        for memory in Memory
    )
    several = f" in {program.loop.steps} steps" if program.loop.steps > 1 else ""
    text = (
        f"program   {program.name}: {count} instruction{'s' * (count > 1)} in {lines} of "
        f"{geometry.program_depth} lines\n"
        f"time      {program.cycles} cycles exactly{several}, {program.utilisation:.1%} of the "
        "multipliers' time\n"
        f"array     {geometry.array} x {geometry.array}, words of {geometry.word_bits} bits, "
        f"operands of {geometry.operand_bits}, sums of {geometry.sum_bits}\n"
        f"memory    words a bank: {use}"
    )
    return text + "".join(f"\nnote      {note}" for note in program.notes)
