"""The system on chip on a board."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Module, Signal

from siligrad.isa import Geometry
from siligrad_hdl.boards import Board, BoardError
from siligrad_hdl.boards.clock import ClockSetting
from siligrad_hdl.boards.top import BoardTop, BoardWires
from siligrad_hdl.soc.chip import SystemOnChip
from siligrad_hdl.soc.memory_map import RAM_BYTES

__all__ = ["SocTop", "check_size"]


class SocTop(BoardTop):
    """The system on chip on a board: its console is the board's serial line.

    The LED is on while the accelerator runs a program, and for good when the processor has stopped.

    Parameters
    ----------
    board, geometry, clock
        As of :class:`~siligrad_hdl.boards.top.BoardTop`.
    firmware : sequence of :class:`int`
        The first words of the RAM.
    ram_bytes : :class:`int`
        Size of the RAM, a power of two.
    multiplier : :class:`bool`
        Whether the processor has one.
    """

    def __init__(
        self,
        board: Board,
        geometry: Geometry,
        clock: ClockSetting,
        *,
        firmware: Sequence[int],
        ram_bytes: int = RAM_BYTES,
        multiplier: bool = False,
    ) -> None:
        super().__init__(board, geometry, clock)
        self.firmware = firmware
        self.ram_bytes = ram_bytes
        self.multiplier = multiplier

    def core(self, m: Module, bit: int) -> BoardWires:
        m.submodules.chip = chip = SystemOnChip(
            self.geometry,
            bit_cycles=bit,
            ram_bytes=self.ram_bytes,
            firmware=self.firmware,
            multiplier=self.multiplier,
        )
        return BoardWires(rx=Signal(), tx=chip.tx, led=chip.busy | chip.fault)


def check_size(board: Board, geometry: Geometry, ram_bytes: int) -> None:
    """Check, as far as can be counted beforehand, that a board has room for the chip.

    Raises
    ------
    BoardError
        If it has too few multipliers, or too few block RAMs for accelerator and RAM.
    """
    board.check(geometry)
    needed = board.blocks_of(geometry) + _blocks_of_ram(board, ram_bytes // 4)
    if needed > board.blocks:
        raise BoardError(
            f"{board.title} is too small: a RAM of {ram_bytes} bytes beside the accelerator takes "
            f"{needed} block RAMs, and the {board.device} has {board.blocks}"
        )


def _blocks_of_ram(board: Board, words: int) -> int:
    """Return how many block RAMs words of 32 bits take that are written byte by byte."""
    pieces = 1
    while True:
        try:
            return 4 * pieces * board.technology.blocks(8, words // pieces)
        except ValueError:  # deeper than a block
            pieces *= 2
