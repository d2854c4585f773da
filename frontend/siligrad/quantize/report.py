"""What quantization does to every tensor of a program: ranges, clipping, and noise.

A device runs the program, and the function that it was compiled from runs beside it in floating
point; the two are compared tensor by tensor, those that exist only for a while included.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siligrad import tree
from siligrad.device import Device
from siligrad.errors import DataError
from siligrad.fixed import QFormat, narrow
from siligrad.isa import Memory
from siligrad.program import Program, Role, Tensor
from siligrad.quantize.calibration import Magnitudes
from siligrad.quantize.tensors import correspond

__all__ = ["QuantizationReport", "TensorQuantization", "measure"]


@dataclass(frozen=True, eq=False, slots=True)
class TensorQuantization:
    """What quantization does to one tensor.

    Values are those of the user's arrays: codes times the tensor's scale.

    Parameters
    ----------
    name, role, memory, format
        Those of the tensor.
    scale
        A code stands for ``code * 2**-frac * scale``.
    operand_bits
        Width of what the array multiplies, if the tensor is an operand; else None.
    magnitudes
        The magnitudes of the values in floating point, all examples.
    clipped
        How many of these values have no code: they are beyond the largest by half a step or more.
    saturations
        Elements that the instructions which write the tensor saturated, all examples.
    signal, noise
        Sums of the squares of the values in floating point, and of their differences from those of
        the device.
    operand_noise
        The same for what the array multiplies in their place; None if nothing multiplies them.
    """

    name: str
    role: Role
    memory: Memory
    format: QFormat
    scale: float
    operand_bits: int | None
    magnitudes: Magnitudes
    clipped: int
    saturations: int
    signal: float
    noise: float
    operand_noise: float | None

    @property
    def seen(self) -> float:
        """The largest magnitude in floating point."""
        return self.magnitudes.largest

    @property
    def largest(self) -> float:
        """The largest value that the format has."""
        return self.format.largest * abs(self.scale)

    @property
    def resolution(self) -> float:
        """The distance of two values."""
        return self.format.resolution * abs(self.scale)

    @property
    def unused_bits(self) -> int | None:
        """High bits that no value needs; negative where values are clipped, None if all are zero.

        The format that covers the largest magnitude has so many fraction bits more.
        """
        if self.seen == 0:
            return None
        covering = QFormat.covering(self.format.bits, self.seen / abs(self.scale))
        return covering.frac - self.format.frac

    @property
    def sqnr(self) -> float | None:
        """Signal over quantization noise of the words, in dB; None without a signal.

        ``10 log10(sum v**2 / sum (v - q)**2)``; infinite where nothing differs.
        """
        return _decibel(self.signal, self.noise)

    @property
    def operand_sqnr(self) -> float | None:
        """The same of the operands made of the words; None also where nothing multiplies them."""
        return None if self.operand_noise is None else _decibel(self.signal, self.operand_noise)

    def as_json(self) -> dict[str, Any]:
        """Return everything as numbers and strings; an infinite ratio is None, like no ratio."""
        return {
            "name": self.name,
            "role": self.role.name.lower(),
            "memory": self.memory.name,
            "bits": self.format.bits,
            "frac": self.format.frac,
            "scale": self.scale,
            "operand_bits": self.operand_bits,
            "seen": self.seen,
            "largest": self.largest,
            "unused_bits": self.unused_bits,
            "values": self.magnitudes.count,
            "clipped": self.clipped,
            "saturations": self.saturations,
            "sqnr_db": _finite(self.sqnr),
            "operand_sqnr_db": _finite(self.operand_sqnr),
        }


def _decibel(signal: float, noise: float) -> float | None:
    if signal == 0:
        return None
    return math.inf if noise == 0 else 10 * math.log10(signal / noise)


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


@dataclass(frozen=True, eq=False, slots=True)
class QuantizationReport:
    """What quantization does to every tensor of a program.

    Parameters
    ----------
    program
        That was run.
    tensors
        In the order of the program's, without identity matrices.
    saturations
        Saturated elements of each instruction, all examples.
    """

    program: Program
    tensors: tuple[TensorQuantization, ...]
    saturations: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        """Return everything as numbers and strings."""
        return {
            "program": self.program.name,
            "word_bits": self.program.geometry.word_bits,
            "operand_bits": self.program.geometry.operand_bits,
            "tensors": [tensor.as_json() for tensor in self.tensors],
            "saturations": list(self.saturations),
        }

    def __str__(self) -> str:
        """Return a table, a line a tensor; ratios in dB."""
        narrowed = self.program.geometry.dropped_bits > 0
        head = ("tensor", "in", "format", "seen", "largest", "unused", "clipped", "saturated")
        rows = [(*head, "SQNR", "operand") if narrowed else (*head, "SQNR")]
        for tensor in self.tensors:
            row = (
                _short(tensor.name),
                tensor.memory.name,
                f"Q{tensor.format.bits - 1 - tensor.format.frac}.{tensor.format.frac}",
                f"{tensor.seen:.4g}",
                f"{tensor.largest:.4g}",
                "-" if tensor.unused_bits is None else f"{tensor.unused_bits}",
                f"{tensor.clipped}",
                f"{tensor.saturations}",
                _ratio(tensor.sqnr),
            )
            rows.append((*row, _ratio(tensor.operand_sqnr)) if narrowed else row)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if column < 3 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        )


def _short(name: str) -> str:
    """Return a tensor's name without the line that computes it."""
    return name.partition(" (")[0]


