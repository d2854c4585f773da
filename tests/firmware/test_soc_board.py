"""The system on chip on a board: what is synthesised, and what does not fit."""

from __future__ import annotations

import json
from typing import Any

import pytest

from siligrad.isa import Geometry
from siligrad_cli.main import main
from siligrad_hdl.boards import BoardError, find_board
from siligrad_hdl.soc.top import SocTop, check_size

TINY = Geometry(array=2, x_depth=16, w_depth=16, e_depth=16, program_depth=16)


def test_the_chip_elaborates_for_a_board_with_its_processor_and_its_firmware() -> None:
    board = find_board("ulx3s-85f")
    word = 0x5EED1E55
    top = SocTop(board, TINY, board.clock(None), firmware=[word], ram_bytes=1024)
    plan = board.platform().prepare(top, "top", emit_src=False)
    files: dict[str, Any] = plan.files
    assert "module picorv32 #(" in files["picorv32.v"]
    assert "read_verilog  picorv32.v" in files["top.ys"]
    design = files["top.il"]
    assert f"{word:032b}" in design  # in the initial contents of the RAM
    assert "\\picorv32" in design
    for pin in ("uart_0__tx", "uart_0__rx", "led_0"):
        assert f'"{pin}__io"' in files["top.lpf"]


def test_a_ram_that_does_not_fit_beside_the_accelerator_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    board = find_board("ulx3s-12f")
    with pytest.raises(
        BoardError, match=r"RAM of 65536 bytes beside the accelerator takes \d+ block RAMs"
    ):
        check_size(board, TINY, 1 << 16)
    check_size(board, TINY, 1024)
    assert main(["soc", "--board", "ulx3s-12f", "--array", "2"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("siligrad: ULX3S 12F is too small: ")
    assert error.count("\n") == 1


def test_a_deep_ram_takes_more_blocks() -> None:
    board = find_board("ulx3s-85f")
    with pytest.raises(BoardError, match="a RAM of 524288 bytes"):  # 256 blocks of 2048 bytes
        check_size(board, TINY, 1 << 19)
    check_size(board, TINY, 1 << 17)


@pytest.mark.slow
def test_the_chip_trains_digits_for_a_hundred_steps(capsys: pytest.CaptureFixture[str]) -> None:
    # `make soc`; two minutes on one processor.
    assert main(["soc", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["steps"] == 100
    assert report["words_compared"] > 0
    assert report["test_accuracy"] > 0.8
    plain, multiplying = report["processors"]["rv32i"], report["processors"]["rv32im"]
    for processor in (plain, multiplying):
        assert processor["differences"] == []
        assert processor["speed_up_busy"] > processor["speed_up"] > 10
    assert plain["software_cycles"] > 2 * multiplying["software_cycles"]
    assert plain["busy_cycles"] == multiplying["busy_cycles"]
