"""Labelled data sets: the bundled digits, and readers for IDX, CSV and ``.npz`` files.

Readers check what they read: a file that is damaged or not what it should be is refused with a
:class:`~siligrad.errors.DataError`, and nothing in a file is ever executed.

>>> digits = optdigits()
>>> digits.train_images.shape, digits.test_images.shape, digits.classes
((3823, 64), (1797, 64), 10)
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from siligrad.errors import DataError
from siligrad.npz import read_npz

__all__ = ["Dataset", "load_csv", "load_idx", "load_idx_folder", "load_npz", "optdigits"]

_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_IDX_LIMIT = 1 << 31  # bytes; a header that promises more is not believed
_NPZ_LIMIT = 1 << 32  # bytes of all arrays of a file, uncompressed
_SPLITS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True, eq=False, slots=True)
class Dataset:
    """Images as rows of numbers in 0 .. 1 with their classes, split for training and testing.

    Parameters
    ----------
    name : :class:`str`
        What it is called in reports.
    train_images, test_images : :class:`numpy.ndarray`
        Shape ``(n, inputs)``, floating point, read-only.
    train_labels, test_labels : :class:`numpy.ndarray`
        Shape ``(n,)``, integers from 0, read-only.
    classes : :class:`int`
        Number of classes.
    image_shape : :class:`tuple` of :class:`int`
        Rows and columns of an image, for drawing; ``(1, inputs)`` for data that is no image.
    """

    name: str
    train_images: NDArray[Any]
    train_labels: NDArray[np.int64]
    test_images: NDArray[Any]
    test_labels: NDArray[np.int64]
    classes: int
    image_shape: tuple[int, int]

    def __post_init__(self) -> None:
        for split in ("train", "test"):
            images = getattr(self, f"{split}_images")
            labels = getattr(self, f"{split}_labels")
            if images.ndim != 2 or labels.shape != images.shape[:1]:
                raise DataError(
                    f"{self.name}: {split} images of shape {images.shape} do not fit labels of "
                    f"shape {labels.shape}; (n, inputs) and (n,) do"
                )
            if labels.size and not 0 <= labels.min() <= labels.max() < self.classes:
                raise DataError(
                    f"{self.name}: {split} labels are {labels.min()} .. {labels.max()}, outside of "
                    f"0 .. {self.classes - 1}"
                )
            images.flags.writeable = False
            labels.flags.writeable = False

    @property
    def inputs(self) -> int:
        """Numbers in one image."""
        return int(self.train_images.shape[1])

    def __repr__(self) -> str:
        return (
            f"<dataset {self.name}: {len(self.train_labels)} + {len(self.test_labels)} images of "
            f"{self.inputs} numbers, {self.classes} classes>"
        )


def optdigits(dtype: DTypeLike = np.float64) -> Dataset:
    """Load the bundled handwritten digits: 3823 to train, 1797 to test, 8x8 pixels, 10 classes.

    E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits" (1998), UCI Machine Learning
    Repository, doi 10.24432/C50P49, CC BY 4.0. Pixels are counts 0 .. 16, divided by 16 here.
    """
    with resources.files("siligrad").joinpath("data/optdigits.npz").open("rb") as file:
        arrays = _read_npz(file, "optdigits.npz")
    return _dataset("optdigits", [arrays[key] for key in _SPLITS], 16, dtype, 10)


def load_npz(path: str | Path, *, scale: float = 1.0, dtype: DTypeLike = np.float64) -> Dataset:
    """Load a ``.npz`` file with the arrays ``train_images``, ``train_labels`` and ``test_*``.

    Images are divided by ``scale``; images of two dimensions are flattened. Pickled objects are
    refused.
    """
    path = Path(path)
    with path.open("rb") as file:
        arrays = _read_npz(file, path.name)
    missing = [key for key in _SPLITS if key not in arrays]
    if missing:
        raise DataError(f"{path.name} lacks {', '.join(missing)}; it has {', '.join(arrays)}")
    return _dataset(path.stem, [arrays[key] for key in _SPLITS], scale, dtype)


def load_csv(
    train: str | Path, test: str | Path, *, scale: float = 1.0, dtype: DTypeLike = np.float64
) -> Dataset:
    """Load two text files of comma-separated numbers, one example a line, its class at the end.

    A first line that is no numbers is taken for a header. Inputs are divided by ``scale``.
    """
    parts: list[NDArray[Any]] = []
    for path in (Path(train), Path(test)):
        table = _read_csv(path)
        parts += [table[:, :-1], _whole(table[:, -1], path.name)]
    return _dataset(Path(train).stem, parts, scale, dtype)


def load_idx_folder(path: str | Path, *, dtype: DTypeLike = np.float32) -> Dataset:
    """Load a folder in the layout of MNIST: four IDX files, compressed with gzip or not.

    ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the same two with ``t10k``; pixels
    0 .. 255 are divided by 255.
    """
    folder = Path(path)
    names = [
        f"{split}-{what}-ubyte"
        for split in ("train", "t10k")
        for what in ("images-idx3", "labels-idx1")
    ]
    found = [_existing(folder, name) for name in names]
    return _dataset(folder.resolve().name, [load_idx(each) for each in found], 255, dtype)


def load_idx(path: str | Path) -> NDArray[Any]:
    """Load one array in the IDX format of the MNIST files, compressed when its name ends in .gz.

    Y. LeCun, C. Cortes, C. Burges, "The MNIST database", section "File formats": two zero bytes,
    the type, the number of dimensions, each size as a big-endian 32-bit number, then the elements.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            if path.suffix != ".gz":
                return _read_idx(file, path.name)
            with gzip.open(file) as unpacked:
                return _read_idx(unpacked, path.name)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path.name} is not a whole gzip file: {error}") from error


