"""A board that was configured with a network runs it for a host that loads nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from siligrad.host import HostDevice
from siligrad.isa import Memory
from siligrad_cli.main import main
from siligrad_hdl.accelerator import Accelerator
from siligrad_sim.board import SimulatedBoard
from tests.hdl.netlists import small_program


def test_a_baked_board_is_run_and_trained_without_being_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = small_program()
    image = tmp_path / "net.sgp"
    program.save(image)
    loaded: list[str] = []
    write_lines, write_words = HostDevice.write_lines, HostDevice.write_words

    def lines(self: HostDevice, words: Any) -> None:
        loaded.append("program")
        write_lines(self, words)

    def words(self: HostDevice, memory: Memory, address: int, codes: NDArray[np.int32]) -> None:
        loaded.append(memory.name)
        write_words(self, memory, address, codes)

    monkeypatch.setattr(HostDevice, "write_lines", lines)
    monkeypatch.setattr(HostDevice, "write_words", words)
    inputs = [t.memory.name for t in program.tensors if t.name in {"x", "y"}]
    weights = {program.tensors[index].memory.name for index in program.initial} - set(inputs)
    assert weights
    accelerator = Accelerator(program.geometry, baked=program.baked())
    with SimulatedBoard(program.geometry, accelerator=accelerator) as board:
        run = ["run", str(image), "--device", f"serial:{board.port}", "--steps"]
        assert main([*run, "2"]) == 0
        assert loaded == inputs * 2
        # Another run of the same begins with the weights of the image again, the lines are there.
        loaded.clear()
        assert main([*run, "1"]) == 0
        assert set(loaded) - set(inputs) == weights
        assert "program" not in loaded
    assert capsys.readouterr().out.count("words with the reference, all equal") == 2
