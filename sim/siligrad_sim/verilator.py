"""The device "verilator": the hardware's Verilog, compiled to a shared library by Verilator.

:func:`build_library` verilates and compiles; what it makes is kept in the user's cache under the
hash of everything that went into it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from siligrad.isa import Geometry
from siligrad_sim.build_cache import cached_build
from siligrad_sim.compiled import (
    HARNESS,
    CompiledDevice,
    harness_texts,
    run_tool,
    tool_identity,
)
from siligrad_sim.netlist import accelerator_verilog, missing_for_verilog
from siligrad_sim.toolchain import (
    Compiler,
    ToolMissing,
    Verilator,
    find_compiler,
    find_verilator,
)

__all__ = ["VerilatorDevice", "build_library"]

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

_FEATURES = ("COVERAGE", "SC", "TIMING", "TRACE_FST", "TRACE_SAIF")
"""What Verilator's library can be compiled with, and is not."""

_COMPILER_FLAGS = (
    "-std=c++17",
    "-fPIC",
    "-DVERILATOR=1",
    *(f"-DVM_{feature}=0" for feature in _FEATURES),
)

_OPTIMISE = "-O1"
"""For what runs every cycle; see docs/design/0004-simulators.md for what was measured."""

_OPTIMISE_COLD = "-O0"
"""For what runs once: initial contents, and Verilator's own library."""

_COLD = "cold"
"""The source that joins what runs once."""

_RUNTIME = ("verilated.cpp", "verilated_threads.cpp")
"""The part of Verilator's own library that a model is linked with."""

_RUNTIME_WAVEFORMS = ("verilated_vcd_c.cpp",)
"""And what a model that records is linked with besides."""


_RUNTIME_COVERAGE = ("verilated_cov.cpp",)
"""And what one that counts is linked with."""

_COVERAGE_FLAGS = ("--coverage-line", "--coverage-toggle")

_COVERAGE_SOURCE = Path(__file__).parent / "coverage" / "verilator_coverage.cpp"


class VerilatorDevice(CompiledDevice):
    """The accelerator in Verilator; see :class:`~siligrad_sim.compiled.CompiledDevice`.

    Parameters
    ----------
    geometry
        What to simulate.
    verilog
        Verilog to simulate instead of what the hardware description gives for `geometry`: a module
        with the same ports. Tests hand in broken ones.
    """

    name = "verilator"

    def __init__(self, geometry: Geometry, *, verilog: str | None = None) -> None:
        self._verilog = verilog
        super().__init__(geometry)

    @classmethod
    def available(cls) -> str | None:
        """Return None if the device can be opened here, else what is missing and what to type."""
        if (reason := missing_for_verilog()) is not None:
            return reason
        try:
            find_verilator()
            find_compiler()
        except ToolMissing as error:
            return str(error)
        return None

    def _build(self, *, waveforms: bool) -> Path:
        verilog = self._verilog
        if verilog is None:
            verilog = accelerator_verilog(self.geometry)
        return build_library(verilog, waveforms=waveforms)


def build_library(verilog: str, *, waveforms: bool = False, coverage: bool = False) -> Path:
    """Verilate and compile `verilog` with the harness and return the shared library, cached.

    Two processes may do so at once. Cost for N = 8: some ten seconds on two processors.

    Parameters
    ----------
    verilog
        The module, with the ports of the accelerator.
    waveforms
        Whether the library can record waveforms, which makes it slower even when it does not.
    coverage
        Whether it counts the lines that are executed and the bits that change, and has
        ``siligrad_coverage`` (see ``coverage/verilator_coverage.cpp``).

    Raises
    ------
    siligrad_sim.toolchain.ToolMissing
        If Verilator or a C++ compiler is missing.
    DeviceError
        If one of them fails; the message has the error that it told of.
    """
    build = _Build(find_verilator(), find_compiler(), waveforms, coverage)
    key: list[str | bytes] = ["verilated", verilog, *harness_texts(), *build.identity()]
    if coverage:
        key += [_COVERAGE_SOURCE.read_bytes(), "all of it cold, without underscores"]
    return cached_build(key, lambda folder: build.run(verilog, folder)) / "accelerator.so"


