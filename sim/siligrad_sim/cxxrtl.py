"""The device "cxxrtl": the hardware in Yosys' C++ simulator, compiled to a shared library.

It needs no simulator besides Yosys, with which Amaranth comes, and a C++ compiler.
:func:`build_library` converts and compiles; what it makes is kept in the user's cache under the
hash of everything that went into it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
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
from siligrad_sim.netlist import accelerator_rtlil
from siligrad_sim.toolchain import ToolMissing, find_compiler, find_yosys

__all__ = ["CxxrtlDevice", "Harness", "build_library"]

_COMPILER_FLAGS = (
    "-std=c++17",
    "-fPIC",
    "-shared",
    "-DNDEBUG",
    # A memory that is read outside of its words reads zero, as in Verilog; it is no error.
    "-DCXXRTL_NDEBUG",
)

_COMMIT = re.compile(r"if \(([pi]_\w+)\.commit\(observer\)\) changed = true;")
"""How a model gives a register its next value. The comparison tells whether another evaluation is
needed, which the harness knows: never. Without it a cycle takes a quarter less."""

_OPTIMISE = "-O2"
"""See docs/design/0004-simulators.md for what was measured."""


class CxxrtlDevice(CompiledDevice):
    """The accelerator in CXXRTL; see :class:`~siligrad_sim.compiled.CompiledDevice`.

    Parameters
    ----------
    geometry
        What to simulate.
    rtlil
        The netlist to simulate, in Yosys' RTLIL, instead of what the hardware description gives for
        `geometry`: a module ``siligrad`` with the same ports. Tests hand in broken ones.
    """

    name = "cxxrtl"

    def __init__(self, geometry: Geometry, *, rtlil: str | None = None) -> None:
        self._rtlil = rtlil
        super().__init__(geometry)

    @classmethod
    def available(cls) -> str | None:
        """Return None if the device can be opened here, else what is missing and what to type."""
        if find_spec("amaranth") is None:
            return "Amaranth is missing: type `pip install 'siligrad[hdl]'`"
        try:
            find_yosys()
            find_compiler()
        except ToolMissing as error:
            return str(error)
        return None

    def _build(self, *, waveforms: bool) -> Path:
        rtlil = accelerator_rtlil(self.geometry) if self._rtlil is None else self._rtlil
        return build_library(rtlil, waveforms=waveforms)


@dataclass(frozen=True, slots=True)
class Harness:
    """The C++ side of a library.

    Parameters
    ----------
    model
        The header of the model; see ``harness.cpp``.
    source
        What is compiled: ``harness.cpp``, or something that includes it.
    """

    model: str
    source: Path

    def texts(self) -> list[bytes]:
        """Return what it adds to :func:`~siligrad_sim.compiled.harness_texts`."""
        if self.source.parent == HARNESS:
            return []
        return [path.read_bytes() for path in sorted(self.source.parent.glob("*.[ch]*"))]


_HARNESS = Harness("cxxrtl_model.h", HARNESS / "harness.cpp")


def build_library(rtlil: str, *, waveforms: bool = False, harness: Harness = _HARNESS) -> Path:
    """Convert `rtlil` to C++, compile it with the harness and return the shared library, cached.

    Two processes may do so at once.

    Parameters
    ----------
    rtlil
        The module ``siligrad``, with the ports of the accelerator.
    waveforms
        Whether the library can record waveforms, which takes longer to build.
    harness
        The C++ side; one of its own knows everything by name.

    Raises
    ------
    siligrad_sim.toolchain.ToolMissing
        If Yosys or a C++ compiler is missing.
    DeviceError
        If one of them fails; the message has the error that it told of.
    """
    yosys, compiler = find_yosys(), find_compiler()
    # Everything that has a name is in a waveform; else nothing but the ports needs one.
    debug = "-g4" if waveforms or harness != _HARNESS else "-g0"
    flags = [*_COMPILER_FLAGS, f'-DMODEL="{harness.model}"']
    flags += [f"-DWAVEFORMS={int(waveforms)}", _OPTIMISE]

    def build(folder: Path) -> None:
        (folder / "accelerator.il").write_text(rtlil, encoding="utf-8")
        script = f"read_rtlil accelerator.il; write_cxxrtl {debug} accelerator.cc"
        run_tool([*yosys.command, "-q", "-p", script], "cxxrtl", "Yosys", folder=folder)
        model = folder / "accelerator.cc"
        text = _COMMIT.sub(r"\1.curr = \1.next;", model.read_text(encoding="utf-8"))
        model.write_text(text, encoding="utf-8")
        library = folder / "accelerator.so"
        command = [*compiler.command, *flags, f"-I{folder}", f"-I{yosys.runtime}"]
        command += [f"-I{HARNESS}", f"-I{harness.source.parent}", str(harness.source)]
        command += ["-o", str(library), *compiler.flags]
        run_tool(command, "cxxrtl", "the C++ compiler")
        for path in folder.iterdir():
            if path != library:
                path.unlink()

    key: list[str | bytes] = ["cxxrtl 2", rtlil, *harness_texts(), yosys.version, debug]
    key += [*tool_identity(compiler), *flags, *harness.texts()]
    return cached_build(key, build) / "accelerator.so"
