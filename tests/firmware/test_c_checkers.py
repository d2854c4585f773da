"""The C sources before compilers, sanitizers and cppcheck, and the size of what they become."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fuzz_c import image_seeds, link_seeds
from siligrad_host.header import constants_header, main
from tests.firmware.c_driver import FIRMWARE, c_compiler, sources

INCLUDE = FIRMWARE / "include"
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")
LANGUAGES = {"c": ("-x", "c", "-std=c99"), "c++": ("-x", "c++", "-std=c++17")}
RISCV = ("-march=rv32i", "-mabi=ilp32", "-Os", "-ffreestanding")

# What the compiler brings: multiplication, for there is no such instruction.
COMPILERS_OWN = r"__mul[sd]i3"

CORE = ("siligrad.c", "siligrad_load.c")
"""A whole driver."""


def run(*command: Any) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def output(*command: Any) -> str:
    done = run(*command)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_no_compiler_has_anything_to_say(compiler: str, language: str, tmp_path: Path) -> None:
    headers = []
    for header in INCLUDE.glob("*.h"):  # each must be enough by itself
        headers.append(tmp_path / f"{header.stem}.c")
        include = f'#include "{header.name}"\n'
        headers[-1].write_text(f"{include}{include}extern int none;\n")
    programs = [FIRMWARE / "examples" / "board.c"] if language == "c" else []
    for freestanding, files in (("-ffreestanding", [*sources(), *headers]), ("-fhosted", programs)):
        for file in files:
            options = (*LANGUAGES[language], *WARNINGS, freestanding, "-O2", "-I", INCLUDE)
            output(c_compiler(compiler), *options, "-c", file, "-o", tmp_path / "object.o")


def test_a_compiler_would_say_something(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.c"
    wrong.write_text('#include "siligrad.h"\nint f(uint64_t x) { return x; }\n')
    options = (*LANGUAGES["c"], *WARNINGS, "-I", INCLUDE, "-c", "-o", tmp_path / "object.o")
    done = run(c_compiler("gcc"), *options, wrong)
    assert done.returncode != 0
    assert "conversion" in done.stderr


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_example_in_the_header_compiles(language: str, tmp_path: Path) -> None:
    text = (INCLUDE / "siligrad.h").read_text(encoding="utf-8")
    lines = re.findall(r"^ \*     (.*)|^ \*()$", text.partition("#ifndef")[0], re.M)
    example = "\n".join(line for line, _ in lines)
    assert "int train(" in example
    path = tmp_path / "example.c"
    path.write_text(example)
    options = (*LANGUAGES[language], "-Wall", "-Wextra", "-Werror", "-I", INCLUDE)
    output(c_compiler(), *options, "-c", path, "-o", tmp_path / "example.o")


CPPCHECK = (
    *("cppcheck", "--enable=warning,style,performance,portability", "--inconclusive"),
    *("--std=c99", "--quiet", "--error-exitcode=1", "--suppress=missingIncludeSystem"),
    *("-I", INCLUDE),
)


def test_cppcheck_finds_nothing() -> None:
    output(*CPPCHECK, FIRMWARE / "src", FIRMWARE / "examples", FIRMWARE / "fuzz")


def test_cppcheck_would_find_something(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.c"
    wrong.write_text("int f(void) { int words[4]; words[4] = 0; return words[4]; }\n")
    assert run(*CPPCHECK, wrong).returncode == 1


@pytest.mark.parametrize("target", ["image", "link"])
def test_the_sanitizers_of_gcc_find_nothing(target: str, tmp_path: Path) -> None:
    """Good images and damaged ones, whole and in pieces; what clang says is in test_c_fuzz.py."""
    program = tmp_path / "replay"
    options = ("-std=c99", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    files = (FIRMWARE / "fuzz" / name for name in (f"fuzz_{target}.c", "replay.c"))
    output(c_compiler("gcc"), *options, "-I", INCLUDE, "-o", program, *files, *sources())
    paths = []
    seeds: Iterable[bytes] = image_seeds() if target == "image" else link_seeds()
    for number, seed in enumerate(seeds):
        paths.append(tmp_path / f"seed{number}")
        paths[-1].write_bytes(seed)
    assert output(program, *paths) == f"{len(paths)} files\n"


def compile_for_riscv(folder: Path, *names: str) -> list[Path]:
    objects = []
    for name in names:
        objects.append(folder / f"{name}.o")
        source = FIRMWARE / "src" / name
        options = (*LANGUAGES["c"], *WARNINGS, *RISCV, "-I", INCLUDE)
        output("riscv64-unknown-elf-gcc", *options, "-c", source, "-o", objects[-1])
    return objects


def test_nothing_of_a_c_library_is_needed(tmp_path: Path) -> None:
    objects = compile_for_riscv(tmp_path, *(path.name for path in sources()))
    known = "|".join([COMPILERS_OWN, r"siligrad_\w+"])
    undefined = re.findall(r"U (\S+)", output("riscv64-unknown-elf-nm", "-u", *objects))
    assert undefined
    assert [name for name in undefined if not re.fullmatch(known, name)] == []
    for compiler in ("gcc", "clang"):
        for source in sources():
            target = tmp_path / "host.o"
            output(
                c_compiler(compiler),
                "-O2",
                "-ffreestanding",
                "-I",
                INCLUDE,
                "-c",
                source,
                "-o",
                target,
            )
            names = re.findall(r"U (\S+)", output("nm", "-u", target))
            allowed = ("siligrad_", "_GLOBAL_OFFSET_TABLE_")
            assert all(name.startswith(allowed) for name in names), (source, names)


def test_nothing_is_global(tmp_path: Path) -> None:
    objects = compile_for_riscv(tmp_path, *(path.name for path in sources()))
    symbols = output("riscv64-unknown-elf-nm", *objects).splitlines()
    assert any(re.search(r" [tT] siligrad_", line) for line in symbols)
    assert [line for line in symbols if re.search(r" [BbDdGgSsC] ", line)] == []


def text_of(folder: Path, *names: str) -> int:
    """Return the bytes of text of a linked driver: code, constants, the compiler's own."""
    objects = compile_for_riscv(folder, *names)
    program = folder / "linked"
    output(
        *("riscv64-unknown-elf-gcc", *RISCV, "-nostdlib", "-Wl,-e,siligrad_open", *objects),
        *("-lgcc", "-o", program),
    )
    assert "T siligrad_load_end" in output("riscv64-unknown-elf-nm", program)
    text, data, bss = output("riscv64-unknown-elf-size", program).splitlines()[1].split()[:3]
    assert (data, bss) == ("0", "0")
    return int(text)


