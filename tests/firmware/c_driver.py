"""The C driver in this process: its sources in a shared library, called through ctypes."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FIRMWARE",
    "READ32",
    "WRITE32",
    "Bus",
    "Driver",
    "DriverError",
    "build_library",
    "c_compiler",
    "load_library",
    "python_bus",
    "sources",
]

FIRMWARE = Path(__file__).parents[2] / "firmware"
HERE = Path(__file__).parent

READ32 = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32, ctypes.POINTER(ctypes.c_uint32)
)
WRITE32 = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32)


class Bus(ctypes.Structure):
    """``struct siligrad_bus``."""

    _fields_ = (("context", ctypes.c_void_p), ("read32", READ32), ("write32", WRITE32))


class TensorRecord(ctypes.Structure):
    """``struct siligrad_tensor``."""

    _fields_ = (
        ("scale", ctypes.c_uint64),
        *((name, ctypes.c_uint32) for name in ("name", "base", "rows", "columns")),
        ("fraction", ctypes.c_int32),
        ("limit", ctypes.c_int32),
        ("words", ctypes.c_uint32),
        *((name, ctypes.c_uint8) for name in ("role", "memory", "flags", "loaded")),
    )


class Accelerator(ctypes.Structure):
    """``struct siligrad``."""

    _fields_ = (
        ("bus", Bus),
        ("array", ctypes.c_uint32),
        ("built", ctypes.c_uint32 * 5),
        ("tensor_count", ctypes.c_uint32),
        ("tensors", ctypes.POINTER(TensorRecord)),
        ("names", ctypes.c_void_p),
        ("instructions", ctypes.c_uint32),
        ("steps", ctypes.c_uint32),
        ("cycles", ctypes.c_uint64),
        ("run", ctypes.c_uint32 * 6),
        ("shift", ctypes.c_uint32),
        ("gap", ctypes.c_uint32),
        ("error", ctypes.c_int32),
    )


class DriverError(Exception):
    """A function of the driver returned a negative value."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def c_compiler(*names: str) -> str:
    """Return the first of these C compilers that is here."""
    for name in names or ("cc", "gcc", "clang"):
        if (path := shutil.which(name)) is not None:
            return path
    raise AssertionError(f"none of the C compilers {', '.join(names)} is on PATH: make machine")


def sources() -> list[Path]:
    """Return the sources of the driver."""
    return sorted((FIRMWARE / "src").glob("*.c"))


