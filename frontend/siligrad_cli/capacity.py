"""What fits a board: the largest network of two layers that an array trains there."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

import siligrad as sg
from siligrad import losses, nn, optim
from siligrad.isa import Geometry

if TYPE_CHECKING:
    from siligrad_hdl.boards import Board

__all__ = ["BATCH", "CLASSES", "INPUTS", "largest_hidden"]

INPUTS, CLASSES, BATCH = 784, 10, 16
"""The network has so many inputs and outputs, and is trained with so many examples a step."""

_RATE = 2**-5
"""Of learning: a power of two, as the hardware has it. It takes no memory."""


def largest_hidden(board: Board) -> tuple[int, int]:
    """Return how many hidden units the network may have on a board, and which array trains it.

    That is the board's largest array or its usual one, whichever does for more: a small one leaves
    fewer words unused. Block RAM limits the units: the compiler says how many words a step of
    gradient descent on the squared hinge takes, and each memory is as deep as that. There are whole
    tiles of them; none if not even one tile fits.
    """
    arrays = {board.geometry.array, board.largest_array()}
    return max((_largest_hidden(board, array), array) for array in arrays)


def _largest_hidden(board: Board, array: int) -> int:
    from siligrad_hdl.boards import BoardError  # noqa: PLC0415  optional

    geometry = board.sized(array, None)
    target = sg.Target(
        array=geometry.array,
        operand_bits=geometry.operand_bits,
        sum_bits=geometry.sum_bits,
        word_bits=geometry.word_bits,
    )

    def fits(tiles: int) -> bool:
        try:
            board.check(_needed(target, tiles * target.array))
        except (BoardError, sg.CapacityError):
            return False
        return True

    tiles, too_many = 0, 1
    while fits(too_many):
        tiles, too_many = too_many, 2 * too_many
    while too_many - tiles > 1:
        middle = (tiles + too_many) // 2
        if fits(middle):
            tiles = middle
        else:
            too_many = middle
    return tiles * target.array


@cache  # several boards have the same array
def _needed(target: sg.Target, hidden: int) -> Geometry:
    """Return a geometry that is just large enough to train the network."""

    def step(params: Any, x: Any, y: Any) -> Any:
        def loss(params: Any, x: Any, y: Any) -> Any:
            return losses.squared_hinge(nn.predict(params, x), y)

        return optim.sgd(params, sg.grad(loss)(params, x, y), _RATE)

    params = nn.perceptron(np.random.default_rng(0), [INPUTS, hidden, CLASSES])
    x, y = np.zeros((BATCH, INPUTS)), np.ones((BATCH, CLASSES))
    return sg.compile(step, params, x, y, donate=0, target=target).geometry
