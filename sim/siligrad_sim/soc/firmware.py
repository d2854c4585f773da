"""The firmware of the system on chip: C for one network, compiled to the words of a RAM.

Its sources are in ``firmware/``, which is not installed: this works in a checkout.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from siligrad_hdl.soc import RAM_BYTES
from siligrad_sim.build_cache import cached_build
from siligrad_sim.compiled import run_tool
from siligrad_sim.soc.network import Lesson, LessonError, network_files
from siligrad_sim.toolchain import ToolMissing, first_line

__all__ = ["Firmware", "FirmwareCompiler", "build_firmware", "find_firmware_compiler"]

_SOURCES = Path(__file__).parents[3] / "firmware"

_PREFIX = "riscv64-unknown-elf-"

_FLAGS = (
    "-mabi=ilp32",
    "-O2",
    "-std=c99",
    "-ffreestanding",
    "-nostdlib",
    "-ffunction-sections",
    "-fdata-sections",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Werror",
)

_LINK = ("-Wl,--gc-sections", "-Wl,--fatal-warnings")

_BINARY, _FACTS = "firmware.bin", "facts.json"

_ALLOCATED, _SYMBOLS, _GLOBAL = 2, 2, 1
"""Flag of a section, type of the one with the symbols, and binding of one of them, in ELF."""

_DRIVER = ("siligrad.c", "siligrad_load.c", "siligrad_lfsr.c", "siligrad_strerror.c")
_OWN = ("start.S", "embedded.S", "main.c", "console.c", "software.c")


@dataclass(frozen=True, slots=True)
class FirmwareCompiler:
    """GCC for RISC-V, without an operating system, and its binutils.

    Parameters
    ----------
    prefix
        What the names of its programs begin with.
    version
        The first line that it prints about itself.
    """

    prefix: str
    version: str

    def program(self, name: str) -> str:
        """Return the name of one of its programs, ``gcc`` or ``objcopy``."""
        return self.prefix + name


@dataclass(frozen=True, eq=False)
class Firmware:
    """What the RAM of a chip begins with.

    Parameters
    ----------
    words
        From address zero on.
    sections
        Bytes of each section: ``.text``, ``.rodata`` (image and data set among it), ``.bss``.
    symbols
        Address of each global name.
    """

    words: tuple[int, ...]
    sections: Mapping[str, int]
    symbols: Mapping[str, int]


def find_firmware_compiler() -> FirmwareCompiler:
    """Find a compiler for the processor of the system on chip.

    Raises
    ------
    ToolMissing
        If there is none; the message says what to type.
    """
    for name in ("gcc", "objcopy"):
        if shutil.which(_PREFIX + name) is None:
            raise ToolMissing(
                f"a C compiler for RISC-V is missing ({_PREFIX}{name} is not on PATH), for the "
                "firmware of the system on chip: type `apt install gcc-riscv64-unknown-elf` on "
                "Debian"
            )
    return FirmwareCompiler(_PREFIX, first_line([f"{_PREFIX}gcc", "--version"]))


def build_firmware(
    lesson: Lesson, *, ram_bytes: int = RAM_BYTES, multiplier: bool = False
) -> Firmware:
    """Compile the firmware for a lesson, or take it from the cache.

    Parameters
    ----------
    lesson
        What it trains, on what, how long.
    ram_bytes
        Size of the RAM that it must fit.
    multiplier
        Whether the processor has one (rv32im), else it has none (rv32i).

    Raises
    ------
    ToolMissing
        If the compiler is missing, or the sources are, as in an installed package.
    LessonError
        If it does not fit the RAM.
    DeviceError
        If it cannot be compiled; the message has the first error.
    """
    compiler = find_firmware_compiler()
    driver = [_SOURCES / "src" / name for name in _DRIVER]
    own = [_SOURCES / "soc" / name for name in _OWN]
    headers = sorted([*(_SOURCES / "include").glob("*.h"), *(_SOURCES / "src").glob("*.h")])
    others = [*headers, *sorted((_SOURCES / "soc").glob("*.h")), _SOURCES / "soc" / "chip.ld"]
    for path in (*driver, *own):
        if not path.is_file():
            raise ToolMissing(
                f"the source {path} is missing, which a package has not: the firmware of the "
                "system on chip is built in a checkout of siligrad"
            )
    files = network_files(lesson)
    march = "-march=rv32im" if multiplier else "-march=rv32i"
    build = _Build(compiler, (march, *_FLAGS), ram_bytes, (*driver, *own))
    key: list[str | bytes] = ["firmware", compiler.version, march, *_FLAGS, *_LINK, str(ram_bytes)]
    key += [Path(__file__).read_bytes()]
    for path in (*driver, *own, *others):
        key += [path.name, path.read_bytes()]
    for name, content in files.items():
        key += [name, content]
    firmware = _read(cached_build(key, lambda folder: build.run(folder, files)))
    needed = firmware.symbols["zero_end"] + firmware.symbols["stack_bytes"]
    if needed > ram_bytes:
        data = len(files["network.sgp"]) + len(files["images.bin"]) + len(files["labels.bin"])
        raise LessonError(
            f"the firmware needs {needed} bytes of RAM, {data} of them for its image and data set, "
            f"and the RAM has {ram_bytes}: take fewer --batches, or a larger --ram"
        )
    return firmware


@dataclass(frozen=True, slots=True)
class _Build:
    """How the firmware is made."""

    compiler: FirmwareCompiler
    flags: tuple[str, ...]
    ram_bytes: int
    sources: tuple[Path, ...]

    def run(self, folder: Path, files: Mapping[str, bytes]) -> None:
        """Leave in `folder` the firmware as binary, and what ``size`` and ``nm`` say of it."""
        for name, content in files.items():
            (folder / name).write_bytes(content)
        gcc = self.compiler.program("gcc")
        include = [_SOURCES / "include", _SOURCES / "src", _SOURCES / "soc", folder]
        objects = []
        for source in (*self.sources, folder / "network.c"):
            target = folder / f"{source.stem}.o"
            command = [gcc, *self.flags, *(f"-I{path}" for path in include)]
            command += [f"-Wa,-I{folder}", "-c", str(source), "-o", str(target)]
            run_tool(command, "firmware", f"{gcc}, compiling {source.name},")
            objects.append(str(target))
        linked = folder / "firmware.elf"
        command = [gcc, *self.flags, *_LINK, f"-Wl,--defsym=RAM_BYTES={self.ram_bytes}"]
        command += ["-T", str(_SOURCES / "soc" / "chip.ld"), *objects, "-lgcc", "-o", str(linked)]
        run_tool(command, "firmware", f"{gcc}, linking,")
        binary = folder / _BINARY
        command = [self.compiler.program("objcopy"), "-O", "binary", str(linked), str(binary)]
        run_tool(command, "firmware", command[0])
        elf = _Elf(linked.read_bytes())
        facts = {
            "sections": {
                name: size for name, (size, flags) in elf.sections.items() if flags & _ALLOCATED
            },
            "symbols": elf.symbols,
        }
        (folder / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
        for path in folder.iterdir():
            if path.name not in (_BINARY, _FACTS):
                path.unlink()


def _read(folder: Path) -> Firmware:
    """Return the firmware that a build has left in `folder`."""
    facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    binary = (folder / _BINARY).read_bytes()
    words = np.frombuffer(binary + bytes(-len(binary) % 4), dtype="<u4")
    return Firmware(tuple(words.tolist()), **facts)


class _Elf:
    """What is asked of an ELF file for 32 bits, little-endian, that the compiler has just written.

    After *Tool Interface Standard, Executable and Linking Format*, version 1.2.

    Parameters
    ----------
    blob
        The file.

    Attributes
    ----------
    sections
        Size in bytes and flags, by name; those of one name are added up.
    symbols
        Value by name, of global symbols that are defined.
    """

    def __init__(self, blob: bytes) -> None:
        (offset,) = struct.unpack_from("<I", blob, 32)
        size, count, names = struct.unpack_from("<3H", blob, 46)
        headers = [struct.unpack_from("<10I", blob, offset + size * i) for i in range(count)]

        def text(table: int, at: int) -> str:
            begin = headers[table][4] + at
            return blob[begin : blob.index(0, begin)].decode()

        self.sections: dict[str, tuple[int, int]] = {}
        self.symbols: dict[str, int] = {}
        for name, kind, flags, _, begin, length, link, *_ in headers:
            title = text(names, name)
            before, _ = self.sections.get(title, (0, 0))
            self.sections[title] = before + length, flags
            if kind == _SYMBOLS:
                for symbol in struct.iter_unpack("<3I2BH", blob[begin : begin + length]):
                    if symbol[3] >> 4 == _GLOBAL and symbol[5]:
                        self.symbols[text(link, symbol[0])] = symbol[1]