@dataclass(frozen=True, slots=True)
class _Build:
    """How a library is made of Verilog."""

    verilator: Verilator
    compiler: Compiler
    waveforms: bool
    coverage: bool

    def identity(self) -> list[str]:
        """Return everything but the sources that a library depends on."""
        tools = [self.verilator.version, *tool_identity(self.compiler)]
        return [
            *tools,
            *self._verilator_flags(),
            *self._compiler_flags(),
            *self.compiler.libraries,
            _OPTIMISE,
            _OPTIMISE_COLD,
        ]

    def run(self, verilog: str, folder: Path) -> None:
        """Leave in `folder` the library of `verilog`, and nothing else."""
        source = folder / "accelerator.v"
        if self.waveforms or self.coverage:
            # Yosys begins the names of what has none with a dollar. In a waveform they would be in
            # the way, and some readers refuse them; in coverage nobody knows them. What begins with
            # an underscore is left out of both.
            verilog = verilog.replace("\\$", "\\_$")
        source.write_text(verilog, encoding="utf-8")
        command = [*self.verilator.command, *self._verilator_flags()]
        command += ["--prefix", _PREFIX, "--Mdir", str(folder), str(source)]
        with ThreadPoolExecutor(1) as pool:
            runtime = pool.submit(self._build_runtime)
            environment = self.verilator.environment()
            run_tool(command, "verilator", "Verilator", environment=environment)
            objects = sorted(runtime.result().glob("*.o"))
        extra = [_COVERAGE_SOURCE] if self.coverage else []
        objects += self._compile(_join_small_sources(folder, extra), folder)
        library = folder / "accelerator.so"
        link = [*self.compiler.command, "-shared", "-o", str(library), *map(str, objects)]
        run_tool([*link, *self.compiler.libraries], "verilator", "the C++ compiler, linking,")
        for path in folder.iterdir():
            if path != library:
                path.unlink()

    def _build_runtime(self) -> Path:
        """Compile what every verilated model is linked with, once for all geometries."""
        names = (
            *_RUNTIME,
            *(_RUNTIME_WAVEFORMS if self.waveforms else ()),
            *(_RUNTIME_COVERAGE if self.coverage else ()),
        )
        sources = [self.verilator.root / "include" / name for name in names]
        key = ["runtime", *self.identity()]
        key += [path.read_text(encoding="utf-8") for path in sources]

        def build(folder: Path) -> None:
            self._compile(sources, folder)

        return cached_build(key, build)

    def _compile(self, sources: Sequence[Path], folder: Path) -> list[Path]:
        """Compile `sources` to objects in `folder`, on all processors."""
        include = self.verilator.root / "include"

        def compile_one(source: Path) -> Path:
            target = folder / f"{source.stem}.o"
            cold = source.stem == _COLD or source.parent == include
            command = [*self.compiler.command, *self._compiler_flags()]
            command += [_OPTIMISE_COLD if cold or self.coverage else _OPTIMISE]
            command += [f"-I{folder}", f"-I{include}", f"-I{include / 'vltstd'}"]
            command += ["-c", str(source), "-o", str(target), *self.compiler.flags]
            run_tool(command, "verilator", "the C++ compiler")
            return target

        # The largest first, so that none is left over at the end.
        order = sorted(sources, key=lambda path: path.stat().st_size, reverse=True)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(compile_one, order))

    def _verilator_flags(self) -> list[str]:
        return [
            *_VERILATOR_FLAGS,
            *(("--trace-vcd",) if self.waveforms else ()),
            *(_COVERAGE_FLAGS if self.coverage else ()),
        ]

    def _compiler_flags(self) -> list[str]:
        waveforms = int(self.waveforms)
        flags = [f"-D{name}={waveforms}" for name in ("WAVEFORMS", "VM_TRACE", "VM_TRACE_VCD")]
        if self.coverage:  # of two definitions on a command line the last one holds
            flags += ["-UVM_COVERAGE", "-DVM_COVERAGE=1"]
        return [*_COMPILER_FLAGS, *flags, '-DMODEL="verilator_model.h"']


def _join_small_sources(folder: Path, extra: Sequence[Path]) -> list[Path]:
    """Join what Verilator wrote in `folder` to few sources, with `extra`, and return them.

    Each costs half a second for Verilator's headers. What is large, and runs every cycle, stays.
    """
    generated = sorted(folder.glob(f"{_PREFIX}*.cpp"))
    cold = [path for path in generated if path.stem.endswith("Slow")]
    interface = [folder / f"{_PREFIX}.cpp", HARNESS / "harness.cpp", *extra]
    joined = {folder / "interface.cpp": interface, folder / f"{_COLD}.cpp": cold}
    for path, parts in joined.items():
        path.write_text("".join(f'#include "{part}"\n' for part in parts), encoding="utf-8")
    return [*(path for path in generated if path not in cold and path not in interface), *joined]
