"""What the firmware of the system on chip is told of a network: tables in C, a data set in bytes.

Declared in ``firmware/soc/network.h`` and ``software.h``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siligrad.errors import SiligradError
from siligrad.isa import Instruction, Memory, Segment
from siligrad.program import Program
from siligrad.tensor import Role, Tensor
from siligrad.timing import a_tiles, aux_tiles, b_tiles, destination_tiles

__all__ = ["Lesson", "LessonError", "network_files"]

_NO_SOFTWARE = "the software step cannot do that: set the software steps to 0"

_SEGMENTS_MAX = 8
"""As SOFTWARE_SEGMENTS_MAX of ``software.h``."""

_REPORTS = 10
"""How often the firmware says which step it has done."""


class LessonError(SiligradError):
    """A program, or a data set, with which the system on chip cannot train."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a system on chip does: train a program on a data set for a number of steps.

    Parameters
    ----------
    program
        A training step of one step a run, whose two arguments beside the weights are a batch of
        inputs and one of targets, +1 for the class of an example and -1 for others.
    images
        Shape ``(batches * batch, inputs)``, bytes: what each stands for is in `values`.
    labels
        Shape ``(batches * batch,)``, bytes: the classes.
    values
        The number that each byte stands for, shape ``(levels,)``.
    steps
        Training steps, each on the next batch; after the last batch comes the first.
    software_steps
        As many of them are done in software too, before.
    seed
        Of stochastic rounding.

    Raises
    ------
    LessonError
        If these do not fit each other, or the software step cannot do the program's instructions.
    """

    program: Program
    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    values: NDArray[np.float64]
    steps: int
    software_steps: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        program = self.program
        if program.loop.steps != 1:
            raise LessonError(
                f"program {program.name!r} takes {program.loop.steps} steps a run; the firmware "
                "runs programs of one: compile it without steps="
            )
        inputs, targets = self.inputs, self.targets
        batch, count = inputs.rows, len(self.images)
        if targets.rows != batch or not targets.sign:
            raise LessonError(
                f"the last argument of {program.name!r} must be a batch of {batch} targets of +1 "
                f"and -1, not {targets.rows} x {targets.columns}"
            )
        if count < batch or count % batch or self.images.shape != (count, inputs.columns):
            raise LessonError(
                f"images must be whole batches of {batch} rows of {inputs.columns} bytes, not of "
                f"shape {self.images.shape}"
            )
        if self.labels.shape != (count,) or int(self.labels.max()) >= targets.columns:
            raise LessonError(
                f"labels must be {count} bytes below {targets.columns}, the classes of the program"
            )
        if int(self.images.max()) >= len(self.values):
            raise LessonError(
                f"images hold the byte {int(self.images.max())}; {len(self.values)} have a value"
            )
        if not 0 <= self.software_steps <= self.steps or self.steps < 1:
            raise LessonError(
                f"steps must be at least 1 and at least the {self.software_steps} in software, "
                f"not {self.steps}"
            )

    @property
    def inputs(self) -> Tensor:
        """The tensor of a batch of inputs."""
        return self._argument(0)

    @property
    def targets(self) -> Tensor:
        """The tensor of a batch of targets."""
        return self._argument(1)

    def batch(self, step: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the inputs and targets of a step, as the program's arguments."""
        rows, classes = self.inputs.rows, self.targets.columns
        at = step * rows % len(self.images)
        targets = np.full((rows, classes), -1.0)
        targets[np.arange(rows), self.labels[at : at + rows]] = 1.0
        return self.values[self.images[at : at + rows]], targets

    def _argument(self, number: int) -> Tensor:
        moving = [argument for argument in self.program.arguments if not argument.resident]
        if len(moving) != 2 or any(len(argument.tensors) != 1 for argument in moving):
            raise LessonError(
                f"program {self.program.name!r} must take two arrays a run, inputs and targets, "
                f"not {', '.join(argument.name for argument in moving) or 'nothing'}"
            )
        return self.program.tensors[moving[number].tensors[0]]


def network_files(lesson: Lesson) -> dict[str, bytes]:
    """Return the files that the firmware is compiled with, by name; of one lesson, the same bytes.

    Raises
    ------
    LessonError
        If the software step cannot do the program's instructions.
    """
    return {
        "network.sgp": lesson.program.to_bytes(),
        "images.bin": lesson.images.astype(np.uint8).tobytes(),
        "labels.bin": lesson.labels.astype(np.uint8).tobytes(),
        "network_sizes.h": _sizes(lesson).encode(),
        "network.c": _tables(lesson).encode(),
    }


