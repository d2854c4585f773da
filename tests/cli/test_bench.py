from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any, ClassVar

import numpy
import pytest
from numpy.typing import NDArray

from siligrad import device as devices
from siligrad.isa import Loop, Memory
from siligrad_cli.bench.cycles import CASES
from siligrad_cli.bench.programs import Case, compile_all, compile_case
from siligrad_cli.main import main
from siligrad_sim.reference import ReferenceDevice

AD08 = (64, 72, 72, 8, 72, 72, 64)
KEYS = {
    "network",
    "array",
    "batch",
    "kind",
    "cycles_predicted",
    "cycles_measured",
    "macs",
    "utilisation",
}
SMALL = (
    Case((5, 3, 2), array=2, batch=3, kind="inference"),
    Case((5, 6, 3), array=4, batch=4, kind="inference"),
    Case((5, 6, 3), array=4, batch=8, kind="step"),
    Case((6, 3, 6), array=4, batch=4, kind="step", autoencoder=True),
)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that takes no time."""
    monkeypatch.setattr("siligrad_cli.bench.cycles.CASES", SMALL)


def rows(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["bench", "cycles", "--json", *arguments]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the line with which the command fails, behind its progress."""
    capsys.readouterr()
    assert main(["bench", *arguments]) == 1
    *progress, error = capsys.readouterr().err.splitlines()
    assert all(line.startswith(("opening", "running")) for line in progress)
    assert error.startswith("siligrad: ")
    return error.removeprefix("siligrad: ")


def multiply_accumulates(case: Case) -> int:
    """Of the mathematics: each matrix forward, for its slope, and for its input's unless that is
    the first."""
    sizes = [rows * columns for rows, columns in pairwise(case.layers)]
    if case.kind == "inference":
        return case.batch * sum(sizes)
    return case.batch * (3 * sum(sizes) - sizes[0])


# --- what is promised


@pytest.mark.parametrize(
    ("layers", "array", "batch", "utilisation"),
    [
        ((784, 128, 10), 8, 32, 0.97),
        ((784, 256, 128, 10), 16, 32, 0.96),
        ((64, 32, 10), 8, 16, 0.80),
    ],
)
def test_training_steps_keep_the_multipliers_busy(
    layers: tuple[int, ...], array: int, batch: int, utilisation: float
) -> None:
    case = Case(layers, array, batch, "step")
    assert case in CASES
    program = compile_case(case).program
    assert sum(program.macs) == multiply_accumulates(case)
    assert sum(program.macs) >= utilisation * array**2 * program.cycles


@pytest.mark.parametrize(
    ("layers", "array", "batch", "most"),
    [
        ((784, 64, 10), 2, 16, 13_000),
        (AD08, 8, 1, 3_200),
        (AD08, 8, 8, 380),
    ],
)
def test_an_inference_takes_few_cycles_a_sample(
    layers: tuple[int, ...], array: int, batch: int, most: int
) -> None:
    case = Case(layers, array, batch, "inference")
    assert case in CASES
    assert compile_case(case).program.cycles <= most * batch


def test_every_network_that_is_asked_for_inference_is_trained_too() -> None:
    steps = {(case.layers, case.array) for case in CASES if case.kind == "step"}
    assert {(case.layers, case.array) for case in CASES if case.kind == "inference"} <= steps


def test_rows_of_one_array_share_a_machine_and_lose_no_cycle_by_it() -> None:
    alone = [compile_case(case) for case in SMALL]
    together = compile_all(SMALL)
    assert [each.case for each in together] == list(SMALL)
    assert len({each.program.geometry for each in together}) == 2
    for one, other in zip(alone, together, strict=True):
        assert one.program.instructions == other.program.instructions


# --- the command


