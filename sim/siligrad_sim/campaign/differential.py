"""Run trials on devices beside the reference and compare everything.

:class:`Machines` keeps devices open between trials: before each the words of all memories, the
program and the shift registers are set, on both sides, so that nothing is left of the one before
but what a reset would not clear either.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from siligrad.device import Device, DeviceError, DeviceUnavailable, device_class
from siligrad.host import HostDevice
from siligrad.isa import Geometry, Memory, Timing
from siligrad.program import Program
from siligrad.timing import destination_tiles, schedule_of
from siligrad_sim.campaign.trial import Trial
from siligrad_sim.lockstep import Difference, Lockstep
from siligrad_sim.reference import ReferenceDevice

__all__ = [
    "Compared",
    "Machines",
    "Mismatch",
    "Written",
    "compare",
    "set_up",
    "usable_devices",
    "written",
]

OPEN_DEVICES = 16
"""Devices that are kept open at most."""


@dataclass(frozen=True, slots=True)
class Written:
    """Which write of a run a word comes from.

    Parameters
    ----------
    instruction
        Its index in the program.
    step
        Of the run.
    cycle
        Busy cycle of the run in which the memory is written.
    """

    instruction: int
    step: int
    cycle: int


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A device and the reference differ.

    Parameters
    ----------
    device
        Its name.
    run
        Number of the run after which they did.
    message
        What differs and how, in one line; what the device said if it failed.
    difference
        The first word, counter or register; None if the device failed.
    written
        Where a word of the memories was written last, if the program writes it.
    words
        Words of the memories that differ.
    """

    device: str
    run: int
    message: str
    difference: Difference | None = None
    written: Written | None = None
    words: int = 0

    def __str__(self) -> str:
        where = f"{self.device}, run {self.run}: {self.message}"
        if self.written is None:
            return where
        return (
            f"{where}; written in cycle {self.written.cycle} by instruction "
            f"{self.written.instruction}"
        )


@dataclass(frozen=True, slots=True)
class Compared:
    """What a trial on one device showed.

    Parameters
    ----------
    runs
        Completed on both sides.
    words, cycles, saturations
        Words of the memories compared, and what the reference counted, in all of them.
    mismatch
        The first difference, after which nothing was run any more.
    """

    runs: int
    words: int
    cycles: int
    saturations: int
    mismatch: Mismatch | None


class Machines:
    """Devices by name and geometry, opened when they are first needed and kept.

    Use it in a ``with`` statement, which closes them.
    """

    def __init__(self) -> None:
        self._open: dict[tuple[str, Geometry], Device] = {}

    def compare(self, trial: Trial, device: str) -> Compared:
        """Run `trial` on the device of that name beside the reference.

        Raises
        ------
        DeviceUnavailable
            If there is no such device, or something that it needs is missing.
        DeviceError
            If it cannot be opened.
        """
        machine = self.device(device, trial.program.geometry)
        result = compare(trial, machine)
        if result.mismatch is not None and result.mismatch.difference is None:
            self.forget(machine)  # it failed, and may be busy for good
        return result

    def device(self, name: str, geometry: Geometry) -> Device:
        """Return the open device of that name and geometry."""
        key = (name, geometry)
        machine = self._open.pop(key, None)
        if machine is None:
            while len(self._open) >= OPEN_DEVICES:
                self._open.pop(next(iter(self._open))).close()
            machine = device_class(name)(geometry)
        self._open[key] = machine  # the one used last is the last to be closed
        return machine

    def forget(self, machine: Device) -> None:
        """Close an open device; when it is needed again it is opened anew."""
        for key, each in list(self._open.items()):
            if each is machine:
                del self._open[key]
        machine.close()

    def close(self) -> None:
        """Close all devices."""
        while self._open:
            self._open.popitem()[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def compare(trial: Trial, machine: Device) -> Compared:
    """Run `trial` on an open device beside the reference, until they differ."""
    program = trial.program
    reference = ReferenceDevice(program.geometry)
    pair = Lockstep(reference, machine)
    words = cycles = saturations = 0
    set_up(trial, reference)
    try:
        set_up(trial, machine)
    except DeviceError as error:
        return Compared(0, 0, 0, 0, Mismatch(machine.name, 0, f"while loading: {error}"))
    for run in range(len(trial.runs)):
        try:
            found = pair.run(*trial.inputs(run))
        except DeviceUnavailable:
            raise
        except DeviceError as error:
            failed = Mismatch(machine.name, run, str(error))
            return Compared(run, words, cycles, saturations, failed)
        words += found.words_compared
        cycles += found.reference.cycles
        saturations += sum(found.reference.saturations)
        if found.first is not None:
            at = None
            if found.first.memory is not None:
                at = written(program, found.first.memory, found.first.address, found.first.bank)
            different = Mismatch(
                machine.name, run, str(found.first), found.first, at, found.words_different
            )
            return Compared(run + 1, words, cycles, saturations, different)
    return Compared(len(trial.runs), words, cycles, saturations, None)


def set_up(trial: Trial, machine: Device) -> None:
    """Set everything that a trial begins with: all words, the program, the shift registers."""
    for cut in (True, False) if trial.cut and isinstance(machine, HostDevice) else (False,):
        for memory in Memory:
            machine.write_words(memory, 0, trial.leftover[memory])
        machine.load(trial.program, seed=trial.seed)
        if cut:
            with suppress(DeviceError):  # that it was cut off
                machine.execute(trial.program.loop, trial.cut)


def written(program: Program, memory: Memory, address: int, bank: int) -> Written | None:
    """Return the last write of a word in a run, or None if the program does not write it."""
    n = program.geometry.array
    timing = Timing(n)
    count = len(program.instructions)
    when = schedule_of(program.instructions, program.loop.steps)
    for position in reversed(range(len(when))):
        step, index = divmod(position, count)
        instruction = program.instructions[index].in_step(program.loop, step)
        if instruction.destination != memory:
            continue
        tiles = destination_tiles(instruction)
        hits = [tile for tile, base in enumerate(tiles.ravel()) if base <= address < base + n]
        if not hits:
            continue
        row = address - int(tiles.ravel()[hits[-1]])
        if instruction.d_column:  # what is computed as a row is stored as a column
            row = (bank - row) % n
        end = when[position].start + (hits[-1] + 1) * instruction.tile_cycles - 1
        return Written(index, step, end + timing.write + n - 1 - row)
    return None


def usable_devices(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return those of the devices that can be opened here, and why the others cannot."""
    usable, reasons = [], []
    for name in names:
        try:
            reason = device_class(name).available()
        except DeviceUnavailable as error:
            reason = str(error)
        if reason is None:
            usable.append(name)
        else:
            reasons.append(f"device {name!r} cannot be used here: {reason}")
    return usable, reasons