def _matrices(program: Program) -> dict[int, Tensor]:
    """Return what a load writes and is compared, by index."""
    wanted = (Role.RESIDENT, Role.CONSTANT)
    return {i: tensor for i, tensor in enumerate(program.tensors) if tensor.role in wanted}


def _sizes(lesson: Lesson) -> str:
    program, matrices = lesson.program, _matrices(lesson.program)
    sizes = {
        "ARRAY": program.geometry.array,
        "CODE_MAX": (1 << program.geometry.word_bits - 1) - 1,
        "TENSORS": len(program.tensors),
        # The driver puts a zero behind the last one's own.
        "NAME_BYTES": sum(len(tensor.name.encode()) + 1 for tensor in program.tensors) + 1,
        "MATRICES": len(matrices),
        "MATRIX_MAX": max(tensor.rows * tensor.columns for tensor in matrices.values()),
        "PRODUCTS": len(program.instructions),
        "BATCH": lesson.inputs.rows,
        "INPUTS": lesson.inputs.columns,
        "CLASSES": lesson.targets.columns,
        "BATCHES": len(lesson.images) // lesson.inputs.rows,
        "STEPS": lesson.steps,
        "SOFTWARE_STEPS": lesson.software_steps,
        "REPORT_STEPS": max(lesson.steps // _REPORTS, 1),
    }
    lines = [f"#define NETWORK_{name} {value}u" for name, value in sizes.items()]
    lines.append(f"#define NETWORK_SEED {lesson.seed % (1 << 64)}ull")
    guard = "SILIGRAD_SOC_NETWORK_SIZES_H"
    return "\n".join([f"#ifndef {guard}", f"#define {guard}", "", *lines, "", "#endif"]) + "\n"


def _tables(lesson: Lesson) -> str:
    program = lesson.program
    arguments = {
        "input": (lesson.inputs, [lesson.inputs.encode(_uniform(lesson.inputs, value))[0, 0]
                                  for value in lesson.values]),
        "target": (lesson.targets, [lesson.targets.encode(_uniform(lesson.targets, sign))[0, 0]
                                    for sign in (-1.0, 1.0)]),
    }  # fmt: skip
    software = _Software(program) if lesson.software_steps else None
    lines = ['#include "network.h"', ""]
    wanted = {*_matrices(program), *(program.tensors.index(t) for t, _ in arguments.values())}
    for index, tensor in enumerate(program.tensors):
        if software is not None or index in wanted:
            lines.append(f"static int16_t matrix_{index}[{tensor.rows * tensor.columns}];")
    lines.append("")
    for name, (tensor, codes) in arguments.items():
        index = program.tensors.index(tensor)
        lines += [
            f"int16_t *const network_{name}s = matrix_{index};",
            f"const char network_{name}_name[] = {_c_string(tensor.name)};",
            f"const int16_t network_{name}_codes[] = {{{', '.join(map(str, codes))}}};",
        ]
    lines.append("const struct network_matrix network_matrices[] = {")
    for index, tensor in _matrices(program).items():
        resident = int(tensor.role == Role.RESIDENT)
        lines.append(
            f"    {{matrix_{index}, {index}, {tensor.rows}, {tensor.columns}, {resident}}},"
        )
    lines.append("};")
    lines += software.lines() if software is not None else []
    return "\n".join(lines) + "\n"


def _uniform(tensor: Tensor, value: float) -> NDArray[np.float64]:
    return np.full(tensor.shape, value)


def _c_string(text: str) -> str:
    """Return `text` as a string literal of C."""
    plain = "".join(
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}"
        for byte in text.encode()
    )
    return f'"{plain}"'


@dataclass(frozen=True, slots=True)
class _View:
    """A matrix as the software sees it: in C, and its size."""

    text: str
    rows: int
    columns: int


