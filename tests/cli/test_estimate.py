from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import siligrad as sg
import siligrad.numpy as np_
from siligrad_cli.main import main
from siligrad_hdl.boards import BOARDS, find_board


def estimate(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert main(["estimate", *options, "--json"]) == 0
    record: dict[str, Any] = json.loads(capsys.readouterr().out)
    return record


def processor_time() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("siligrad: ")
    return last.removeprefix("siligrad: ")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    target = sg.Target(array=4, x_depth=64, w_depth=64, e_depth=64, program_depth=64)
    w, x = np.ones((8, 8)), np.ones((8, 8))
    program = sg.compile(lambda w, x: np_.maximum(x @ w, 0), w, x, target=target)
    path = tmp_path / "net.sgp"
    program.save(path)
    return path


def test_an_estimate_has_the_keys_of_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    record = estimate(capsys, "--board", "ulx3s-85f", "--array", "8")
    assert list(record) == [
        *("board", "device", "array", "operand_bits", "lut", "ff", "dsp", "bram"),
        *("clock_target_mhz", "clock_mhz", "gmacs"),
    ]
    assert (record["board"], record["array"], record["operand_bits"]) == ("ulx3s-85f", 8, 16)
    assert record["dsp"] == 64
    assert record["gmacs"] == pytest.approx(64 * record["clock_target_mhz"] / 1000)


def test_a_table_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    record = estimate(capsys, "--board", "ulx3s-85f", "--array", "4")
    assert main(["estimate", "--board", "ulx3s-85f", "--array", "4"]) == 0
    out = capsys.readouterr().out
    board = find_board("ulx3s-85f")
    assert "board     ULX3S 85F, LFE5U-85F-6BG381" in out
    assert f"LUT       {record['lut']} of {board.luts} ({record['lut'] / board.luts:.0%})" in out
    assert f"FF        {record['ff']}\n" in out
    assert f"DSP       16 of {board.multipliers} (10%)" in out
    assert f"about {record['clock_mhz']:g} MHz within reach" in out


def test_a_program_is_told_how_fast_it_runs(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--board", "ulx3s-25f", "--program", str(image), "--clock", "50")
    record = estimate(capsys, *options)
    program = sg.Program.load(image)
    assert record["array"] == 4
    assert record["cycles"] == program.cycles
    assert record["steps_per_second"] == pytest.approx(50e6 / program.cycles, rel=1e-6)
    # 512 multiplications of the 16 x cycles that the cells could do.
    share = 512 / (16 * program.cycles)
    assert record["program_gmacs"] == pytest.approx(16 * 0.05 * share, rel=1e-3)
    assert main(["estimate", *options]) == 0
    out = capsys.readouterr().out
    assert f"program   {program.name}: {program.cycles} cycles, " in out


def test_what_does_not_fit_is_estimated_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "--board", "icebreaker", "--array", "4"]) == 1
    out, err = capsys.readouterr()
    assert "DSP       16 of 8 (200%)" in out
    assert "takes 16 multipliers, and the iCE40UP5K-SG48 has 8" in err


def test_memories_that_are_deeper_than_a_block_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = sg.Target(array=2, x_depth=4096, w_depth=64, e_depth=64)
    w, x = np.ones((2, 2)), np.ones((2, 2))
    program = sg.compile(lambda w, x: np_.maximum(x @ w, 0), w, x, target=target)
    program.save(tmp_path / "net.sgp")
    options = ["--board", "icebreaker", "--program", str(tmp_path / "net.sgp")]
    assert main(["estimate", *options]) == 1
    assert error_of(capsys) == (
        "iCEBreaker is too small: depth must be at most 2048 on iCE40, not 4096"
    )


def test_a_program_runs_on_what_it_was_compiled_for(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--board", "ulx3s-25f", "--program", str(image), "--array", "2"]
    assert main(["estimate", *options]) == 1
    assert error_of(capsys).endswith(
        "was compiled for an array of 4 and operands of 16 bits and runs on nothing else: leave "
        "out --array and --operand-bits"
    )


@pytest.mark.parametrize("name", BOARDS)
def test_every_board_has_an_estimate_of_what_it_usually_gets(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record = estimate(capsys, "--board", name)
    board = find_board(name)
    assert 1000 < record["lut"] < board.luts
    assert record["ff"] > 1000
    assert record["bram"] <= board.blocks


def test_an_estimate_takes_less_than_a_second(tmp_path: Path) -> None:
    # Of processor time, which does not depend on what else the machine does; the quickest counts.
    command = [sys.executable, "-m", "siligrad_cli.main", "estimate", "--board", "ulx3s-85f"]
    times = []
    for _ in range(3):
        begin = processor_time()
        subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
        times.append(processor_time() - begin)
    assert 0 < min(times) < 1, times
