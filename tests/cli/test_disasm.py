from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest

from siligrad import tree
from siligrad.fixed import QFormat
from siligrad.isa import (
    AuxMode,
    Gate,
    Geometry,
    Instruction,
    Loop,
    Memory,
    Product,
    Rounding,
    Segment,
    decode_program,
    encode_program,
)
from siligrad.program import Argument, Program, Role, Tensor
from siligrad_cli.disassemble import disassemble
from siligrad_cli.main import main

GOLDEN = """\
# by_hand: 2 instructions, 70 cycles
# array 4, words of 16 bits, operands of 16, sums of 40
# words a bank: 16 in X, 8 in W, 12 in E; 7 of 16 lines
    0  0   m_tiles=1 p_tiles=1 product=xw destination=e rows_last=3 d_base=4<made 0> d_m=4 d_p=4 shift=3 gate=relu delay=2  # y = relu(x @ w + b)
    2  +   k=4 a_base=0<x> a_m=4 a_k=4 b_base=0<w> b_p=4 b_k=4
    3  +   k=1 b_base=4<b> b_p=4 b_k=4 pad=1 ones_shift=2 ones=1
    4  1   m_tiles=1 p_tiles=1 product=xe destination=w rows_last=4 d_base=0<w> d_m=4 d_p=4 aux_base=0<w> aux_m=4 aux_p=4 shift=1 rounding=stochastic aux_mode=add negate=1 delay=21  # w - x.T @ y
    6  +   k=3 a_base=0<x> a_m=4 a_k=4 b_base=4<made 0> b_p=4 b_k=4 pad=1 a_column=0"""  # noqa: E501


def by_hand() -> Program:
    """A program whose every field is known: y = relu(x @ w + b); w -= x.T @ y."""

    def tensor(name: str, role: Role, memory: Memory, base: int, rows: int) -> Tensor:
        return Tensor(name, role, memory, base, rows, 4, (rows, 4), QFormat(16, 8), 1000)

    forward = Instruction(
        m_tiles=1,
        p_tiles=1,
        product=Product.XW,
        destination=Memory.E,
        rows_last=3,
        d_base=4,
        d_m=4,
        d_p=4,
        segments=(
            Segment(k=4, a_m=4, a_k=4, b_p=4, b_k=4),
            Segment(k=1, b_base=4, b_p=4, b_k=4, pad=1, ones=1, ones_shift=2),
        ),
        shift=3,
        gate=Gate.RELU,
        delay=2,
    )
    update = Instruction(
        m_tiles=1,
        p_tiles=1,
        product=Product.XE,
        destination=Memory.W,
        rows_last=4,
        d_base=0,
        d_m=4,
        d_p=4,
        segments=(Segment(k=3, a_m=4, a_k=4, b_base=4, b_p=4, b_k=4, pad=1, a_column=0),),
        aux_m=4,
        aux_p=4,
        shift=1,
        rounding=Rounding.STOCHASTIC,
        aux_mode=AuxMode.ADD,
        negate=1,
        delay=21,
    )
    leaf = tree.LEAF
    return Program(
        name="by_hand",
        geometry=Geometry(array=4, x_depth=16, w_depth=8, e_depth=12, program_depth=16),
        instructions=(forward, update),
        tensors=(
            tensor("x", Role.INPUT, Memory.X, 0, 3),
            tensor("w", Role.RESIDENT, Memory.W, 0, 4),
            tensor("b", Role.RESIDENT, Memory.W, 4, 1),
            tensor("made 0 (y = relu(x @ w + b))", Role.TEMPORARY, Memory.E, 4, 3),
        ),
        arguments=(
            Argument("x", leaf, (0,)),
            Argument("w", leaf, (1,), True),
            Argument("b", leaf, (2,), True),
        ),
        result=Argument("result", leaf, (1,)),
        initial={1: numpy.ones((4, 4), numpy.int32), 2: numpy.ones((1, 4), numpy.int32)},
        macs=(48, 48),
        sources=("y = relu(x @ w + b)", "w - x.T @ y"),
    )


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "by_hand.sgp"
    by_hand().save(path)
    return path


def test_the_text_is_the_golden_text(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["disasm", str(image)]) == 0
    assert capsys.readouterr().out == GOLDEN + "\n"


def rebuilt(item: dict[str, Any], kind: type[Any], **more: Any) -> Any:
    """Return an instruction or a segment from what is shown of it."""
    enums: dict[str, Any] = {
        "product": Product,
        "destination": Memory,
        "rounding": Rounding,
        "aux_mode": AuxMode,
        "gate": Gate,
    }
    values = {}
    for name, value in item.items():
        shown = value["word"] if isinstance(value, dict) else value
        values[name] = enums[name][shown.upper()] if name in enums else shown
    return kind(**values, **more)


def test_nothing_is_left_out(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the JSON the very lines of the program can be encoded again."""
    assert main(["disasm", str(image), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    instructions = []
    for item in content["instructions"]:
        segments = tuple(rebuilt(segment, Segment) for segment in item.pop("segments"))
        del item["line"], item["source"]
        instructions.append(rebuilt(item, Instruction, segments=segments))
    lines = encode_program(by_hand().instructions)
    assert encode_program(instructions) == lines
    assert decode_program(lines) == instructions
    assert content["geometry"]["e_depth"] == 12


def test_a_run_of_several_steps_shows_its_loop() -> None:
    program = by_hand()
    assert "# loop" not in disassemble(program)
    first = replace(program.instructions[0], delay=40)  # w is written by then
    looped = replace(program, loop=Loop(steps=3), instructions=(first, program.instructions[1]))
    assert "# loop steps=3\n" in disassemble(looped)


def test_words_that_nothing_owns_are_said_to_be_memory() -> None:
    program = by_hand()
    moved = replace(program.instructions[0], d_base=8)
    text = disassemble(replace(program, instructions=(moved,), macs=(), sources=()))
    assert "d_base=8<E[8]>" in text
    assert text.count(" # ") == 0


def test_a_damaged_image_is_one_line(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blob = bytearray(image.read_bytes())
    blob[-1] ^= 1
    image.write_bytes(blob)
    assert main(["disasm", str(image)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"siligrad: {image}: damaged")
    assert error.count("\n") == 1
