"""siligrad bench accuracy and siligrad bench epoch, on the digits that come with the package."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from siligrad.isa import Loop, Memory
from siligrad_cli.bench import epoch
from siligrad_cli.main import main
from siligrad_sim.reference import ReferenceDevice


def accuracy(output: Path, *more: str) -> int:
    only = ["--only", "digits", "--epochs", "2", "--output", str(output)]
    return main(["bench", "accuracy", *only, *more])


def test_accuracy_is_a_table_over_seeds_and_widths(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert accuracy(tmp_path, "--seeds", "2", "--bits", "float,16,8", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["operand_bits"] for row in rows] == ["float", 16, 8]
    for row in rows:
        assert row["network"] == "64-32-10"
        assert len(row["scores"]) == row["seeds"] == 2
        assert row["mean"] == pytest.approx(sum(row["scores"]) / 2)
        assert row["mean"] > 0.85  # two epochs of the digits, from random weights
        assert not row["failures"]
    assert not list(tmp_path.glob("*.npz")), "a checkpoint was left behind"


def test_what_is_done_is_not_done_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert accuracy(tmp_path, "--seeds", "1", "--bits", "16") == 0
    first = capsys.readouterr().out

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("trained again")

    monkeypatch.setattr("siligrad_cli.bench.accuracy.run_once", refuse)
    assert accuracy(tmp_path, "--seeds", "1", "--bits", "16") == 0
    assert capsys.readouterr().out == first
    with pytest.raises(AssertionError, match="trained again"):  # other settings are another run
        accuracy(tmp_path, "--seeds", "1", "--bits", "16", "--rate", "0.125")


def test_a_rate_that_kills_a_network_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert accuracy(tmp_path, "--seeds", "1", "--bits", "16", "--rate", "4") == 0
    told = capsys.readouterr().out
    assert re.search(r"given up: epoch [12]: params\[\d\]\[0\].* stopped learning", told)
    assert "elements of instruction" in told
    assert "begin with half of it, which is program.slowed(1)" in told


def test_data_that_are_missing_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["bench", "accuracy", "--only", "fashion", "--output", str(tmp_path)]
    assert main(command) == 1
    assert capsys.readouterr().err == (
        "siligrad: fashion is trained on fashion_mnist: give --data the folder that holds it\n"
    )


def test_an_epoch_on_two_devices_ends_with_equal_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["bench", "epoch", "--device", "reference", "--array", "4", "--steps", "20"]
    assert main([*command, "--output", str(tmp_path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["steps"] == len(result["losses"]) == 20
    assert result["cycles_measured"] == result["cycles_predicted"] > 0
    assert result["words_compared"] > 0
    assert result["losses"][-1] < result["losses"][0]
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert main([*command, "--output", str(tmp_path)]) == 0
    assert (tmp_path / "loss.svg").read_text().startswith("<?xml")


class OneWordWrong(ReferenceDevice):
    """Is the reference, but for one bit of a weight after each run."""

    def execute(self, loop: Loop, limit: int) -> int:
        cycles = super().execute(loop, limit)
        word: NDArray[np.int32] = self.read_words(Memory.W, 0, 1)
        word[0, 0] ^= 1
        self.write_words(Memory.W, 0, word)
        return cycles


def test_a_device_that_is_wrong_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epoch, "device_class", lambda name: OneWordWrong)
    command = ["bench", "epoch", "--device", "wrong", "--steps", "3", "--output", str(tmp_path)]
    assert main(command) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("siligrad: ")
    assert "of W differ after the last step" in message
    assert "params[0][0]" in message
    assert not list(tmp_path.iterdir())


def test_an_epoch_has_only_so_many_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["bench", "epoch", "--device", "reference", "--output", str(tmp_path)]
    assert main([*command, "--steps", "1000"]) == 1
    assert "an epoch of optdigits has 119 steps, not 1000" in capsys.readouterr().err
