"""The boards, a file each."""

from __future__ import annotations

from siligrad_hdl.boards.board import Board, BoardError
from siligrad_hdl.boards.colorlight import COLORLIGHT
from siligrad_hdl.boards.crosslink_nx_vip import CROSSLINK_NX_VIP
from siligrad_hdl.boards.hx8k import HX8K
from siligrad_hdl.boards.icebreaker import ICEBREAKER
from siligrad_hdl.boards.orangecrab import ORANGECRAB
from siligrad_hdl.boards.tang_nano_9k import TANG_NANO_9K
from siligrad_hdl.boards.tang_primer_20k import TANG_PRIMER_20K
from siligrad_hdl.boards.ulx3s import ULX3S
from siligrad_hdl.boards.upduino import UPDUINO
from siligrad_hdl.boards.versa import VERSA

__all__ = ["BOARDS", "Board", "BoardError", "find_board"]

BOARDS: dict[str, Board] = {
    board.name: board
    for board in (
        *(ICEBREAKER, UPDUINO, HX8K),
        *(*ULX3S, ORANGECRAB, COLORLIGHT, VERSA),
        CROSSLINK_NX_VIP,
        *(TANG_NANO_9K, TANG_PRIMER_20K),
    )
}
"""Every board, by its name."""


def find_board(name: str) -> Board:
    """Return the board that is called `name`.

    Raises
    ------
    BoardError
        If there is none.
    """
    if name not in BOARDS:
        raise BoardError(f"there is no board {name!r}; there are {', '.join(BOARDS)}")
    return BOARDS[name]
