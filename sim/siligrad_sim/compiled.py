"""What the devices share that compile the hardware to a shared library.

The C interface of such a library is ``harness/simulation.h``; ``harness/harness.cpp`` implements it
for a C++ model of the accelerator, whichever tool wrote the model. :class:`CompiledDevice` is the
device in front of it; :mod:`siligrad_sim.verilator` and :mod:`siligrad_sim.cxxrtl` build libraries.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import subprocess
import weakref
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siligrad.device import DeviceError, DeviceUnavailable
from siligrad.isa import Geometry
from siligrad_sim.rtl import RtlDevice
from siligrad_sim.toolchain import Compiler

__all__ = [
    "HARNESS",
    "CompiledDevice",
    "harness_texts",
    "run_tool",
    "tool_identity",
]

HARNESS = Path(__file__).parent / "harness"
"""The folder with the C++ side."""

_WAIT_CYCLES = 1 << 16
"""Cycles simulated in one call, after which Python may notice an interrupt."""


class CompiledDevice(RtlDevice):
    """The accelerator as a shared library, behind its host port; every word goes through that port.

    Opening it builds the library unless it was built before. It simulates in this process and
    advances only while it is being used. Waveforms need another library: the first :meth:`trace`
    builds it unless it was built before, and moves to it what the memories and registers hold.

    Parameters
    ----------
    geometry
        What to simulate.

    Raises
    ------
    DeviceUnavailable
        If a tool is missing.
    DeviceError
        If a tool fails, or the accelerator does not identify itself as one of this geometry.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        if (reason := self.available()) is not None:
            raise DeviceUnavailable(f"device {self.name}: {reason}")
        self._elapsed_before = 0  # in the simulation that this one has replaced
        self._waveforms = False
        self._open(waveforms=False)
        self.identify()

    @abstractmethod
    def _build(self, *, waveforms: bool) -> Path:
        """Return the shared library, built unless it was built before."""

    def _open(self, *, waveforms: bool) -> None:
        self._library = _load_library(self._build(waveforms=waveforms))
        self._simulation = self._library.siligrad_new()
        if not self._simulation:
            raise DeviceError(
                f"{self.name}: the simulation cannot be made: there is no memory for it, or the "
                "accelerator has combinational feedback"
            )
        self._free = weakref.finalize(self, self._library.siligrad_free, self._simulation)
        self._waveforms = waveforms

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._free()

    def read_word(self, address: int) -> int:
        return int(self.read_block(address, 1)[0])

    def write_word(self, address: int, value: int) -> None:
        self.write_block(address, np.array([value], dtype=np.uint32))

    def read_block(self, address: int, count: int) -> NDArray[np.uint32]:
        words = np.zeros(count, dtype=np.uint32)
        self._check_open()
        status = self._library.siligrad_read(self._simulation, address, count, words.ctypes.data)
        self._check_answer(status, address, count)
        return words

    def write_block(self, address: int, words: NDArray[np.uint32]) -> None:
        words = np.ascontiguousarray(words, dtype=np.uint32)
        self._check_open()
        status = self._library.siligrad_write(
            self._simulation, address, len(words), words.ctypes.data
        )
        self._check_answer(status, address, len(words))

    def wait(self, limit: int) -> None:
        self._check_open()
        while limit > 0:
            chunk = min(limit, _WAIT_CYCLES)
            busy = self._library.siligrad_wait(self._simulation, chunk)
            self._end_full_trace()
            if not busy:
                return
            limit -= chunk

    @property
    def elapsed(self) -> int:
        """Clock cycles simulated since the device was opened, host accesses included."""
        self._check_open()
        return self._elapsed_before + int(self._library.siligrad_elapsed(self._simulation))

    def _begin_recording(self, path: Path, cycles: int) -> None:
        path.write_bytes(b"")  # says why it cannot be written, before anything is built
        if not self._waveforms:
            self._change_library()
        if self._library.siligrad_record(self._simulation, os.fsencode(path), cycles) < 0:
            raise OSError("the simulation cannot open it")

    def _end_recording(self) -> None:
        if self._library.siligrad_stop(self._simulation) < 0:
            raise OSError("not all of it could be written; is there space left?")

    def _end_full_trace(self) -> None:
        """Give the file of a recording whose cycles have passed to its reader."""
        if self._trace and not self._library.siligrad_unrecorded(self._simulation):
            self.end_trace()

    def _change_library(self) -> None:
        """Go on in a library that can record, with all that memories and shift registers hold."""

        def change() -> None:
            self._elapsed_before, free = self.elapsed, self._free
            self._open(waveforms=True)
            free()

        self._carry_over(change)

    def _check_open(self) -> None:
        if not self._free.alive:
            raise DeviceError(f"{self.name}: the device is closed; open it anew")

    def _check_answer(self, status: int, address: int, count: int) -> None:
        self._end_full_trace()
        if status < 0:
            raise DeviceError(
                f"{self.name}: the host port did not acknowledge an access to one of the {count} "
                f"words from {address:#x} on"
            )


@cache
def _load_library(path: Path) -> ctypes.CDLL:
    """Load the shared library at `path` and declare its functions, as in simulation.h."""
    library = ctypes.CDLL(str(path))
    simulation = ctypes.c_void_p
    words = ctypes.c_void_p
    library.siligrad_new.argtypes = []
    library.siligrad_new.restype = simulation
    library.siligrad_free.argtypes = [simulation]
    library.siligrad_free.restype = None
    for function in (library.siligrad_read, library.siligrad_write):
        function.argtypes = [simulation, ctypes.c_uint32, ctypes.c_uint32, words]
        function.restype = ctypes.c_int
    library.siligrad_wait.argtypes = [simulation, ctypes.c_uint64]
    library.siligrad_wait.restype = ctypes.c_int
    for function in (library.siligrad_elapsed, library.siligrad_unrecorded):
        function.argtypes = [simulation]
        function.restype = ctypes.c_uint64
    library.siligrad_record.argtypes = [simulation, ctypes.c_char_p, ctypes.c_uint64]
    library.siligrad_record.restype = ctypes.c_int
    library.siligrad_stop.argtypes = [simulation]
    library.siligrad_stop.restype = ctypes.c_int
    return library


# What a build of a library needs.


def run_tool(
    command: Sequence[str],
    device: str,
    what: str,
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a program, in `folder` if one is given.

    Raises
    ------
    DeviceError
        If it fails: `device`, `what` it was, and the first error that it told of.
    """
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        errors = [line for line in lines if re.search(r"\berror\b", line, re.IGNORECASE)]
        said = next(iter(errors or lines[-1:]), "it says nothing")
        raise DeviceError(f"{device}: {what} failed with status {done.returncode}: {said}")


def harness_texts() -> list[bytes]:
    """Return the text of the C++ side: part of what a library is made of."""
    return [path.read_bytes() for path in sorted(HARNESS.iterdir()) if path.is_file()]


def tool_identity(compiler: Compiler) -> list[str]:
    """Return what identifies the compiler and the processor that a library is built for."""
    return [*compiler.command, compiler.version, *compiler.flags, platform.machine()]