def _read_idx(file: IO[bytes] | gzip.GzipFile, name: str) -> NDArray[Any]:
    head = file.read(4)
    if len(head) != 4 or head[:2] != b"\0\0" or head[2] not in _IDX_TYPES:
        raise DataError(f"{name} is no IDX file: it begins with {head.hex() or 'nothing'}")
    sizes = file.read(4 * head[3])
    if len(sizes) != 4 * head[3]:
        raise DataError(f"{name} ends within its header")
    shape = tuple(int(size) for size in np.frombuffer(sizes, ">u4"))
    dtype = np.dtype(_IDX_TYPES[head[2]])
    expected = int(np.prod([*shape, dtype.itemsize], dtype=object))
    if expected > _IDX_LIMIT:
        raise DataError(f"{name} claims {expected} bytes of elements; more than 2 GiB is refused")
    data = file.read(expected + 1)
    if len(data) != expected:
        more = "more" if len(data) > expected else str(len(data))
        raise DataError(f"{name} must hold {expected} bytes for the shape {shape}, not {more}")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _read_npz(file: IO[bytes], name: str) -> dict[str, NDArray[Any]]:
    try:
        arrays = read_npz(file, _NPZ_LIMIT)
    except DataError as error:
        raise DataError(f"{name} is no readable .npz archive: {error}") from error
    for key, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise DataError(f"{name}: {key} holds {array.dtype}, not numbers")
    return arrays


def _read_csv(path: Path) -> NDArray[np.float64]:
    rows: list[list[float]] = []
    with path.open(encoding="utf-8", errors="replace") as file:  # what is no text is no number
        for number, line in enumerate(file, 1):
            cells = line.strip().split(",")
            if cells == [""]:
                continue
            try:
                row = [float(cell) for cell in cells]
            except ValueError:
                if number == 1:
                    continue
                raise DataError(
                    f"{path.name}, line {number}: {line.strip()!r} is not numbers"
                ) from None
            if rows and len(row) != len(rows[0]):
                raise DataError(
                    f"{path.name}, line {number}: {len(row)} columns, but {len(rows[0])} before"
                )
            rows.append(row)
    if not rows or len(rows[0]) < 2:
        raise DataError(f"{path.name} must have lines of inputs followed by a class")
    return np.array(rows)


def _whole(column: NDArray[np.float64], name: str) -> NDArray[np.int64]:
    # What is too large for a float to count with, or no number, is not cast.
    labels = np.where(np.abs(column) < 2**53, column, -0.5).astype(np.int64)
    if not np.array_equal(labels, column):
        raise DataError(f"{name}: the last column must hold whole numbers, the classes")
    return labels


def _existing(folder: Path, name: str) -> Path:
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise DataError(f"{folder} holds neither {name} nor {name}.gz")


def _dataset(
    name: str,
    parts: Iterable[NDArray[Any]],
    scale: float,
    dtype: DTypeLike,
    classes: int | None = None,
) -> Dataset:
    train, train_labels, test, test_labels = parts
    train_labels, test_labels = train_labels.astype(np.int64), test_labels.astype(np.int64)
    if classes is None:
        classes = int(max(train_labels.max(initial=-1), test_labels.max(initial=-1))) + 1
    rows, columns = train.shape[1:] if train.ndim == 3 else _square(train)
    return Dataset(
        name,
        *(_flat(train, scale, dtype), train_labels),
        *(_flat(test, scale, dtype), test_labels),
        classes=classes,
        image_shape=(int(rows), int(columns)),
    )


def _square(images: NDArray[Any]) -> tuple[int, int]:
    inputs = images.shape[1] if images.ndim == 2 else 0
    side = round(inputs**0.5)
    return (side, side) if side * side == inputs else (1, inputs)


def _flat(images: NDArray[Any], scale: float, dtype: DTypeLike) -> NDArray[Any]:
    flat = images.reshape(len(images), -1).astype(dtype)
    flat /= scale
    return flat