class _Software:
    """The program's instructions as products of plain matrices.

    Parameters
    ----------
    program
        The program.

    Raises
    ------
    LessonError
        If operands are narrower than words, or an operand is no whole matrix.
    """

    def __init__(self, program: Program) -> None:
        geometry = program.geometry
        if geometry.operand_bits != geometry.word_bits:
            raise LessonError(
                f"operands of {geometry.operand_bits} bits over words of {geometry.word_bits} "
                "cannot be trained with in software: set the software steps to 0"
            )
        self._program = program
        # Which tensor is at an address: the one that was last made there.
        made = (Role.INPUT, Role.RESIDENT, Role.CONSTANT)
        self._at = {
            (tensor.memory, tensor.base): index
            for index, tensor in enumerate(program.tensors)
            if tensor.role in made
        }
        self._made = set(self._at.values())

    def lines(self) -> list[str]:
        """Return the tables in C."""
        lines, products = [], []
        for number, instruction in enumerate(self._program.instructions):
            if len(instruction.segments) > _SEGMENTS_MAX:
                raise LessonError(
                    f"instruction {number} has {len(instruction.segments)} segments, more than "
                    f"{_SEGMENTS_MAX}; {_NO_SOFTWARE}"
                )
            lines.append(f"static const struct software_segment segments_{number}[] = {{")
            lines += [f"    {self._segment(instruction, s)}," for s in instruction.segments]
            lines.append("};")
            products.append(f"    {self._product(number, instruction)},")
        return [*lines, "const struct software_product network_products[] = {", *products, "};"]

    def _segment(self, instruction: Instruction, segment: Segment) -> str:
        n, product = self._program.geometry.array, instruction.product
        a = "{0, 0, 0}"
        if not segment.ones:
            tiles = a_tiles(instruction, segment, n)
            a = self._view(product.a, tiles, transposed=not segment.a_column).text
        tiles = b_tiles(instruction, segment, n)
        b = self._view(product.b, tiles, transposed=bool(segment.b_column)).text
        return f"{{{a}, {b}, {segment.k}, {segment.ones}, {segment.ones_shift}}}"

    def _product(self, number: int, instruction: Instruction) -> str:
        n = self._program.geometry.array
        aux = "{0, 0, 0}"
        if instruction.uses_aux:
            tiles = aux_tiles(instruction)
            transposed = bool(instruction.aux_column)
            aux = self._view(instruction.product.aux, tiles, transposed=transposed).text
        tiles = destination_tiles(instruction)
        self._make(instruction.destination, int(tiles[0, 0]))
        d = self._view(instruction.destination, tiles, transposed=bool(instruction.d_column))
        rows = (instruction.m_tiles - 1) * n + instruction.rows_last
        if rows != d.rows or instruction.p_tiles != -(-d.columns // n):
            raise LessonError(f"instruction {number} writes a part of a matrix; {_NO_SOFTWARE}")
        fields = (
            f"segments_{number}",
            d.text,
            aux,
            d.rows,
            d.columns,
            len(instruction.segments),
            instruction.shift,
            int(instruction.rounding),
            int(instruction.aux_mode),
            int(instruction.gate),
            int(instruction.negate),
        )
        return f"{{{', '.join(map(str, fields))}}}"

    def _make(self, memory: Memory, base: int) -> None:
        """Note which tensor is made at `base`: the next one that was not, else the one there."""
        for index, tensor in enumerate(self._program.tensors):
            if (tensor.memory, tensor.base) == (memory, base) and index not in self._made:
                self._at[memory, base] = index
                self._made.add(index)
                return

    def _view(self, memory: Memory, tiles: NDArray[np.int64], *, transposed: bool) -> _View:
        """Return the matrix, or its transpose, whose tiles these are; shape ``(rows, columns)``."""
        n = self._program.geometry.array
        index = self._at.get((memory, int(tiles[0, 0])))
        if index is None:
            raise LessonError(
                f"no matrix begins at word {tiles[0, 0]} of {memory.name}; {_NO_SOFTWARE}"
            )
        tensor = self._program.tensors[index]
        across = tensor.tiles(n)[1]
        row, column = np.arange(tiles.shape[0])[:, None], np.arange(tiles.shape[1])
        i, j = (column, row) if transposed else (row, column)
        if not np.array_equal(tiles, tensor.base + (i * across + j) * n):
            raise LessonError(f"{tensor.name} is not used as a whole; {_NO_SOFTWARE}")
        if transposed:
            return _View(f"{{matrix_{index}, 1, {tensor.columns}}}", tensor.columns, tensor.rows)
        return _View(f"{{matrix_{index}, {tensor.columns}, 1}}", tensor.rows, tensor.columns)