def _ratio(decibel: float | None) -> str:
    if decibel is None:
        return "-"
    return "exact" if math.isinf(decibel) else f"{decibel:.1f}"


def measure(
    device: Device,
    program: Program,
    function: Callable[..., Any],
    examples: Sequence[tuple[Any, ...]],
    *,
    seed: int = 0,
) -> QuantizationReport:
    """Run `program` on `device` and `function` in floating point, and compare every tensor.

    A tensor whose words are used again is read after a run that stops before they are; so each
    example takes a few runs. What was loaded in the device is lost.

    Parameters
    ----------
    device
        Of the program's geometry.
    program, function
        The program, and what it was compiled from.
    examples
        All arguments, as :func:`siligrad.compile` takes them; the device starts from them each
        time.
    seed
        Of stochastic rounding, in each example.

    Raises
    ------
    DataError
        If there is no example, the program runs several steps, or is of another function.
    """
    if program.loop.steps > 1:
        raise DataError(
            f"program {program.name!r} runs {program.loop.steps} steps, of which only the last "
            "could be read; compile it with steps=1 to measure it"
        )
    if not examples:
        raise DataError("no examples to measure with; give at least one tuple of all arguments")
    wide = [tree.map(lambda leaf: np.asarray(leaf, np.float64), example) for example in examples]
    found = correspond(program, function, *wide[0])
    stops = [(_beginning(program, end), read) for end, read in _stops(program, found.writers)]
    sums = {
        index: _Sums(tensor, program.geometry.operand_bits if found.multiplied[index] else None)
        for index, tensor in enumerate(program.tensors)
        if found.nodes[index] is not None
    }
    saturations = np.zeros(len(program.instructions), np.int64)
    for example in wide:
        values = found.graph.values(*found.graph.flatten(*example))
        for part, read in stops:
            saturations_of_part = _run(device, part, example, seed)
            for index in sums.keys() & read:
                node = found.nodes[index]
                assert node is not None
                sums[index].add(values[node], _read_codes(device, program.tensors[index]))
        saturations += saturations_of_part  # the last part is the whole program
    tensors = []
    for index, each in sums.items():
        written = [at for at, writer in enumerate(found.writers) if writer == index]
        tensors.append(each.result(int(saturations[written].sum())))
    return QuantizationReport(program, tuple(tensors), tuple(saturations.tolist()))


