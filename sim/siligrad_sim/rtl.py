"""What the devices that simulate the hardware share: recording a waveform of every signal."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path

from siligrad.device import Device, DeviceError
from siligrad.host import HostDevice
from siligrad.isa import Geometry, Memory
from siligrad.program import Program
from siligrad.registers import Held

__all__ = ["TRACE_CYCLES", "RtlDevice", "trace"]

TRACE_CYCLES = 10_000
"""Clock cycles after which a recording ends, unless another number is asked for."""


class RtlDevice(HostDevice):
    """A device that simulates the hardware's signals, and can write them to a VCD file.

    :meth:`trace` begins a recording. It ends by itself after the cycles that it was given, or with
    :meth:`end_trace`, or with :meth:`close`; what the device does goes on without it. The file is
    written beside its place, with ``.part`` behind its name, and renamed when the recording ends.

    A subclass implements :meth:`_begin_recording` and :meth:`_end_recording`, and calls
    :meth:`end_trace` when it finds that the cycles have passed.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        self._trace: Path | None = None  # where the file belongs that is being written

    def held(self, program: Program) -> Held:
        # Words are written past the port, without the hardware's noticing.
        return super().held(program) & Held.PROGRAM

    @abstractmethod
    def _begin_recording(self, path: Path, cycles: int) -> None:
        """Record the next `cycles` clock cycles in the file `path`; raise OSError if none can."""

    @abstractmethod
    def _end_recording(self) -> None:
        """Close the file; raise OSError if not everything got into it."""

    def trace(self, path: str | os.PathLike[str], cycles: int = TRACE_CYCLES) -> None:
        """Record every signal in the VCD file `path` from now on; end a recording that is going on.

        A clock cycle takes 1 µs in pysim, 10 ns in the compiled devices. Accesses of the host take
        cycles too. What the memories hold stays, and so do the shift registers; the registers of
        the last run (cycles, saturations) may be lost.

        Parameters
        ----------
        path
            The file. One that is there is replaced when the recording ends.
        cycles
            Most clock cycles to record, at least 1.

        Raises
        ------
        ValueError
            If `cycles` is not positive.
        DeviceError
            If the file cannot be written, or the device cannot be used.
        """
        if cycles < 1:
            raise ValueError(f"cycles of a waveform must be at least 1, not {cycles}")
        self._check_usable()
        self.end_trace()
        target = Path(path).absolute()  # who changes the folder later means the same file
        try:
            self._begin_recording(_part(target), cycles)
        except OSError as error:
            raise DeviceError(_cannot_write(self.name, target, error)) from error
        self._trace = target

    def end_trace(self) -> None:
        """End the recording and move its file to its place; do nothing if none is going on.

        Raises
        ------
        DeviceError
            If the file cannot be written; then there is none.
        """
        target, self._trace = self._trace, None
        if target is None:
            return
        try:
            self._end_recording()
            _part(target).replace(target)
        except OSError as error:
            _part(target).unlink(missing_ok=True)
            raise DeviceError(_cannot_write(self.name, target, error)) from error

    def _carry_over(self, change: Callable[[], None]) -> None:
        """Go on in another simulation, with all that memories and shift registers hold.

        `change` ends this simulation and begins the other.
        """
        words, lfsr = self.dump(), self.read_lfsr()
        lines = self.read_lines(self.geometry.program_depth)
        change()
        self.write_lines(lines)
        for memory in Memory:
            self.write_words(memory, 0, words[memory])
        self.write_lfsr(lfsr)

    def close(self) -> None:
        try:
            self.end_trace()
        finally:
            super().close()


def trace(device: Device, path: str | os.PathLike[str], cycles: int = TRACE_CYCLES) -> None:
    """Record what `device` does in the VCD file `path`; see :meth:`RtlDevice.trace`.

    Raises
    ------
    DeviceError
        If `device` simulates no signals, or the file cannot be written.
    """
    if not isinstance(device, RtlDevice):
        raise DeviceError(
            f"device {device.name} has no signals to record: use cxxrtl, pysim or verilator for a "
            "waveform"
        )
    device.trace(path, cycles)


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _cannot_write(device: str, path: Path, error: OSError) -> str:
    return f"{device}: the waveform {path} cannot be written: {error.strerror or error}"
