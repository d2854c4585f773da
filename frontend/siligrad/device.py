"""Devices: one protocol for the reference, the simulators and a board.

A device is a subclass of :class:`Device` that moves words and starts runs; everything that knows
about tensors, formats and programs is here and shared. Devices are found by name through the entry
point group ``siligrad.devices``, so a third party can add one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from siligrad import lfsr, tree
from siligrad.errors import SiligradError
from siligrad.isa import Geometry, Loop, Memory, encode_program
from siligrad.program import Program
from siligrad.registers import Held

__all__ = [
    "CycleCountError",
    "Device",
    "DeviceError",
    "DeviceUnavailable",
    "OverrunError",
    "Report",
    "available_devices",
    "device_class",
    "open_device",
]

ENTRY_POINT_GROUP = "siligrad.devices"


class DeviceError(SiligradError):
    """A device did not do what it was asked for."""


class DeviceUnavailable(DeviceError):
    """A device cannot be opened here; the message says what it needs."""


class CycleCountError(DeviceError):
    """A run did not take the cycles that its program promises."""


class OverrunError(CycleCountError):
    """A run took more cycles than its limit, and was ended unless it ended by itself.

    The device can be used. What the memories hold depends on when the run was ended.

    Parameters
    ----------
    message
        What happened.
    cycles
        Busy cycles that the device counted.
    """

    def __init__(self, message: str, cycles: int) -> None:
        super().__init__(message)
        self.cycles = cycles


@dataclass(frozen=True, slots=True)
class Report:
    """What one run did.

    Parameters
    ----------
    cycles
        Busy cycles that the device counted.
    saturations
        Saturated elements of each instruction.
    """

    cycles: int
    saturations: tuple[int, ...]


class Device(ABC):
    """A machine of a given geometry, and the program that is loaded into it.

    A subclass implements the abstract methods; they speak of words and lines. Memory words are laid
    out ``words[address, bank]``, sign-extended codes, the skew applied.
    """

    name: ClassVar[str]
    """The name that :func:`open_device` knows the device by."""

    argument_name: ClassVar[str | None] = None
    """What stands behind a colon after the name, such as ``PORT``; None where nothing does."""

    argument: ClassVar[str] = ""
    """What stood there; see :func:`device_class`."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self._program: Program | None = None

    @classmethod
    def available(cls) -> str | None:
        """Return None if the device can be opened here, else why not, as a sentence.

        The sentence says what the device lacks and what to do.
        """
        return None

    @classmethod
    def geometry_of(cls) -> Geometry | None:
        """Return the geometry that the device has, or None if it is made for any that is asked for.

        Raises
        ------
        DeviceError
            If it has one and does not tell.
        """
        return None

    # What a subclass implements.

    @abstractmethod
    def write_lines(self, lines: Sequence[int]) -> None:
        """Write program lines (:data:`siligrad.isa.LINE_BITS` bits each) from line 0 on."""

    @abstractmethod
    def write_words(self, memory: Memory, address: int, words: NDArray[np.int32]) -> None:
        """Write ``words``, shape ``(count, N)``, from ``address`` on in every bank."""

    @abstractmethod
    def read_words(self, memory: Memory, address: int, count: int) -> NDArray[np.int32]:
        """Read ``count`` addresses of every bank, from ``address`` on; shape ``(count, N)``."""

    @abstractmethod
    def write_lfsr(self, states: Sequence[int]) -> None:
        """Set the states of the N lanes' shift registers."""

    @abstractmethod
    def read_lfsr(self) -> tuple[int, ...]:
        """Return the states of the N lanes' shift registers."""

    @abstractmethod
    def execute(self, loop: Loop, limit: int) -> int:
        """Run the loaded program from line 0, as often as `loop` says.

        Returns the busy cycles counted, at most `limit`, which is at least 1.

        Raises
        ------
        OverrunError
            If it takes more than `limit` cycles.
        DeviceError
            If it cannot be ended, or ends other than it should.
        """

    @abstractmethod
    def read_saturations(self, count: int) -> tuple[int, ...]:
        """Return the saturation counters of the first `count` instructions of the last run."""

    def held(self, program: Program) -> Held:
        """Return the memories that the device was configured with for `program`, and still has."""
        return Held(0)

    @property
    def locked(self) -> bool:
        """Whether program and W can be neither written nor read, but for what was built in."""
        return False

    @property
    def counters(self) -> Mapping[str, int]:
        """What the device has counted since it was opened, by name; nothing, most of them."""
        return {}

    def close(self) -> None:  # noqa: B027  a hook: most devices hold nothing
        """Give back what the device holds; it cannot be used afterwards."""

    # What every device shares.

    @property
    def program(self) -> Program:
        """The program that is loaded.

        Raises
        ------
        DeviceError
            If there is none.
        """
        if self._program is None:
            raise DeviceError(f"device {self.name} has no program; load one first")
        return self._program

    def load(self, program: Program, *, seed: int | None = 0) -> None:
        """Load `program`: its lines, its constants, the initial values of what is resident.

        The shift registers of stochastic rounding start from `seed`; None leaves them as they are.
        Words that `program` does not own keep their contents. What the device was configured with,
        and still :meth:`held` as it was, is not written again.

        Raises
        ------
        DeviceError
            If the program is compiled for another geometry.
        """
        if program.geometry != self.geometry:
            raise DeviceError(
                f"program {program.name!r} is compiled for {program.geometry}, but device "
                f"{self.name} is {self.geometry}; compile it for this target, or "
                "open a device for the program"
            )
        self._program = program
        held = self.held(program)
        if Held.PROGRAM not in held:
            self.write_lines(encode_program(program.instructions))
        self._write_codes({
            index: codes
            for index, codes in program.initial.items()
            if Held.of(program.tensors[index].memory) not in held
        })
        if seed is not None:
            self.write_lfsr(lfsr.seed_lanes(seed, self.geometry.array))

    def reload(self, program: Program) -> None:
        """Load the instructions of `program` and leave everything else as it is.

        For a program that differs in its instructions alone, such as ``program.slowed(1)``:
        memories and shift registers go on from where they are.

        Raises
        ------
        DeviceError
            If its tensors are not those of the program that is loaded.
        """
        old = self.program
        if (program.geometry, program.tensors, program.loop) != (
            old.geometry,
            old.tensors,
            old.loop,
        ):
            raise DeviceError(
                f"program {program.name!r} differs from {old.name!r}, which is loaded, in more "
                "than its instructions; load it instead"
            )
        self._program = program
        self.write_lines(encode_program(program.instructions))

    def write(self, name: str, value: Any) -> None:
        """Write the argument called `name`, nested as it was compiled.

        Of a run of several steps, an argument that does not stay in the device has one value for
        each step, along a new first axis of each array.

        Raises
        ------
        DeviceError
            If the program has no such argument.
        siligrad.errors.DataError
            If the value does not fit.
        """
        program = self.program
        for index, argument in enumerate(program.arguments):
            if argument.name == name:
                self._write_codes(program.encode(index, value))
                return
        known = ", ".join(argument.name for argument in program.arguments)
        raise DeviceError(f"program {program.name!r} has no argument {name!r}; it has {known}")

    def run(self, *inputs: Any, check: bool = True) -> Report:
        """Write the arguments that are not resident, in order, and run the program once.

        Parameters
        ----------
        inputs
            One for each argument that does not stay in the device; as for :meth:`write`. A program
            of several steps may also be run without, on the data set that was written before.
        check
            Raise when the cycles counted are not the cycles promised, and let the device end a run
            that takes more. Without it, only a run that takes twice as many and more is ended, and
            reported like any other: what it has computed can be compared.

        Raises
        ------
        DeviceError
            If there are too few or too many arguments, or the run cannot be ended.
        CycleCountError
            If the device took other than ``program.cycles`` cycles.
        siligrad.errors.DataError
            If an argument does not fit.
        """
        program = self.program
        wanted = [i for i, argument in enumerate(program.arguments) if not argument.resident]
        if not inputs and program.loop.steps > 1:
            wanted = []
        if len(inputs) != len(wanted):
            names = ", ".join(program.arguments[i].name for i in wanted) or "none"
            raise DeviceError(
                f"program {program.name!r} takes {len(wanted)} arguments a run ({names}), "
                f"not {len(inputs)}"
            )
        codes: dict[int, NDArray[np.int32]] = {}
        for index, value in zip(wanted, inputs, strict=True):
            codes |= program.encode(index, value)
        self._write_codes(codes)
        # A wrong machine may never end; who compares wants to see all that a late one computes.
        limit = program.cycles if check else 2 * program.cycles + 1000
        try:
            cycles = self.execute(program.loop, limit)
        except OverrunError as overrun:
            if check:
                raise CycleCountError(
                    f"program {program.name!r} promises {program.cycles} cycles: {overrun}"
                ) from overrun
            cycles = overrun.cycles
        if check and cycles != program.cycles:
            raise CycleCountError(
                f"device {self.name} took {cycles} cycles for {program.name!r}, which promises "
                f"{program.cycles}"
            )
        return Report(cycles, self.read_saturations(len(program.instructions)))

    def read(self) -> tuple[Any, ...]:
        """Return the results of the last run, decoded.

        They are the function's tuple, or a tuple of its one result. Of a run of several steps, what
        does not stay in the device has a new first axis: its value in each step.
        """
        structure = self.program.result.structure
        count = len(structure.children) if structure.kind is tuple else 1
        return tuple(self.read_result(index) for index in range(count))

    def read_result(self, index: int) -> Any:
        """Return one of the results that :meth:`read` returns, by its position.

        Raises
        ------
        DeviceError
            If there is no such result.
        """
        result = self.program.result
        whole = result.structure
        parts = whole.children if whole.kind is tuple else (whole,)
        if not 0 <= index < len(parts):
            raise DeviceError(
                f"program {self.program.name!r} has results 0 to {len(parts) - 1}, not {index}"
            )
        first = sum(part.leaf_count for part in parts[:index])
        tensors = result.tensors[first : first + parts[index].leaf_count]
        return tree.unflatten(parts[index], [self._read_tensor(i) for i in tensors])

    def dump(self) -> dict[Memory, NDArray[np.int32]]:
        """Return every word of the three memories, shape ``(depth, N)`` each."""
        return {
            memory: self.read_words(memory, 0, self.geometry.depth(memory)) for memory in Memory
        }

    def _write_codes(self, codes: Mapping[int, NDArray[np.int32]]) -> None:
        for memory, address, words in self.program.place(codes):
            self.write_words(memory, address, words)

    def _read_tensor(self, index: int) -> NDArray[np.float64]:
        tensor = self.program.tensors[index]
        loop, n = self.program.loop, self.geometry.array

        def read_step(step: int) -> NDArray[np.float64]:
            base = tensor.base + step * loop.stride(tensor.memory)
            words = self.read_words(tensor.memory, base, tensor.words(n))
            return tensor.decode(tensor.unpack(words, n))

        if tensor.moves:
            return np.stack([read_step(step) for step in range(loop.steps)])
        return read_step(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _entry(name: str) -> EntryPoint:
    entries = entry_points(group=ENTRY_POINT_GROUP)
    if name not in entries.names:
        known = ", ".join(sorted(entries.names)) or "none"
        raise DeviceUnavailable(f"there is no device {name!r}; installed devices: {known}")
    return entries[name]


def device_class(name: str) -> type[Device]:
    """Return the class of the device called `name`.

    A device that is one of several, such as a board at a port, is named with that behind a colon,
    as in ``serial:/dev/ttyUSB0``.

    Raises
    ------
    DeviceUnavailable
        If no such device is installed, what it needs to be imported is missing, or the name lacks
        what belongs behind the colon, or has something there that does not.
    """
    kind, colon, argument = name.partition(":")
    entry = _entry(kind)
    try:
        loaded = entry.load()
    except ImportError as error:
        raise DeviceUnavailable(
            f"device {kind!r} needs the Python package {error.name}: pip install 'siligrad[sim]'"
        ) from error
    assert isinstance(loaded, type)
    assert issubclass(loaded, Device)
    if loaded.argument_name is None:
        if colon:
            raise DeviceUnavailable(f"device {kind!r} is named so, not {name!r}")
        return loaded
    if not argument:
        raise DeviceUnavailable(
            f"device {kind!r} is named with its {loaded.argument_name.lower()}: "
            f"{kind}:{loaded.argument_name}"
        )
    return type(loaded.__name__, (loaded,), {"name": name, "argument": argument})


def available_devices() -> tuple[str, ...]:
    """Return the names of the installed devices."""
    return tuple(sorted(entry_points(group=ENTRY_POINT_GROUP).names))


def open_device(name: str, program: Program, *, seed: int | None = 0) -> Device:
    """Open the device called `name` with the geometry of `program`, and load the program.

    Raises
    ------
    DeviceUnavailable
        If there is no such device, or something that it needs is missing; the message says what.
    """
    device = device_class(name)(program.geometry)
    try:
        device.load(program, seed=seed)
    except BaseException:
        device.close()
        raise
    return device
