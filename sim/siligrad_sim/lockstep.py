"""Run a program on two devices side by side and compare everything that they hold.

Everything is every word of X, W and E, whether a tensor owns it or not, the states of the shift
registers, the saturation counters and the cycles. A comparison that was given nothing to compare is
an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siligrad.device import Device, Report
from siligrad.isa import Memory
from siligrad.program import Program, Tensor

__all__ = ["Comparison", "Difference", "Lockstep"]

Dump = dict[Memory, NDArray[np.int32]]


@dataclass(frozen=True, slots=True)
class Difference:
    """The first word in which two devices differ, in the order in which the program computes.

    Parameters
    ----------
    where
        What differs, in words: a tensor and its element, a register, a counter.
    memory, address, bank
        The word, if it is one of a memory.
    expected, got
        What the reference holds, and the device.
    """

    where: str
    expected: int
    got: int
    memory: Memory | None = None
    address: int = 0
    bank: int = 0

    def __str__(self) -> str:
        place = ""
        if self.memory is not None:
            place = f" (memory {self.memory.name}, word {self.address}, bank {self.bank})"
        return f"{self.where}{place} is {self.got}, but must be {self.expected}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one run on both devices showed.

    Parameters
    ----------
    reference, device
        What each reported.
    words_compared, words_different
        Of the three memories.
    first
        The first difference of any kind, if there is one.
    """

    reference: Report
    device: Report
    words_compared: int
    words_different: int
    first: Difference | None


class Lockstep:
    """Two devices of the same geometry that are given the same.

    Parameters
    ----------
    reference
        The device that is right by definition.
    device
        The device under test.
    """

    def __init__(self, reference: Device, device: Device) -> None:
        self.reference = reference
        self.device = device

    def load(self, program: Program, *, seed: int | None = 0) -> None:
        """Load `program` into both."""
        self.reference.load(program, seed=seed)
        self.device.load(program, seed=seed)

    def write(self, name: str, value: Any) -> None:
        """Write an argument in both."""
        self.reference.write(name, value)
        self.device.write(name, value)

    def run(self, *inputs: Any) -> Comparison:
        """Run once on both and compare."""
        expected = self.reference.run(*inputs)
        got = self.device.run(*inputs, check=False)
        compared = different = 0
        right, wrong = self.reference.dump(), self.device.dump()
        for memory in Memory:
            compared += right[memory].size
            different += int(np.count_nonzero(right[memory] != wrong[memory]))
        assert compared > 0
        first = self._first(right, wrong) if different else None
        first = first or self._first_outside_memory(expected, got)
        return Comparison(expected, got, compared, different, first)

    def _first(self, right: Dump, wrong: Dump) -> Difference:
        """Return the first difference in the memories.

        What instructions compute comes first, in their order, then the rest.
        """
        program = self.reference.program
        n = program.geometry.array
        computed = [
            (tensor, tensor.base + step * program.loop.stride(tensor.memory), step)
            for instruction in program.instructions
            for tensor in program.tensors
            if (tensor.memory, tensor.base) == (instruction.destination, instruction.d_base)
            for step in (range(program.loop.steps) if tensor.moves else [0])
        ]
        # All of one step come before the next one's; what does not move counts as of the first.
        for tensor, base, step in sorted(computed, key=lambda item: item[2]):
            span = slice(base, base + tensor.words(n))
            wrong_words = right[tensor.memory][span] != wrong[tensor.memory][span]
            if not wrong_words.any():
                continue
            places = [
                (tensor.locate(tensor.base + int(word), int(bank), n), int(word), int(bank))
                for word, bank in np.argwhere(wrong_words)
            ]
            (row, column), word, bank = min(places)
            inside = row < tensor.rows and column < tensor.columns
            outside = "" if inside else ", outside the matrix,"
            return self._difference(
                f"{tensor.name}[{row}, {column}]{_of_step(tensor, step)}{outside}",
                right,
                wrong,
                tensor.memory,
                base + word,
                bank,
            )
        for memory in Memory:
            for address, bank in np.argwhere(right[memory] != wrong[memory]):
                found = program.locate(memory, int(address), int(bank))
                name = "a word that nothing owns"
                if found is not None:
                    owner, step, (row, column) = found
                    name = f"{owner.name}[{row}, {column}]{_of_step(owner, step)}"
                return self._difference(name, right, wrong, memory, int(address), int(bank))
        raise AssertionError("no difference where one was counted")

    @staticmethod
    def _difference(
        where: str, right: Dump, wrong: Dump, memory: Memory, address: int, bank: int
    ) -> Difference:
        return Difference(
            where,
            int(right[memory][address, bank]),
            int(wrong[memory][address, bank]),
            memory,
            address,
            bank,
        )

    def _first_outside_memory(self, expected: Report, got: Report) -> Difference | None:
        program = self.reference.program
        pairs = zip(expected.saturations, got.saturations, strict=True)
        for index, (right, wrong) in enumerate(pairs):
            if right != wrong:
                where = f"the saturation counter of instruction {index} ({program.sources[index]})"
                return Difference(where, right, wrong)
        states = zip(self.reference.read_lfsr(), self.device.read_lfsr(), strict=True)
        for lane, (right, wrong) in enumerate(states):
            if right != wrong:
                return Difference(f"the shift register of lane {lane}", right, wrong)
        if expected.cycles != got.cycles:
            return Difference("the cycle counter", expected.cycles, got.cycles)
        return None


def _of_step(tensor: Tensor, step: int) -> str:
    return f" of step {step}" if tensor.moves else ""