def _stops(program: Program, writers: Sequence[int]) -> list[tuple[int, set[int]]]:
    """Return after how many instructions to stop, ascending, and what is to be read then.

    A tensor can be read from the instruction that writes it last to the one that writes over it.
    The last stop is the end, where everything is read that is still there.
    """
    n = program.geometry.array
    count = len(program.instructions)
    last = [-1] * len(program.tensors)
    for at, writer in enumerate(writers):
        last[writer] = at
    lost = [count] * len(program.tensors)
    for at, writer in enumerate(writers):
        over = program.tensors[writer]
        for index, tensor in enumerate(program.tensors):
            overlaps = (
                tensor.memory == over.memory
                and tensor.base < over.base + over.words(n)
                and over.base < tensor.base + tensor.words(n)
            )
            if index != writer and overlaps and last[index] < at:
                lost[index] = min(lost[index], at)
    stops: list[tuple[int, set[int]]] = []
    for index in sorted(range(len(lost)), key=lost.__getitem__):
        if not stops or stops[-1][0] <= last[index]:
            stops.append((lost[index], set()))
        stops[-1][1].add(index)
    if not stops or stops[-1][0] < count:
        stops.append((count, set()))
    return stops


def _beginning(program: Program, end: int) -> Program:
    """Return the program of the first `end` instructions."""
    return replace(
        program,
        instructions=program.instructions[:end],
        macs=program.macs[:end],
        sources=program.sources[:end],
    )


def _run(device: Device, program: Program, example: Sequence[Any], seed: int) -> NDArray[np.int64]:
    """Run `program` once, all its arguments as in `example`; return what saturated."""
    device.load(program, seed=seed)
    inputs = []
    for argument, value in zip(program.arguments, example, strict=True):
        if argument.resident:
            device.write(argument.name, value)
        else:
            inputs.append(value)
    return np.array(device.run(*inputs).saturations, np.int64)


def _read_codes(device: Device, tensor: Tensor) -> NDArray[np.int32]:
    n = device.geometry.array
    return tensor.unpack(device.read_words(tensor.memory, tensor.base, tensor.words(n)), n)


class _Sums:
    """What is added up for one tensor, example by example."""

    def __init__(self, tensor: Tensor, operand_bits: int | None) -> None:
        self._tensor = tensor
        self._operand_bits = operand_bits
        self._magnitudes = Magnitudes()
        self._clipped = 0
        self._signal = 0.0
        self._noise = 0.0
        self._operand_noise = 0.0

    def add(self, values: NDArray[Any], codes: NDArray[np.int32]) -> None:
        """Add an example: the values in floating point, and the codes of the device."""
        tensor, bits = self._tensor, self._tensor.format.bits
        exact = values.reshape(tensor.shape)
        self._magnitudes.add(exact)
        beyond = np.rint(np.ldexp(np.abs(exact / tensor.scale), tensor.format.frac))
        self._clipped += int(np.count_nonzero(beyond > tensor.format.limit))
        self._signal += float(np.vdot(exact, exact))
        difference = tensor.decode(codes) - exact
        self._noise += float(np.vdot(difference, difference))
        if self._operand_bits is not None:
            operands = narrow(codes, bits, self._operand_bits) << (bits - self._operand_bits)
            difference = tensor.decode(operands) - exact
            self._operand_noise += float(np.vdot(difference, difference))

    def result(self, saturations: int) -> TensorQuantization:
        """Return the sums, with the saturations of the instructions that write the tensor."""
        tensor = self._tensor
        return TensorQuantization(
            name=tensor.name,
            role=tensor.role,
            memory=tensor.memory,
            format=tensor.format,
            scale=tensor.scale,
            operand_bits=self._operand_bits,
            magnitudes=self._magnitudes,
            clipped=self._clipped,
            saturations=saturations,
            signal=self._signal,
            noise=self._noise,
            operand_noise=None if self._operand_bits is None else self._operand_noise,
        )
