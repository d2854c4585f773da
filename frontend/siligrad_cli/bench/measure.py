"""Run compiled cases on a device beside the reference, and compare everything."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from siligrad.device import Device, DeviceUnavailable, device_class
from siligrad.isa import Geometry
from siligrad_cli.bench.programs import Compiled
from siligrad_sim.lockstep import Lockstep
from siligrad_sim.reference import ReferenceDevice

__all__ = ["DEVICE", "Measurement", "measure", "progress"]

DEVICE = "verilator"
"""What is measured on where nobody says otherwise."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one run of a case showed.

    Parameters
    ----------
    compiled
        What was run.
    cycles
        Busy cycles that the device counted.
    words_compared, words_different
        Of the three memories, after the run.
    difference
        The first difference from the reference, which takes the cycles that the program promises;
        None if there is none.
    """

    compiled: Compiled
    cycles: int
    words_compared: int
    words_different: int
    difference: str | None

    @property
    def utilisation(self) -> float:
        """Multiply-accumulates of the mathematics over what the array could do in these cycles."""
        program = self.compiled.program
        return sum(program.macs) / (program.geometry.array**2 * self.cycles)


def progress(text: str) -> None:
    """Tell the user what is going on: a line on stderr."""
    print(text, file=sys.stderr, flush=True)


def measure(compiled: Sequence[Compiled], device: str) -> Iterator[Measurement]:
    """Run each program once on the device called `device`, and yield what was found, in order.

    A machine is opened for each geometry and closed after the last program that wants it.

    Raises
    ------
    DeviceUnavailable
        If the device cannot be opened here; the message says what it needs.
    """
    kind = device_class(device)
    reason = kind.available()
    if reason is not None:
        raise DeviceUnavailable(f"device {device!r} cannot be used here: {reason}")
    machine: Device | None = None
    try:
        for each in compiled:
            geometry = each.program.geometry
            if machine is None or machine.geometry != geometry:
                if machine is not None:
                    machine.close()
                machine = _open(kind, geometry)
            progress(f"running  {each.case}")
            yield _run(each, machine)
    finally:
        if machine is not None:
            machine.close()


def _open(kind: type[Device], geometry: Geometry) -> Device:
    n = geometry.array
    progress(f"opening  {n} x {n} in {kind.name} (a simulator is built once, and kept)")
    return kind(geometry)


def _run(compiled: Compiled, machine: Device) -> Measurement:
    program = compiled.program
    # Words that the program does not own keep what an earlier one left: both begin with zeros.
    reference = ReferenceDevice(program.geometry)
    for memory, words in reference.dump().items():
        machine.write_words(memory, 0, words)
    pair = Lockstep(reference, machine)
    pair.load(program)
    found = pair.run(*compiled.inputs)
    return Measurement(
        compiled,
        found.device.cycles,
        found.words_compared,
        found.words_different,
        None if found.first is None else str(found.first),
    )
