from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import siligrad as sg
from siligrad import losses, nn, optim
from siligrad.isa import Geometry
from siligrad_cli import flash
from siligrad_cli.capacity import largest_hidden
from siligrad_cli.main import main
from siligrad_hdl.accelerator import to_verilog
from siligrad_hdl.axi_lite import AxiLiteAccelerator
from siligrad_hdl.boards import BOARDS, BoardError, find_board


def test_boards_are_listed_with_what_they_get(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NEXTPNR_ECP5", "nowhere")
    assert main(["boards"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["board", "device", "usual"]
    named = {row.split()[0]: row for row in rows}
    assert re.search(
        r" LFE5U-85F-6BG381 +8 x 8 +16 +\d+ MHz +4096/8192/4096 +12 x 12 +h = \d+ on 8 x 8 +"
        "nextpnr-ecp5, ecppack +missing: nextpnr-ecp5$",
        named["ulx3s-85f"],
    )
    assert re.search(r" 2 x 2 +does not fit +nextpnr-ice40, icepack +ready$", named["icebreaker"])
    assert main(["boards", "--json"]) == 0
    records = {record["board"]: record for record in json.loads(capsys.readouterr().out)}
    assert set(records) == set(named)
    assert records["icebreaker"]["geometry"]["word_bits"] == 8
    network = records["icebreaker"]["largest_hidden"]
    assert network == {"inputs": 784, "hidden": 0, "outputs": 10, "batch": 16, "array": 2}


@pytest.mark.parametrize("name", ["ulx3s-85f", "crosslink-nx-vip", "tang-primer-20k"])
def test_the_largest_network_fits_and_one_with_a_tile_more_does_not(name: str) -> None:
    board = find_board(name)
    hidden, array = largest_hidden(board)
    assert hidden > 0

    def fits(units: int) -> bool:
        """Compile a step of another loss, and count the blocks of banks that are deep enough."""

        def step(params: Any, x: Any, y: Any) -> Any:
            def loss(params: Any, x: Any, y: Any) -> Any:
                return losses.mse(nn.predict(params, x), y)

            return optim.sgd(params, sg.grad(loss)(params, x, y), 1.25)

        params = nn.perceptron(np.random.default_rng(1), [784, units, 10])
        batch = np.ones((16, 784)), np.ones((16, 10))
        target = sg.Target(array=array)
        geometry = sg.compile(step, params, *batch, donate=0, target=target).geometry
        try:
            board.check(geometry)
        except BoardError:
            return False
        return True

    assert fits(hidden)
    assert not fits(hidden + array)


@pytest.mark.parametrize(
    ("port", "signal"),
    [("host", "host__strobe"), ("axi-lite", "axi__awaddr"), ("wishbone", "wishbone__cyc")],
)
def test_verilog_is_exported_that_another_tool_reads(
    port: str, signal: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "chip.v"
    sizes = ["--array", "2", "--x-depth", "16", "--w-depth", "16", "--e-depth", "16"]
    options = ["--port", port, "--name", "chip", *sizes, "--program-depth", "16"]
    assert main(["export", *options, "-o", str(file)]) == 0
    text = file.read_text()
    assert capsys.readouterr().out == f"{file}: module chip, {text.count(chr(10))} lines\n"
    assert re.search(rf"^module chip\(.*{signal}.*\);$", text, re.MULTILINE | re.DOTALL)
    # Nothing of a vendor is in it, so a compiler without libraries is content.
    subprocess.run(["iverilog", "-g2005", "-s", "chip", "-o", "/dev/null", file], check=True)


def test_what_is_exported_is_what_the_library_says(tmp_path: Path) -> None:
    file = tmp_path / "chip.v"
    sizes = ["--array", "2", "--operand-bits", "8", "--program-depth", "64"]
    assert main(["export", *sizes, "-o", str(file)]) == 0
    geometry = Geometry(array=2, operand_bits=8, program_depth=64)
    assert file.read_text() == to_verilog(geometry, component=AxiLiteAccelerator)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--name", "1x"], "--name must be letters, digits and underscores, a letter first, not"),
        (["--array", "99"], "array must be from "),
        (["-o", "/nowhere/x.v"], "/nowhere/x.v cannot be written: No such file or directory"),
    ],
)
def test_what_cannot_be_exported_is_said_in_a_line(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["--array", "2", "--program-depth", "16"]
    assert main(["export", "-o", str(tmp_path / "x.v"), *sizes, *options]) == 1
    assert capsys.readouterr().err.startswith(f"siligrad: {message}")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """Return a folder like that of a build."""
    (tmp_path / "icebreaker.bin").write_bytes(b"bits")
    report = {"board": "icebreaker", "bitstream": "icebreaker.bin"}
    (tmp_path / "report.json").write_text(json.dumps(report))
    return tmp_path


def programmer(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, script: str) -> None:
    """Let a script be the only programmer on PATH."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda program: str(path) if program == name else None)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_a_bitstream_is_loaded_with_the_first_program_that_is_here(
    built: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    programmer(monkeypatch, built, "openFPGALoader", 'echo loads "$@"')
    assert main(["flash", str(built)]) == 0
    out = capfd.readouterr().out
    file = built / "icebreaker.bin"
    assert out == f"openFPGALoader -b ice40_generic {file}\nloads -b ice40_generic {file}\n"
    programmer(monkeypatch, built, "iceprog", "exit 1")
    assert main(["flash", "--dry-run", str(built)]) == 0
    assert capfd.readouterr().out == f"iceprog {file}\n"


def test_a_programmer_that_fails_or_is_missing_is_named(
    built: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    programmer(monkeypatch, built, "iceprog", "exit 3")
    assert main(["flash", str(built)]) == 1
    assert capfd.readouterr().err == (
        "siligrad: iceprog fails with status 3: is iCEBreaker connected, and may you use its "
        "port?\n"
    )
    monkeypatch.setattr(shutil, "which", lambda program: None)
    assert main(["flash", str(built)]) == 1
    assert capfd.readouterr().err == (
        "siligrad: iceprog or openFPGALoader is missing, which loads iCEBreaker: install it "
        "(Debian: `apt install fpga-icestorm`)\n"
    )


def test_every_programmer_can_be_installed() -> None:
    for board in BOARDS.values():
        assert board.programmers
        for program, *arguments in board.programmers:
            assert program in flash.PACKAGES
            assert arguments.count("{}") == 1


def test_a_folder_without_a_build_is_refused(
    built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (built / "icebreaker.bin").unlink()
    assert main(["flash", str(built)]) == 1
    assert capsys.readouterr().err.endswith("icebreaker.bin is not there any more: build it anew\n")
    (built / "report.json").write_text("[1]")
    assert main(["flash", str(built)]) == 1
    assert capsys.readouterr().err.startswith(
        f"siligrad: {built}/report.json is no report of a build: type `siligrad build --board NAME"
    )
