"""Builds with the real programs, of a small design in the accelerator's place."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from amaranth.build import Attrs, Pins, Resource, Subsignal

from siligrad_hdl import flow
from siligrad_hdl.boards import Board, BoardError, find_board
from siligrad_hdl.boards.tools import find_tool
from siligrad_hdl.flow import BuildError, build
from tests.hdl.echo import Echo

pytestmark = pytest.mark.xdist_group("flow")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "BoardTop", Echo)


def built(board: Board, folder: Path) -> dict[str, Any]:
    build(board, board.geometry, board.clock(None), folder)
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


@pytest.mark.synthesis
@pytest.mark.parametrize(
    ("name", "suffix", "begins"),
    [
        # What bitstreams of the families begin with; Gowin's is text.
        ("tang-nano-9k", ".fs", b"1" * 64),
        # Ten seconds and more, or built with the accelerator elsewhere.
        pytest.param("icebreaker", ".bin", b"\xff\0\0\xff\x7e\xaa\x99\x7e", marks=pytest.mark.slow),
        pytest.param("ulx3s-12f", ".bit", b"\xff\0", marks=pytest.mark.slow),
        pytest.param("crosslink-nx-vip", ".bit", b"LSCC\xff\0", marks=pytest.mark.slow),
    ],
    ids=["tang-nano", "icebreaker", "ulx3s", "crosslink-nx"],
)
def test_each_family_gets_a_bitstream(
    name: str, suffix: str, begins: bytes, tmp_path: Path
) -> None:
    report = built(find_board(name), tmp_path)
    assert report["bitstream"] == name + suffix
    assert (tmp_path / report["bitstream"]).read_bytes().startswith(begins)
    assert report["clock_mhz"] > report["clock_target_mhz"]
    assert 10 < report["lut"] < 300
    assert 40 < report["ff"] < 200
    assert report["dsp"] == report["bram"] == 1


def with_uart(board: Board, rx: str, tx: str) -> Board:
    """Return a board whose file has other pins."""

    def platform() -> Any:
        made = board.platform()
        del made.resources["uart", 0]
        made.add_resources([
            Resource(
                "uart",
                0,
                Subsignal("rx", Pins(rx, dir="i")),
                Subsignal("tx", Pins(tx, dir="o")),
                Attrs(IO_STANDARD="SB_LVCMOS"),
            )
        ])
        return made

    return replace(board, platform=platform)


@pytest.mark.synthesis
def test_a_pin_that_the_device_does_not_have_is_named(tmp_path: Path) -> None:
    board = with_uart(find_board("icebreaker"), rx="6", tx="99")
    with pytest.raises(BuildError) as caught:
        built(board, tmp_path)
    message = str(caught.value)
    assert message.startswith("nextpnr-ice40 fails in step 3 of 4, place and route: ")
    assert "99" in message
    assert message.endswith(f"; its output is in {tmp_path}/work/step-3.log")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("rx", "tx", "what"),
    [("6", "6", "uses physical pin 6, but it is already used"), ("pmod_9:1", "9", "nonexistent")],
)
def test_a_pin_that_the_board_does_not_have_is_named_before_anything_is_run(
    rx: str, tx: str, what: str, tmp_path: Path
) -> None:
    board = with_uart(find_board("icebreaker"), rx, tx)
    with pytest.raises(BoardError, match=f"^the file of iCEBreaker has a bad pin: .*{what}"):
        built(board, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("led", [("lamp",), ("rgb_led", "violet")])
def test_an_led_that_the_board_does_not_have_is_named(led: tuple[str, ...], tmp_path: Path) -> None:
    board = replace(find_board("upduino"), led=led)
    with pytest.raises(BoardError, match=f"^the file of UPduino v3 has a bad pin: .*{led[-1]}"):
        built(board, tmp_path)


def test_boards_whose_pins_are_in_a_package_that_is_missing_say_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "amaranth_boards", None)
    monkeypatch.delitem(sys.modules, "amaranth_boards.icebreaker", raising=False)
    with pytest.raises(
        BoardError, match=r"amaranth_boards.* is missing, .* type `pip install 'sil"
    ):
        built(find_board("icebreaker"), tmp_path)


def test_gowins_packer_is_known_by_its_package() -> None:
    assert find_tool("gowin_pack").version.startswith("apycula 0.")
