"""Named arrays in ``.npz`` files: never executed, bounded before they are read, written whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siligrad.errors import DataError
from siligrad.files import replacing
from siligrad.npz import read_npz

__all__ = ["BYTES_MAX", "read_arrays", "write_arrays"]

BYTES_MAX = 1 << 30
"""Most bytes that the arrays of a file may have, uncompressed."""


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays in the file at `path` by name.

    Raises
    ------
    DataError
        If it cannot be read, is no ``.npz`` file, is damaged, holds pickled objects, or more than
        :data:`BYTES_MAX` bytes.
    """
    try:
        with path.open("rb") as file:
            return read_npz(file, BYTES_MAX)
    except DataError as error:
        raise DataError(f"{path} is no readable .npz file: {error}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write `arrays` beside `path` and rename the file; the same arrays give the same bytes.

    Raises
    ------
    DataError
        If it cannot be written.
    """
    try:
        with replacing(path) as beside, beside.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error
