"""Trees of arrays in ``.npz`` files: written whole or not at all, and never executed.

A file is written beside its final name, brought to the disk and renamed, so that whoever is
interrupted, even by ``kill -9``, leaves either the old file or the new one. Loading needs examples
of the trees: a file with other names, shapes or types is refused, and pickled objects are never
read.

>>> import tempfile, numpy
>>> path = Path(tempfile.mkdtemp()) / "params.npz"
>>> save(path, {"params": [numpy.ones(2)]}, {"epoch": 3})
>>> load(path, {"params": [numpy.zeros(2)]})
({'params': [array([1., 1.])]}, {'epoch': 3})
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siligrad import tree
from siligrad.errors import DataError
from siligrad.npz import read_npz

__all__ = ["load", "save"]

_METADATA = "metadata.json"
_METADATA_LIMIT = 1 << 26
"""Bytes that a file may have beside its arrays."""


def save(path: str | Path, trees: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Write named trees and JSON-compatible ``metadata`` to ``path``, atomically.

    Every array keeps its bits; array names are paths such as ``params[0][1]``.
    """
    path = Path(path)
    arrays = {_METADATA: np.frombuffer(json.dumps(dict(metadata)).encode(), np.uint8)}
    for name, value in trees.items():
        leaves, structure = tree.flatten(value)
        for each, leaf in zip(tree.paths(structure, name), leaves, strict=True):
            arrays[each] = np.asarray(leaf)
    beside = path.with_name(f"{path.name}.new")
    with beside.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename too is to survive
    finally:
        os.close(folder)


def load(path: str | Path, like: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the trees named in ``like``, each built as its example, and the metadata.

    Raises
    ------
    DataError
        If the file is damaged or larger than those trees, or an array is missing or has another
        shape or type.
    """
    path = Path(path)
    arrays = _read(path, 2 * sum(map(_size, like.values())) + _METADATA_LIMIT)
    try:
        metadata = json.loads(arrays.pop(_METADATA).tobytes())
        if not isinstance(metadata, dict):
            raise TypeError("no object")
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path.name} is no checkpoint of siligrad: it has no metadata") from error
    available = ", ".join(arrays) or "nothing"
    trees = {}
    for name, example in like.items():
        leaves, structure = tree.flatten(example)
        found = []
        for each, leaf in zip(tree.paths(structure, name), leaves, strict=True):
            expected = np.asarray(leaf)
            if each not in arrays:
                raise DataError(f"{path.name} has no {each}; it has {available}")
            array = arrays.pop(each)
            if array.shape != expected.shape or array.dtype != expected.dtype:
                raise DataError(
                    f"{path.name}: {each} is {array.dtype}{list(array.shape)}, but "
                    f"{expected.dtype}{list(expected.shape)} is needed"
                )
            found.append(array)
        unknown = [key for key in arrays if key.startswith((f"{name}[", f"{name}."))]
        if unknown:
            raise DataError(f"{path.name} has {', '.join(unknown)}, which {name} does not have")
        trees[name] = tree.unflatten(structure, found)
    return trees, metadata


def _size(example: Any) -> int:
    return sum(np.asarray(leaf).nbytes for leaf in tree.flatten(example)[0])


def _read(path: Path, limit: int) -> dict[str, NDArray[Any]]:
    with path.open("rb") as file:
        try:
            return read_npz(file, limit)
        except DataError as error:
            raise DataError(f"{path.name} is no readable .npz archive: {error}") from error