def build_library(folder: Path, *flags: str) -> Path:
    """Compile the driver, and the bus to simulations, to a shared library in `folder`."""
    library = folder / "driver.so"
    command: Sequence[Any] = [
        *(c_compiler(), "-std=c99", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror"),
        *("-shared", "-fPIC", *flags, "-I", FIRMWARE / "include", "-o", library),
        *(*sources(), HERE / "simulation_bus.c"),
    ]
    subprocess.run([str(word) for word in command], check=True)
    return library


def load_library(path: Path) -> ctypes.CDLL:
    """Load the library at `path` and declare what it has."""
    library = ctypes.CDLL(str(path))
    word, pointer = ctypes.c_uint32, ctypes.c_void_p
    device = ctypes.POINTER(Accelerator)
    strides = (ctypes.c_ssize_t, ctypes.c_ssize_t)
    for name, arguments in {
        "siligrad_open": (device, ctypes.POINTER(Bus)),
        "siligrad_load_begin": (pointer, device, ctypes.c_int, pointer, word, pointer, word),
        "siligrad_load": (pointer, pointer, word),
        "siligrad_load_end": (pointer,),
        "siligrad_find_tensor": (device, ctypes.c_char_p),
        "siligrad_write_tensor": (device, word, word, pointer, *strides),
        "siligrad_read_tensor": (device, word, word, pointer, *strides),
        "siligrad_start": (device,),
        "siligrad_poll": (device,),
        "siligrad_wait": (device, word),
        "siligrad_run": (device, word),
        "siligrad_read_cycles": (device, ctypes.POINTER(ctypes.c_uint64)),
        "siligrad_read_saturations": (device, pointer, word),
        "siligrad_seed": (device, ctypes.c_uint64),
        "siligrad_read_lfsr": (device, pointer),
        "siligrad_write_lfsr": (device, pointer),
        "siligrad_slow": (device, ctypes.c_int),
        "siligrad_strerror": (ctypes.c_int,),
    }.items():
        getattr(library, name).argtypes = arguments
    library.siligrad_strerror.restype = ctypes.c_char_p
    for name in ("siligrad", "siligrad_tensor", "siligrad_loader"):
        size = getattr(library, f"sizeof_{name}")
        size.restype = ctypes.c_size_t
    assert library.sizeof_siligrad() == ctypes.sizeof(Accelerator)
    assert library.sizeof_siligrad_tensor() == ctypes.sizeof(TensorRecord)
    return library


def python_bus(read: Callable[[int], int], write: Callable[[int, int], None]) -> Bus:
    """Return a bus that reads and writes words by word address; an OSError is a failed access."""

    def read32(_: Any, offset: int, value: Any) -> int:
        try:
            value[0] = read(offset // 4)
        except OSError as error:
            return error.errno or 1
        return 0

    def write32(_: Any, offset: int, value: int) -> int:
        try:
            write(offset // 4, value)
        except OSError as error:
            return error.errno or 1
        return 0

    return Bus(None, READ32(read32), WRITE32(write32))


class Driver:
    """An accelerator that the C driver has opened; errors become :class:`DriverError`."""

    def __init__(self, library: ctypes.CDLL, bus: Bus) -> None:
        self.library = library
        self.device = Accelerator()
        self._bus = bus  # its callbacks must live as long as this
        self.call("siligrad_open", ctypes.byref(bus))

    def call(self, name: str, *arguments: Any) -> int:
        """Call a function that takes the device first."""
        return self._checked(getattr(self.library, name)(ctypes.byref(self.device), *arguments))

    def _checked(self, code: int) -> int:
        if code < 0:
            raise DriverError(code, self.library.siligrad_strerror(code).decode())
        return code

    def load(
        self, pieces: Iterable[bytes], *, attach: bool = False, room: tuple[int, int] = (64, 8192)
    ) -> None:
        """Load an image that comes in pieces, with room for tensors and for bytes of names."""
        self._tensors = (TensorRecord * max(room[0], 1))()
        self._names = ctypes.create_string_buffer(room[1]) if room[1] else None
        self.loader = ctypes.create_string_buffer(self.library.sizeof_siligrad_loader())
        self.call_loader("begin", attach, self._tensors, room[0], self._names, room[1])
        for piece in pieces:
            self._checked(self.library.siligrad_load(self.loader, piece, len(piece)))
        self._checked(self.library.siligrad_load_end(self.loader))

    def call_loader(self, name: str, *arguments: Any) -> None:
        """Call ``siligrad_load_begin``."""
        function = getattr(self.library, f"siligrad_load_{name}")
        self._checked(function(self.loader, ctypes.byref(self.device), *arguments))

    def find(self, name: str) -> int:
        """Return the index of a tensor."""
        return self.call("siligrad_find_tensor", name.encode())

    def write(self, name: str, codes: NDArray[Any], step: int = 0) -> None:
        """Write a tensor; a view of a larger array, or a transposed one, is passed as it is."""
        assert codes.dtype == np.int16
        assert codes.ndim == 2
        strides = [stride // 2 for stride in codes.strides]
        self.call("siligrad_write_tensor", self.find(name), step, codes.ctypes.data, *strides)

    def read(self, name: str, step: int = 0) -> NDArray[np.int16]:
        """Read a tensor."""
        index = self.find(name)
        record = self.device.tensors[index]
        codes = np.zeros((record.rows, record.columns), np.int16)
        self.call("siligrad_read_tensor", index, step, codes.ctypes.data, record.columns, 1)
        return codes

    def run(self, polls: int = 100_000) -> None:
        """Run the program and wait."""
        self.call("siligrad_run", polls)

    @property
    def cycles(self) -> int:
        """Busy cycles of the last run, as the accelerator counted them."""
        cycles = ctypes.c_uint64()
        self.call("siligrad_read_cycles", ctypes.byref(cycles))
        return cycles.value

    def saturations(self, count: int | None = None) -> tuple[int, ...]:
        """Return the counters of the last run."""
        counts = (ctypes.c_uint32 * 1024)()
        wanted = self.device.instructions if count is None else count
        self.call("siligrad_read_saturations", counts, wanted)
        return tuple(counts[:wanted])

    def read_lfsr(self) -> tuple[int, ...]:
        """Return the states of the shift registers."""
        states = (ctypes.c_uint32 * 16)()
        self.call("siligrad_read_lfsr", states)
        return tuple(states[: self.device.array])

    def write_lfsr(self, states: Sequence[int]) -> None:
        """Set the states of the shift registers."""
        self.call("siligrad_write_lfsr", (ctypes.c_uint32 * 16)(*states))
