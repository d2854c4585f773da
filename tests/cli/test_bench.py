from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy
import pytest
from numpy.typing import NDArray

from siligrad import device as devices
from siligrad.isa import Loop, Memory
from siligrad_cli.bench.channels import cases, layer_cycles
from siligrad_cli.bench.cycles import CASES
from siligrad_cli.bench.programs import Case, compile_all, compile_case
from siligrad_cli.main import main
from siligrad_sim.reference import ReferenceDevice

PAGE = Path(__file__).parents[2] / "docs/benchmarks/cycles.md"
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
    assert all(line.startswith(("opening", "running", "training")) for line in progress)
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


# --- half the channels


def test_half_the_channels_take_a_quarter_of_the_layer_and_half_of_the_step() -> None:
    whole, half = (compile_case(case).program for case in cases())
    assert [case.layers for case in cases()] == [(784, 128, 128, 10), (784, 64, 64, 10)]
    assert layer_cycles(half) / layer_cycles(whole) == pytest.approx(0.25, abs=0.005)
    assert half.cycles <= 0.52 * whole.cycles


def test_a_layer_is_its_three_products() -> None:
    # 8 rows, 12 to 4 channels on 4 x 4. Forward 2 tiles of 12 and a bias of 2 cycles, backward
    # 2 x 3 of 4, update 3 of 8.
    case = Case((5, 12, 4, 3), array=4, batch=8, kind="step")
    assert layer_cycles(compile_case(case).program) == 2 * (12 + 2) + 6 * 4 + 3 * 8


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels that take no time."""
    monkeypatch.setattr("siligrad_cli.bench.channels.IMAGE", 20)
    monkeypatch.setattr("siligrad_cli.bench.channels.HIDDEN", (16, 16))
    monkeypatch.setattr("siligrad_cli.bench.channels.BATCH", 16)
    monkeypatch.delenv("SILIGRAD_DATA", raising=False)


FEW = ("channels", "--device", "reference", "--epochs", "2", "--seeds", "2")


def test_cycles_and_accuracy_of_both_networks_are_reported(
    few: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *FEW, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    whole, half = found["networks"]
    assert (whole["network"], half["network"]) == ("20-16-16-10", "20-8-8-10")
    for each in (whole, half):
        assert each["cycles_measured"] == each["cycles_predicted"]
    assert found["layer_ratio"] == half["layer_cycles"] / whole["layer_cycles"]
    assert found["step_ratio"] == half["cycles_measured"] / whole["cycles_measured"] < 1
    accuracy = found["accuracy"]
    assert (accuracy["data"], accuracy["epochs"]) == ("optdigits", 2)
    assert [each["network"] for each in accuracy["networks"]] == ["64-16-16-10", "64-8-8-10"]
    for each in accuracy["networks"]:
        assert len(each["each"]) == 2
        assert each["integers"] == pytest.approx(sum(each["each"]) / 2)
        assert 0.5 < each["integers"] <= 1  # ten classes: it has learned
        assert each["integers"] == pytest.approx(each["floating"], abs=0.01)


def test_the_table_says_that_mnist_is_missing(
    few: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *FEW]) == 0
    printed = capsys.readouterr()
    assert "MNIST was not given (--data DIR): accuracy is that on optdigits" in printed.out
    assert "accuracy on optdigits, 2 epochs on the host, mean of 2 seeds" in printed.out
    assert re.search(r"^20-8-8-10 +\d+ +(\d+) +\1 +\d", printed.out, re.MULTILINE)
    assert "training 64-8-8-10 on optdigits, seed 1" in printed.err


def test_data_that_are_not_there_are_refused(
    few: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    message = "nowhere/mnist holds neither train-images-idx3-ubyte nor train-images-idx3-ubyte.gz"
    assert refused(capsys, *FEW, "--data", "nowhere") == message
    monkeypatch.setenv("SILIGRAD_DATA", "nowhere")
    assert refused(capsys, *FEW) == message


def test_a_late_device_is_found_by_this_bench_too(
    few: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siligrad_cli.bench.measure.device_class", lambda name: Late)
    assert refused(capsys, *FEW).startswith(
        "20-16-16-10, step, batch 16, 8 x 8: the cycle counter is "
    )


# --- the page


def shown(command: str) -> Iterator[str]:
    """The lines that docs/benchmarks/cycles.md shows after a command, up to an empty one."""
    lines = iter(PAGE.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.startswith(f"$ {command}"):
            break
    for line in lines:
        if not line:
            return
        yield line


def test_the_page_shows_the_cycles_that_are_promised_today(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["bench", "cycles", "--device", "reference"]) == 0
    printed = capsys.readouterr().out.splitlines()
    found = list(shown("siligrad bench cycles"))
    assert len(found) == 1 + len(CASES)
    assert printed[: len(found)] == found


def test_the_page_shows_what_half_the_channels_take() -> None:
    _, _, whole, half, ratio = shown("siligrad bench channels")
    for line, case in zip((whole, half), cases(), strict=True):
        program = compile_case(case).program
        name, layer, predicted, measured, _ = line.split()
        assert name == case.network
        assert int(layer) == layer_cycles(program)
        assert int(predicted) == int(measured) == program.cycles
    layer_ratio, step_ratio = map(float, ratio.split()[-2:])
    assert layer_ratio == pytest.approx(int(half.split()[1]) / int(whole.split()[1]), abs=5e-4)
    assert step_ratio == pytest.approx(int(half.split()[3]) / int(whole.split()[3]), abs=5e-4)


def test_the_readme_shows_cycles_that_are_promised_today() -> None:
    text = (PAGE.parents[2] / "README.md").read_text(encoding="utf-8")
    row = re.compile(
        r"^\| ([-\d]+), (?:a training )?(inference|step) \| (\d+) × \d+ \| (\d+) "
        r"\| ([\d,]+) \| ([\d.]+) % \|$",
        re.MULTILINE,
    )
    found = row.findall(text)
    assert len(found) == 5
    promised = {
        (case.network, case.kind, case.array, case.batch): compile_case(case).program
        for case in CASES
    }
    for network, kind, array, batch, cycles, share in found:
        program = promised[network, kind, int(array), int(batch)]
        assert int(cycles.replace(",", "")) == program.cycles
        assert float(share) == pytest.approx(100 * program.utilisation, abs=0.051)
