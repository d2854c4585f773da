"""``siligrad disasm``: an image as text, a line an instruction and a line a segment."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from enum import IntEnum
from pathlib import Path
from typing import Any

from siligrad.explain import InstructionRecord, explain
from siligrad.isa import HEADER_LINES, Instruction, Loop, Memory, Segment
from siligrad.program import Program

__all__ = ["add_parser", "disassemble"]


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "disasm",
        help="print the program of an image, field by field",
        description="Print the program of an image: a line for each instruction and each segment "
        "with every field that is not zero or its default, whose words its addresses are, and your "
        "line behind it. What the fields mean is in docs/spec/isa.md.",
    )
    parser.add_argument("image", type=Path, metavar="IMAGE", help="what siligrad compile wrote")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.set_defaults(run=_command)


def _command(options: argparse.Namespace) -> int:
    program = Program.load(options.image)
    if options.json:
        print(json.dumps(_as_json(program), indent=1))
    else:
        print(disassemble(program))
    return 0


def disassemble(program: Program) -> str:
    """Return `program` as text; the same program gives the same text.

    A line begins with the number of its line in program memory; an instruction takes two. Behind
    the base of an operand stands the tensor that owns the words then.
    """
    geometry = program.geometry
    words = ", ".join(f"{geometry.depth(memory)} in {memory.name}" for memory in Memory)
    lines = sum(instruction.lines for instruction in program.instructions)
    text = [
        f"# {program.name}: {len(program.instructions)} instructions, {program.cycles} cycles",
        f"# array {geometry.array}, words of {geometry.word_bits} bits, operands of "  # noqa: ISC004
        f"{geometry.operand_bits}, sums of {geometry.sum_bits}",
        f"# words a bank: {words}; {lines} of {geometry.program_depth} lines",
    ]
    if program.loop != Loop():
        text.append(f"# loop {_spell(_shown(program.loop))}")
    for line, what, shown, source in _listing(program):
        comment = f"  # {source}" if source else ""
        text.append(f"{line:5d}  {what:<3s} {_spell(shown)}{comment}")
    return "\n".join(text)


def _listing(program: Program) -> Iterator[tuple[int, str, dict[str, Any], str]]:
    """Yield line number, what it is, the fields that are shown, and the user's line."""
    line = 0
    records = explain(program).records
    for instruction, record in zip(program.instructions, records, strict=True):
        shown = _shown(instruction, "segments", always=("d_base",))
        if instruction.uses_aux:
            shown = _shown(instruction, "segments", always=("d_base", "aux_base"))
        yield line, f"{record.index}", _owned(shown, _header_owners(record)), record.source
        line += HEADER_LINES
        for segment, term in zip(instruction.segments, record.terms, strict=True):
            always = ("b_base",) if segment.ones else ("a_base", "b_base")
            owners = {"b_base": term.b.name}
            if term.a is not None:
                owners["a_base"] = term.a.name
            yield line, "+", _owned(_shown(segment, always=always), owners), ""
            line += 1


def _header_owners(record: InstructionRecord) -> dict[str, str]:
    owners = {"d_base": record.destination.name}
    if record.auxiliary is not None:
        owners["aux_base"] = record.auxiliary.name
    return owners


def _shown(
    item: Instruction | Segment | Loop, *left_out: str, always: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return the fields of `item` that are `always` shown or have no default, or not theirs."""
    found = {}
    for each in fields(item):
        value = getattr(item, each.name)
        required = each.default is MISSING or each.name in always
        if each.name not in left_out and (required or value != each.default):
            found[each.name] = value.name.lower() if isinstance(value, IntEnum) else value
    return found


def _owned(shown: Mapping[str, Any], owners: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: {"word": value, "owner": owners[name]} if name in owners else value
        for name, value in shown.items()
    }


def _spell(shown: Mapping[str, Any]) -> str:
    words = []
    for name, value in shown.items():
        if isinstance(value, Mapping):
            words.append(f"{name}={value['word']}<{value['owner']}>")
        else:
            words.append(f"{name}={value}")
    return " ".join(words)


def _as_json(program: Program) -> dict[str, Any]:
    instructions: list[dict[str, Any]] = []
    for line, what, shown, source in _listing(program):
        if what == "+":
            instructions[-1]["segments"].append(shown)
        else:
            instructions.append({"line": line, "source": source, **shown, "segments": []})
    geometry = {
        each.name: getattr(program.geometry, each.name) for each in fields(program.geometry)
    }
    loop = {each.name: getattr(program.loop, each.name) for each in fields(program.loop)}
    return {
        "program": program.name,
        "cycles": program.cycles,
        "geometry": geometry,
        "loop": loop,
        "instructions": instructions,
    }
