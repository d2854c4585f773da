"""Reading ``.npz`` files that nobody vouches for: nothing is executed, and no more read than asked.

numpy's own reader believes sizes in headers before it looks for the bytes, and raises whatever its
parts raise of damaged ones.

>>> import io
>>> file = io.BytesIO()
>>> np.savez(file, a=np.arange(3))
>>> read_npz(file, 1000)
{'a': array([0, 1, 2])}
"""

from __future__ import annotations

import math
import zipfile
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from siligrad.errors import DataError

__all__ = ["read_npz"]

_SUFFIX = ".npy"


def read_npz(file: IO[bytes], limit: int) -> dict[str, NDArray[Any]]:
    """Return the arrays in an open file by name.

    Parameters
    ----------
    file
        Open for reading, and seekable.
    limit
        Most bytes that all of them may have, uncompressed.

    Raises
    ------
    DataError
        If it is no such file, is damaged, holds objects, or more than `limit` bytes. The message
        begins in mid-sentence, for a caller that knows the file's name.
    """
    try:
        return _read(file, limit)
    except DataError:
        raise
    # Of damaged bytes zipfile, zlib and numpy raise a dozen kinds, some of them undocumented.
    except Exception as error:
        said = (str(error).splitlines() or [""])[0]
        raise DataError(said or type(error).__name__) from error


def _read(file: IO[bytes], limit: int) -> dict[str, NDArray[Any]]:
    if file.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
        raise DataError("it is a single array, not an archive")
    file.seek(0)
    arrays = {}
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        size = sum(member.file_size for member in members)
        if size > limit:
            raise DataError(f"it holds {size} bytes; at most {limit} are read")
        for member in members:
            name = member.filename.removesuffix(_SUFFIX)
            if name == member.filename:
                raise DataError(f"{name} is no array")
            with archive.open(member) as content:
                arrays[name] = _read_array(content, name, member.file_size)
    return arrays


def _read_array(content: IO[bytes], name: str, size: int) -> NDArray[Any]:
    version = npy.read_magic(content)
    if version == (1, 0):
        shape, fortran, dtype = npy.read_array_header_1_0(content)
    elif version == (2, 0):
        shape, fortran, dtype = npy.read_array_header_2_0(content)
    else:
        raise DataError(f"{name} is an array of version {version}, not (1, 0) or (2, 0)")
    if dtype.hasobject:
        raise DataError(f"{name} holds objects, which are never read")
    wanted = math.prod(shape) * dtype.itemsize
    if wanted > size or min(shape, default=0) < 0:
        raise DataError(f"{name} promises {wanted} bytes, but has {size} at most")
    data = content.read(wanted + 1)
    if len(data) != wanted:
        more = "more" if len(data) > wanted else "fewer"
        raise DataError(f"{name} has {more} bytes than {wanted}")
    return np.ndarray(shape, dtype, bytearray(data), order="F" if fortran else "C")
