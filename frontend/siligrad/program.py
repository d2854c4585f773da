"""The static program: instructions, tensors in the three memories, what they mean to a user.

A program is complete: with it alone a device can be loaded, run and read. It is made by
:func:`siligrad.compile` and kept in an image file (:mod:`siligrad.image`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siligrad import image, lfsr, tree
from siligrad.baked import Baked
from siligrad.checker import CheckError, accumulator_bound, check_instructions, operand_limit
from siligrad.errors import DataError
from siligrad.files import replacing
from siligrad.fixed import QFormat
from siligrad.isa import (
    ONE_STEP,
    SHIFT_MAX,
    Geometry,
    Instruction,
    Loop,
    Memory,
    encode_program,
)
from siligrad.tensor import Argument, Role, Tensor
from siligrad.timing import run_cycles

__all__ = ["Argument", "Program", "Role", "Tensor"]


@dataclass(frozen=True)
class Program:
    """What a device runs.

    Parameters
    ----------
    name
        Name of the compiled function.
    geometry
        The accelerator it is compiled for.
    instructions
        In order.
    tensors
        Every word of the three memories that is used belongs to one of these.
    arguments, result
        How the user's arrays map to tensors.
    initial
        Codes, by tensor index, written when the program is loaded.
    macs
        Multiply-accumulates of the mathematics in each instruction (no filling, no bias sums).
    sources
        The user's line behind each instruction.
    notes
        What the compiler decided that a user should know, such as a rounded learning rate.
    loop
        How many steps a run takes, and how far the tensors that move do so in each.
    """

    name: str
    geometry: Geometry
    instructions: tuple[Instruction, ...]
    tensors: tuple[Tensor, ...]
    arguments: tuple[Argument, ...]
    result: Argument
    initial: Mapping[int, NDArray[np.int32]] = field(repr=False)
    macs: tuple[int, ...] = ()
    sources: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    loop: Loop = ONE_STEP

    def __post_init__(self) -> None:
        check_instructions(self.instructions, self.geometry, self.loop)
        n = self.geometry.array
        for tensor in self.tensors:
            end = self.end(tensor)
            if tensor.base % n or end > self.geometry.depth(tensor.memory):
                raise DataError(
                    f"{tensor.name} takes words {tensor.base} to {end - 1} of "
                    f"{tensor.memory.name}, which has {self.geometry.depth(tensor.memory)} "
                    "words a bank"
                )
        self._check_sums()

    def _check_sums(self) -> None:
        """Prove that no accumulator can overflow (rule 6 of ``docs/spec/isa.md``)."""
        most = (1 << (self.geometry.sum_bits - 1)) - 1
        for index, instruction in enumerate(self.instructions):
            product = instruction.product
            terms = []
            for segment in instruction.segments:
                a = 1 << segment.ones_shift
                if not segment.ones:
                    a = self._limit_at(product.a, segment.a_base, index)
                b = self._limit_at(product.b, segment.b_base, index)
                terms.append((segment.k, a, b))
            bound = accumulator_bound(terms)
            if bound > most:
                raise CheckError(
                    f"instruction {index}: its sums may reach {bound}, which needs "
                    f"{bound.bit_length() + 1} bits, but accumulators have "
                    f"{self.geometry.sum_bits}; build the target with more sum_bits, or "
                    "scale the inputs down"
                )

    def _limit_at(self, memory: Memory, address: int, index: int) -> int:
        """Return the largest magnitude of an operand read from word `address` of `memory`."""
        n = self.geometry.array
        limits = [
            tensor.limit
            for tensor in self.tensors
            if tensor.memory == memory and tensor.base <= address < tensor.base + tensor.words(n)
        ]
        if not limits:
            raise CheckError(
                f"instruction {index} reads word {address} of {memory.name}, which nothing owns"
            )
        geometry = self.geometry
        return operand_limit(max(limits), geometry.word_bits, geometry.operand_bits)

    @cached_property
    def cycles(self) -> int:
        """Busy cycles of a run, all of its steps; exact."""
        return run_cycles(self.instructions, self.geometry.array, self.loop.steps)

    @cached_property
    def checksum(self) -> int:
        """CRC-32 of the image, as in its header."""
        return image.checksum(self.to_bytes())

    @property
    def utilisation(self) -> float:
        """Multiply-accumulates of the mathematics over those that the array could have done."""
        macs = self.loop.steps * sum(self.macs)
        return macs / (self.geometry.array**2 * self.cycles)

    @property
    def formats(self) -> dict[str, QFormat]:
        """Format of each argument's arrays, by name.

        It can be handed to another :func:`siligrad.compile`.
        """
        return {
            self.tensors[index].name: self.tensors[index].format
            for argument in self.arguments
            for index in argument.tensors
        }

    def words_used(self, memory: Memory) -> int:
        """Words in each bank of `memory` up to the last one that has an owner."""
        return max((self.end(t) for t in self.tensors if t.memory == memory), default=0)

    def end(self, tensor: Tensor) -> int:
        """First word after `tensor`, in the last step of a run if it moves."""
        last = (self.loop.steps - 1) * self.loop.stride(tensor.memory) if tensor.moves else 0
        return tensor.base + last + tensor.words(self.geometry.array)

    def updates(self, instruction: Instruction) -> bool:
        """Return whether `instruction` updates a tensor that stays in the device."""
        return any(
            (tensor.memory, tensor.base) == (instruction.destination, instruction.d_base)
            for tensor in self.tensors
            if tensor.role == Role.RESIDENT
        )

    def slowed(self, halvings: int) -> Program:
        """Return the program with its learning rate halved so many times (doubled if negative).

        Only the shift of the updates differs: a device that has the one loaded takes the other with
        :meth:`siligrad.device.Device.reload` and goes on.

        Raises
        ------
        DataError
            If nothing is updated, or a shift does not exist.
        """
        instructions = []
        for instruction in self.instructions:
            changed = instruction
            if self.updates(instruction):
                shift = instruction.shift + halvings
                if not 0 <= shift <= SHIFT_MAX:
                    raise DataError(
                        f"the update of {self.name!r} would be shifted by {shift} bits; "
                        f"0 to {SHIFT_MAX} are possible"
                    )
                changed = replace(instruction, shift=shift)
            instructions.append(changed)
        if not any(self.updates(instruction) for instruction in instructions):
            raise DataError(f"program {self.name!r} updates nothing, so it has no rate to change")
        return replace(self, instructions=tuple(instructions))

    def encode(self, index: int, value: Any) -> dict[int, NDArray[np.int32]]:
        """Return the codes, by tensor index, of argument `index` given as the user's nested arrays.

        Shape ``(rows, columns)`` each; a tensor that moves has one for each step, along a new first
        axis of the user's array and of the codes.

        Raises
        ------
        DataError
            If the nesting, a shape or a value does not fit; the message names the array.
        """
        argument = self.arguments[index]
        leaves, structure = tree.flatten(value)
        if structure != argument.structure:
            raise DataError(
                f"argument {argument.name} must be nested like {argument.structure}, "
                f"not like {structure}"
            )
        return {
            tensor: self._encode(self.tensors[tensor], leaf)
            for tensor, leaf in zip(argument.tensors, leaves, strict=True)
        }

    def _encode(self, tensor: Tensor, leaf: ArrayLike) -> NDArray[np.int32]:
        if not tensor.moves:
            return tensor.encode(leaf)
        steps = np.asarray(leaf, dtype=np.float64)
        wanted = (self.loop.steps, *tensor.shape)
        if steps.shape != wanted:
            raise DataError(
                f"{tensor.name} has shape {wanted}, one of {tensor.shape} for each step of a run, "
                f"not {steps.shape}"
            )
        return np.stack([tensor.encode(step) for step in steps])

    def place(
        self, codes: Mapping[int, NDArray[np.int32]]
    ) -> Iterator[tuple[Memory, int, NDArray[np.int32]]]:
        """Yield where codes, by tensor index, belong: memory, first address, words of its banks.

        Words have the shape ``(count, N)``, tiled and skewed.
        """
        for index, matrices in codes.items():
            tensor = self.tensors[index]
            stride = self.loop.stride(tensor.memory)
            for step, matrix in enumerate(matrices if tensor.moves else [matrices]):
                words = tensor.pack(matrix, self.geometry.array)
                yield tensor.memory, tensor.base + step * stride, words

    def baked(self, seed: int = 0) -> Baked:
        """Return what an accelerator holds that was loaded with the program, for its configuration.

        Words that nothing owns are zero; stochastic rounding starts from `seed`.

        Raises
        ------
        DataError
            If the CRC-32 of the image is zero, which stands for no image (one in 2**32).
        """
        if not (checksum := self.checksum):
            raise DataError(
                f"program {self.name!r} has an image whose CRC-32 is 0, which stands for none: "
                "compile it with another name"
            )
        geometry = self.geometry
        memories = {
            memory: np.zeros((geometry.depth(memory), geometry.array), np.int32)
            for memory in Memory
        }
        for memory, address, words in self.place(self.initial):
            memories[memory][address : address + len(words)] = words
        return Baked(
            image=checksum,
            geometry=geometry,
            lines=tuple(encode_program(self.instructions)),
            banks={
                memory: tuple(tuple(bank) for bank in words.T.tolist())
                for memory, words in memories.items()
            },
            states=lfsr.seed_lanes(seed, geometry.array),
            loop=self.loop,
            limit=self.cycles,
        )

    def memory_map(self) -> str:
        """Return a table of every tensor: memory, words, size, format, role, name."""
        n = self.geometry.array
        lines = []
        for memory in Memory:
            depth = self.geometry.depth(memory)
            used = self.words_used(memory)
            lines.append(
                f"{memory.name}: {used} of {depth} words in each of {n} banks ({used / depth:.0%})"
            )
            owned = (tensor for tensor in self.tensors if tensor.memory == memory)
            for tensor in sorted(owned, key=lambda tensor: (tensor.base, tensor.name)):
                end = tensor.base + tensor.words(n) - 1
                every = ""
                if tensor.moves:
                    stride = self.loop.stride(memory)
                    every = f", {self.loop.steps} times, every {stride} words"
                lines.append(
                    f"  {tensor.base:6d} - {end:<6d} {tensor.rows:5d} x {tensor.columns:<5d} "
                    f"Q{tensor.format.bits - 1 - tensor.format.frac}.{tensor.format.frac:<3d} "
                    f"{tensor.role.name.lower():<9s} {tensor.name}{every}"
                )
        return "\n".join(lines)

    def locate(
        self, memory: Memory, address: int, bank: int
    ) -> tuple[Tensor, int, tuple[int, int]] | None:
        """Return whose word this is: the tensor, the step, and row and column of the element.

        Of several tensors that share the word, the latest made. The element may lie in the filling.
        """
        n = self.geometry.array
        for tensor in reversed(self.tensors):
            if tensor.memory != memory or not tensor.base <= address < self.end(tensor):
                continue
            step, at = 0, address
            if tensor.moves:
                step, offset = divmod(address - tensor.base, self.loop.stride(memory))
                at = tensor.base + offset
            if at < tensor.base + tensor.words(n):
                return tensor, step, tensor.locate(at, bank, n)
        return None

    def to_bytes(self) -> bytes:
        """Return the program as an image; the same program gives the same bytes."""
        return image.to_bytes(self)

    def save(self, path: str | Path) -> None:
        """Write the program as an image file, beside and renamed into place."""
        with replacing(path) as beside:
            beside.write_bytes(self.to_bytes())

    @classmethod
    def from_bytes(cls, blob: bytes, where: str = "image") -> Program:
        """Return the program in an image.

        Raises
        ------
        siligrad.image.ImageError
            If it is damaged, foreign, or of another version; the message begins with `where`.
        """
        with image.refusing(where):
            fields, cycles = image.from_bytes(blob)
            program = cls(**fields)
            if program.cycles != cycles:
                raise image.ImageError(
                    f"promises {cycles} cycles, but its instructions take {program.cycles}"
                )
            return program

    @classmethod
    def load(cls, path: str | Path) -> Program:
        """Read an image file.

        Raises
        ------
        siligrad.image.ImageError
            If it cannot be read, is damaged, foreign, or of another version.
        """
        return cls.from_bytes(image.read(path), str(path))