def test_rows_are_what_was_compiled_and_run(
    small: None, capsys: pytest.CaptureFixture[str]
) -> None:
    found = rows(capsys, "--device", "reference")
    assert all(set(row) == KEYS for row in found)
    for row, case in zip(found, SMALL, strict=True):
        assert row["network"] == "-".join(map(str, case.layers))
        assert (row["array"], row["batch"], row["kind"]) == (case.array, case.batch, case.kind)
        assert row["macs"] == multiply_accumulates(case)
        assert row["cycles_measured"] == row["cycles_predicted"]
        offered = case.array**2 * row["cycles_measured"]
        assert row["utilisation"] == pytest.approx(row["macs"] / offered)
        assert row["cycles_predicted"] >= row["macs"] / case.array**2


def test_the_hardware_takes_the_cycles_that_are_promised(
    small: None, capsys: pytest.CaptureFixture[str]
) -> None:
    if reason := devices.device_class("verilator").available():
        pytest.skip(reason)
    found = rows(capsys, "--device", "verilator", "--only", "5-6-3")
    assert [row["kind"] for row in found] == ["inference", "step"]
    for row in found:
        assert row["cycles_measured"] == row["cycles_predicted"] > 0


def test_the_table_is_for_people_and_progress_is_elsewhere(
    small: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "cycles", "--device", "reference", "--only", "6-3-6"]) == 0
    printed = capsys.readouterr()
    head, row, gap, words = printed.out.splitlines()
    assert head.split() == [
        *("network", "kind", "array", "batch", "predicted", "measured", "a", "sample"),
        "utilisation",
    ]
    cells = row.split()
    assert cells[:4] == ["6-3-6", "step", "4x4", "4"]
    assert cells[4] == cells[5]
    assert float(cells[6]) == pytest.approx(int(cells[5]) / 4, abs=0.06)
    assert not gap
    assert words.endswith("words of reference compared with the reference, 0 different")
    assert int(words.split()[0]) >= 3 * 256 * 4
    assert "running  6-3-6, step, batch 4, 4 x 4" in printed.err


class Late(ReferenceDevice):
    """A machine that takes a cycle more than it should."""

    name: ClassVar[str] = "late"

    def execute(self, loop: Loop, limit: int) -> int:
        return super().execute(loop, limit) + 1


class Wrong(ReferenceDevice):
    """A machine that changes a word which nothing owns."""

    name: ClassVar[str] = "wrong"

    def execute(self, loop: Loop, limit: int) -> int:
        cycles = super().execute(loop, limit)
        words: NDArray[numpy.int32] = self.read_words(Memory.E, self.geometry.e_depth - 1, 1)
        words[0, 1] ^= 4
        self.write_words(Memory.E, self.geometry.e_depth - 1, words)
        return cycles


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        (Late, r"5-6-3, inference, batch 4, 4 x 4: the cycle counter is (\d+), but must be (\d+)"),
        (
            Wrong,
            r"5-6-3, .*: a word that nothing owns \(memory E, word 255, bank 1\) is 4, .* 0",
        ),
    ],
)
def test_a_device_that_differs_is_found(
    small: None,
    machine: type[ReferenceDevice],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("siligrad_cli.bench.measure.device_class", lambda name: machine)
    arguments = ["bench", "cycles", "--only", "5-6-3", "--device", machine.name]
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 5  # the table is printed all the same
    error = printed.err.splitlines()[-1]
    assert re.fullmatch(f"siligrad: {message}", error), error


def test_a_network_that_is_not_in_the_table_is_refused(
    small: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, "cycles", "--only", "7-8") == (
        "--only 7-8: no network is called so; 5-3-2, 5-6-3, 6-3-6 are"
    )


def test_a_device_that_is_not_here_is_refused(
    small: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, "cycles", "--device", "abacus").startswith(
        "there is no device 'abacus'; installed devices: "
    )
    monkeypatch.setattr(Late, "available", classmethod(lambda cls: "the beads are missing"))
    monkeypatch.setattr("siligrad_cli.bench.measure.device_class", lambda name: Late)
    assert refused(capsys, "cycles", "--device", "late") == (
        "device 'late' cannot be used here: the beads are missing"
    )