def test_the_driver_fits_four_kibibytes(tmp_path: Path) -> None:
    assert 3000 < text_of(tmp_path, *CORE) <= 4096
    assert text_of(tmp_path, *CORE, "siligrad_strerror.c") > 4096  # it is measured at all


def test_the_constants_are_those_of_the_library(tmp_path: Path) -> None:
    committed = INCLUDE / "siligrad_constants.h"
    text = committed.read_text(encoding="utf-8")
    assert text == constants_header(), f"python -m siligrad_host.header {committed}"
    assert main([str(tmp_path / "constants.h")]) == 0
    assert (tmp_path / "constants.h").read_text(encoding="utf-8") == text
    names = re.findall(r"#define (\w+)", text)
    assert len(names) == len(set(names))


def test_the_enumerations_of_the_header_are_those_of_the_library() -> None:
    from siligrad.isa import ARRAY_SIZES, Memory
    from siligrad.tensor import Role

    text = (INCLUDE / "siligrad.h").read_text(encoding="utf-8")
    values = {name: int(value) for name, value in re.findall(r"SILIGRAD_(\w+) = (-?\d+)", text)}
    for member in (*Memory, *Role):
        assert values[member.name] == member.value
    assert [values[name] for name in ("SIGN", "MAGNITUDE", "MOVES")] == [1, 2, 4]
    assert f"SILIGRAD_ARRAY_MAX {ARRAY_SIZES.stop - 1}\n" in text
