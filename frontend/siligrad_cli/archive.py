"""Named arrays in ``.npz`` files: never executed, bounded before they are read, written whole."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siligrad.errors import DataError
from siligrad.files import replacing

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
            with zipfile.ZipFile(file) as members:
                size = sum(member.file_size for member in members.infolist())
            if size > BYTES_MAX:
                raise DataError(f"{path} holds {size} bytes; at most {BYTES_MAX} are read")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is no readable .npz file: {_first_line(error)}") from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # a member that is no .npy file comes as bytes
            raise DataError(f"{path}: {name} is no array")
    return arrays


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


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
