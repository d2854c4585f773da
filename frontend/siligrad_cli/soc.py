"""``siligrad soc``: a chip that trains by itself, in simulation; or its bitstream."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy

import siligrad as sg
from siligrad import datasets, losses, metrics, nn
from siligrad.isa import ARRAY_SIZES
from siligrad_cli import demo
from siligrad_cli.build import built_table, mhz
from siligrad_cli.hardware import needing_hardware
from siligrad_cli.options import natural, positive

if TYPE_CHECKING:
    from siligrad_sim.soc.network import Lesson
    from siligrad_sim.soc.training import Outcome

__all__ = ["add_parser", "digits_lesson"]

RATE = 2.0**-4
"""Learning rate: larger than the demo's, since there are few steps."""

_LEVELS = 17
"""Numbers that a pixel can be, 0 to 16 sixteenths."""

_BOARD_MHZ = 60.0
"""Clock on a board unless another is asked for: what comes from the RAM goes far in a cycle."""

_PROCESSORS = {"rv32i": False, "rv32im": True}
"""Whether the processor of that name has a multiplier."""


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``siligrad``."""
    parser = commands.add_parser(
        "soc",
        help="simulate a chip that trains by itself: processor, RAM, console and accelerator",
        description="Train a 64-HIDDEN-10 perceptron on handwritten digits on a system on chip, "
        "simulated from its reset on; its console is shown as it comes. Every word of its memories "
        "is compared with the reference, and the same step in software, on the same processor, "
        "with the accelerator. Exit status 1 if anything differs.",
    )
    parser.add_argument(
        "--array",
        type=int,
        default=4,
        choices=ARRAY_SIZES,
        metavar="N",
        help="size of the array, N x N (default 4)",
    )
    parser.add_argument(
        "--steps", type=positive, default=100, metavar="S", help="training steps (default 100)"
    )
    parser.add_argument(
        "--software-steps",
        type=natural,
        default=1,
        metavar="S",
        help="of them in software too, before; they are slow (default 1)",
    )
    parser.add_argument(
        "--batches",
        type=positive,
        default=20,
        metavar="B",
        help=f"batches of {demo.BATCH} images in the RAM, again and again (default 20)",
    )
    parser.add_argument(
        "--hidden", type=positive, default=32, metavar="H", help="hidden units (default 32)"
    )
    parser.add_argument(
        "--ram", type=_kib, default=64, metavar="KIB", help="size of the RAM (default 64)"
    )
    parser.add_argument(
        "--processor",
        choices=[*_PROCESSORS, "both"],
        default="both",
        help="without a multiplier, with one, or the software steps on both (default)",
    )
    parser.add_argument("--seed", type=natural, default=0, help="of everything random (default 0)")
    parser.add_argument(
        "--board",
        metavar="NAME",
        help="build the bitstream of the chip for a board (see siligrad boards) instead",
    )
    parser.add_argument(
        "--clock", type=mhz, metavar="MHZ", help="clock of the chip on the board (default 60)"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="of a build (default build/NAME-soc)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print the report as JSON, nothing else"
    )
    parser.set_defaults(run=_command)


def _kib(text: str) -> int:
    value = positive(text)
    if value > 4096 or value & (value - 1):
        raise argparse.ArgumentTypeError(f"must be a power of two up to 4096, not {value}")
    return value


def digits_lesson(
    *, array: int, steps: int, software_steps: int, batches: int, hidden: int, seed: int
) -> Lesson:
    """Return what the chip learns: the first `batches` of the bundled digits.

    Raises
    ------
    LessonError
        If there are not so many, or fewer steps than in software.
    """
    from siligrad_sim.soc.network import Lesson, LessonError  # noqa: PLC0415  optional

    data = datasets.optdigits()
    count = batches * demo.BATCH
    if count > len(data.train_labels):
        raise LessonError(
            f"{batches} batches of {demo.BATCH} images are more than the "
            f"{len(data.train_labels)} of the data set"
        )
    images, labels = data.train_images[:count], data.train_labels[:count]
    targets = losses.one_vs_rest(labels, data.classes)
    params = nn.perceptron(numpy.random.default_rng(seed), [data.inputs, hidden, data.classes])
    examples = [
        (params, images[at : at + demo.BATCH], targets[at : at + demo.BATCH])
        for at in range(0, count, demo.BATCH)
    ]

    def step(params: Any, x: Any, y: Any) -> Any:
        return demo.step(params, x, y, RATE)

    program = sg.compile(
        step,
        *examples[0],
        target=sg.Target(array=array),
        donate=0,
        calibration=examples[1:],
        headroom=2,
    )
    values = numpy.arange(_LEVELS) / (_LEVELS - 1)
    pixels = numpy.rint(images * (_LEVELS - 1)).astype(numpy.uint8)
    return Lesson(program, pixels, labels.astype(numpy.uint8), values, steps, software_steps, seed)


def _command(options: argparse.Namespace) -> int:
    with needing_hardware():
        from siligrad_sim.soc.training import train  # noqa: PLC0415  optional
    if options.board is not None:
        return _build(options)
    say: Callable[[str], None] = (lambda _: None) if options.json else _say
    names = list(_PROCESSORS) if options.processor == "both" else [options.processor]
    outcomes = {}
    for number, name in enumerate(names):
        steps = options.steps if number == 0 else max(options.software_steps, 1)
        lesson = _lesson(options, steps)
        say(f"{name}: {steps} steps (a simulator is built once, and kept)")
        outcomes[name] = train(
            lesson,
            ram_bytes=options.ram << 10,
            multiplier=_PROCESSORS[name],
            say=lambda line: say(f"  | {line}"),
        )
        if number == 0:
            first = lesson
    report = _report(first, outcomes)
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        print(_table(report))
    for name, outcome in outcomes.items():
        for difference in outcome.differences:
            print(f"siligrad: {name}: {difference}", file=sys.stderr)
    return int(any(outcome.differences for outcome in outcomes.values()))


def _lesson(options: argparse.Namespace, steps: int) -> Lesson:
    return digits_lesson(
        array=options.array,
        steps=steps,
        software_steps=options.software_steps,
        batches=options.batches,
        hidden=options.hidden,
        seed=options.seed,
    )


def _build(options: argparse.Namespace) -> int:
    """Build the bitstream of the chip, with its firmware in the RAM."""
    from siligrad_hdl.boards import find_board  # noqa: PLC0415  optional
    from siligrad_hdl.flow import build  # noqa: PLC0415  optional
    from siligrad_hdl.soc.top import SocTop, check_size  # noqa: PLC0415  optional
    from siligrad_sim.soc.firmware import build_firmware  # noqa: PLC0415  optional

    board = find_board(options.board)
    clock = board.clock(options.clock or min(board.clock_mhz, _BOARD_MHZ))
    lesson = _lesson(options, options.steps)
    multiplier = options.processor != "both" and _PROCESSORS[options.processor]
    ram_bytes = options.ram << 10
    check_size(board, lesson.program.geometry, ram_bytes)
    firmware = build_firmware(lesson, ram_bytes=ram_bytes, multiplier=multiplier)
    geometry = lesson.program.geometry
    top = SocTop(
        board,
        geometry,
        clock,
        firmware=firmware.words,
        ram_bytes=ram_bytes,
        multiplier=multiplier,
    )
    built = build(
        board,
        geometry,
        clock,
        options.output or Path("build") / f"{board.name}-soc",
        top=top,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(built_table(built, lesson.program))
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


def _report(lesson: Lesson, outcomes: dict[str, Outcome]) -> dict[str, Any]:
    """Return what was found; cycles are those of a step."""
    first = next(iter(outcomes.values()))
    data = datasets.optdigits()
    accuracy = None
    if first.params is not None:
        scores = demo.predict(first.params, data.test_images)
        accuracy = metrics.accuracy(scores, data.test_labels)
    return {
        "array": lesson.program.geometry.array,
        "steps": lesson.steps,
        "batch": lesson.inputs.rows,
        "images": len(lesson.images),
        "words_compared": first.words_compared,
        "test_accuracy": accuracy,
        "processors": {name: _processor(outcome) for name, outcome in outcomes.items()},
    }


def _processor(outcome: Outcome) -> dict[str, Any]:
    said, firmware = outcome.said, outcome.firmware

    def each(cycles: str, steps: str) -> float | None:
        return said[cycles] / said[steps] if cycles in said and said.get(steps) else None

    software = each("software cycles", "software steps")
    accelerator = each("accelerator cycles", "accelerator steps")
    busy = each("of them busy", "accelerator steps")

    def ratio(cycles: float | None) -> float | None:
        return software / cycles if software and cycles else None

    return {
        "cycles": said.get("cycles"),
        "software_cycles": software,
        "accelerator_cycles": accelerator,
        "busy_cycles": busy,
        "speed_up": ratio(accelerator),
        "speed_up_busy": ratio(busy),
        "code_bytes": firmware.sections[".text"],
        "constant_bytes": firmware.sections[".rodata"],
        "ram_bytes": firmware.symbols["zero_end"],
        "differences": list(outcome.differences),
    }


def _table(report: dict[str, Any]) -> str:
    """Return the report in lines, a column for each processor."""
    processors = report["processors"]
    columns = list(processors.values())
    rows = [("", *processors)]
    for title, key, form in (
        ("firmware, bytes of code", "code_bytes", "{:,}"),
        ("image, data set, tables, bytes", "constant_bytes", "{:,}"),
        ("RAM in use, without the stack", "ram_bytes", "{:,}"),
        ("cycles from reset to the end", "cycles", "{:,}"),
        ("cycles of a step in software", "software_cycles", "{:,.0f}"),
        ("cycles of a step, batch written", "accelerator_cycles", "{:,.0f}"),
        ("of them the accelerator's", "busy_cycles", "{:,.0f}"),
        ("speed-up, batch written", "speed_up", "{:,.1f}"),
        ("speed-up of the accelerator alone", "speed_up_busy", "{:,.0f}"),
    ):
        values = [column[key] for column in columns]
        rows.append((title, *("-" if value is None else form.format(value) for value in values)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in rows
    ]
    different = sum(len(column["differences"]) for column in columns)
    accuracy = report["test_accuracy"]
    if accuracy is not None:
        lines.append(f"accuracy after {report['steps']} steps  {accuracy:.2%} of the test images")
    lines.append(
        f"words compared {report['words_compared']:,}, "
        + ("nothing differs" if not different else f"{different} differences")
    )
    return "\n".join(["", *lines])
