"""What a program's words mean to a user: matrices in the memories, arguments made of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siligrad import tree
from siligrad.errors import DataError
from siligrad.fixed import QFormat
from siligrad.isa import Memory

__all__ = ["Argument", "Role", "Tensor"]


class Role(IntEnum):
    """What a tensor is for."""

    INPUT = 0  # written by the host before each run
    RESIDENT = 1  # written when the program is loaded; stays, and an update may change it
    CONSTANT = 2  # written when the program is loaded, never changed
    TEMPORARY = 3  # made and used inside a run; its words may be reused
    OUTPUT = 4  # made by a run and kept to be read


@dataclass(frozen=True, slots=True)
class Tensor:
    """A matrix in one of the memories.

    Its tiles lie row by row from `base` on: tile ``(i, j)`` at ``base + (i * column_tiles + j) *
    N``.

    Parameters
    ----------
    name
        Where it comes from: a path into the arguments (``params[0][1]``), or what computed it.
    role
        What it is for.
    memory, base
        Where it is; `base` is the first word in each bank.
    rows, columns
        Size of the matrix.
    shape
        Shape of the user's array: ``(rows, columns)``, or ``(columns,)`` where `rows` is 1.
    format
        Format of its codes.
    limit
        Largest magnitude of a code that it may hold; a host keeps to it.
    scale
        A code stands for ``code * 2**-frac * scale``.
    sign
        Every value must be +1 or -1 (the algebra of the loss relies on it).
    magnitude
        A value is the magnitude of what is held (a hinge's error is its margin times +1 or -1).
    moves
        In a run of several steps there is one of it for each step, each a stride further.
    """

    name: str
    role: Role
    memory: Memory
    base: int
    rows: int
    columns: int
    shape: tuple[int, ...]
    format: QFormat
    limit: int
    scale: float = 1.0
    sign: bool = False
    magnitude: bool = False
    moves: bool = False

    def tiles(self, array: int) -> tuple[int, int]:
        """Rows and columns of tiles on an array of size N."""
        return -(-self.rows // array), -(-self.columns // array)

    def words(self, array: int) -> int:
        """Words in each bank."""
        rows, columns = self.tiles(array)
        return rows * columns * array

    def encode(self, values: ArrayLike) -> NDArray[np.int32]:
        """Return the codes of `values`, shape ``(rows, columns)``.

        Raises
        ------
        DataError
            If the shape differs, a value is NaN or infinite, a sign tensor holds anything but +1
            and -1, or an input would exceed :attr:`limit`. (What is resident saturates, as an
            update would.)
        """
        array = np.asarray(values, dtype=np.float64)
        if array.shape != self.shape:
            raise DataError(f"{self.name} has shape {self.shape}, not {array.shape}")
        if not np.isfinite(array).all():
            where = tuple(np.argwhere(~np.isfinite(array))[0].tolist())
            raise DataError(
                f"{self.name}{list(where)} is {array[where]}; only finite values have a code"
            )
        if self.sign and not (np.abs(array) == 1).all():
            where = tuple(np.argwhere(np.abs(array) != 1)[0].tolist())
            raise DataError(
                f"{self.name}{list(where)} is {array[where]}, but the loss was compiled for "
                "targets of +1 and -1 (see siligrad.losses.one_vs_rest)"
            )
        largest = float(self.format.decode(self.limit)) * abs(self.scale)
        worst = float(np.abs(array).max(initial=0.0))
        if (
            self.role == Role.INPUT
            and worst > largest + self.format.resolution * abs(self.scale) / 2
        ):
            raise DataError(
                f"{self.name} reaches {worst:g}, but was calibrated for magnitudes up to "
                f"{largest:g}; compile with examples that cover the data, or scale the data"
            )
        codes = self.format.encode(array / self.scale)
        return np.clip(codes, -self.limit, self.limit).reshape(self.rows, self.columns)

    def decode(self, codes: ArrayLike) -> NDArray[np.float64]:
        """Return the values of `codes`, in the user's shape."""
        values = self.format.decode(codes) * self.scale
        return (np.abs(values) if self.magnitude else values).reshape(self.shape)

    def pack(self, codes: NDArray[np.int32], array: int) -> NDArray[np.int32]:
        """Return the memory words of `codes`: cut into tiles, filled up, skewed.

        Shape ``(words, N)``.
        """
        tile_rows, tile_columns = self.tiles(array)
        padded = np.zeros((tile_rows * array, tile_columns * array), dtype=np.int32)
        padded[: self.rows, : self.columns] = codes
        tiles = padded.reshape(tile_rows, array, tile_columns, array).transpose(0, 2, 1, 3)
        lane, bank = _skew(array)
        return np.ascontiguousarray(tiles[:, :, lane, bank].reshape(-1, array))

    def unpack(self, words: NDArray[np.int32], array: int) -> NDArray[np.int32]:
        """Return the codes, shape ``(rows, columns)``, in memory words of shape ``(words, N)``."""
        tile_rows, tile_columns = self.tiles(array)
        tiles = np.empty((tile_rows, tile_columns, array, array), dtype=np.int32)
        lane, bank = _skew(array)
        tiles[:, :, lane, bank] = words.reshape(tile_rows, tile_columns, array, array)
        matrix = tiles.transpose(0, 2, 1, 3).reshape(tile_rows * array, tile_columns * array)
        return np.ascontiguousarray(matrix[: self.rows, : self.columns])

    def locate(self, address: int, bank: int, array: int) -> tuple[int, int]:
        """Return the row and column of the element at word `address` of `bank`.

        It may lie in the filling.
        """
        tile, row = divmod(address - self.base, array)
        tile_row, tile_column = divmod(tile, self.tiles(array)[1])
        return tile_row * array + row, tile_column * array + (bank - row) % array


def _skew(array: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return row and column of the element that a word (address in tile, bank) holds."""
    row = np.arange(array)[:, None]
    bank = np.arange(array)[None, :]
    return np.broadcast_to(row, (array, array)), (bank - row) % array


@dataclass(frozen=True, slots=True)
class Argument:
    """A positional argument of the compiled function, or its result.

    Parameters
    ----------
    name
        The parameter's name, ``"result"`` for the result.
    structure
        How its arrays are nested.
    tensors
        Index of the tensor of each array.
    resident
        Whether it stays in the device between runs instead of being handed to each.
    """

    name: str
    structure: tree.Structure
    tensors: tuple[int, ...]
    resident: bool = False
