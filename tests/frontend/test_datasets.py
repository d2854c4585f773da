"""Data sets: the bundled digits, every reader, and every damaged file."""

from __future__ import annotations

import gzip
import struct
import tempfile
import zipfile
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from siligrad import datasets
from siligrad.errors import DataError


def idx(array: Any) -> bytes:
    """The IDX file of an array, by the format's description."""
    codes = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}
    big = array.astype(array.dtype.newbyteorder(">"))
    header = struct.pack(">HBB", 0, codes[array.dtype.str[1:]], array.ndim)
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return header + sizes + bytes(big.tobytes())


# --- optdigits


def test_optdigits_is_the_published_data_set() -> None:
    digits = datasets.optdigits()
    assert digits.train_images.shape == (3823, 64)
    assert digits.test_images.shape == (1797, 64)
    # The class distribution of the UCI description.
    counts = [376, 389, 380, 389, 387, 376, 377, 387, 380, 382]
    np.testing.assert_array_equal(np.bincount(digits.train_labels), counts)
    counts = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    np.testing.assert_array_equal(np.bincount(digits.test_labels), counts)
    assert digits.train_images.min() == 0
    assert digits.train_images.max() == 1
    assert digits.image_shape == (8, 8)
    assert digits.inputs == 64
    first = [0, 1, 6, 15, 12, 1, 0, 0]  # the first row of the first image of optdigits.tra
    np.testing.assert_array_equal(digits.train_images[0, :8] * 16, first)
    assert digits.train_labels[0] == 0


def test_optdigits_comes_in_single_precision_too() -> None:
    assert datasets.optdigits(np.float32).train_images.dtype == np.float32


def test_data_cannot_be_written() -> None:
    digits = datasets.optdigits()
    with pytest.raises(ValueError, match="read-only"):
        digits.train_images[0, 0] = 1
    with pytest.raises(AttributeError):
        digits.classes = 9  # type: ignore[misc]
    assert repr(digits) == "<dataset optdigits: 3823 + 1797 images of 64 numbers, 10 classes>"


def test_the_attribution_is_beside_the_data() -> None:
    text = resources.files("siligrad").joinpath("data/optdigits.txt").read_text(encoding="utf-8")
    for part in ("E. Alpaydin", "C. Kaynak", "CC BY 4.0", "10.24432/C50P49"):
        assert part in text


# --- IDX

kinds = st.sampled_from(["u1", "i1", "i2", "i4", "f4", "f8"])
arrays = kinds.flatmap(
    lambda kind: hnp.arrays(kind, hnp.array_shapes(max_dims=3, max_side=4), fill=st.nothing())
)


@given(arrays, st.booleans())
def test_an_idx_file_is_read_back(array: Any, compress: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("array.gz" if compress else "array")
        path.write_bytes(gzip.compress(idx(array)) if compress else idx(array))
        result = datasets.load_idx(path)
    assert result.dtype == array.dtype
    assert result.dtype.isnative
    np.testing.assert_array_equal(result, array)


GOOD = idx(np.arange(6, dtype="u1").reshape(2, 3))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is no IDX file: it begins with nothing"),
        (b"\x89PNG", "is no IDX file: it begins with 89504e47"),
        (b"\0\0\x07\x01\0\0\0\0", "is no IDX file"),
        (GOOD[:9], "ends within its header"),
        (GOOD[:-1], r"must hold 6 bytes for the shape \(2, 3\), not 5"),
        (GOOD + b"!", r"must hold 6 bytes for the shape \(2, 3\), not more"),
        (b"\0\0\x08\x02\xff\xff\xff\xff\xff\xff\xff\xff", "more than 2 GiB is refused"),
    ],
)
def test_a_damaged_idx_file(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "images"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message):
        datasets.load_idx(path)


def test_a_damaged_gzip_file(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(GOOD)[:-9])
    with pytest.raises(DataError, match=r"images\.gz is not a whole gzip file"):
        datasets.load_idx(path)
    path.write_bytes(GOOD)
    with pytest.raises(DataError, match="is not a whole gzip file"):
        datasets.load_idx(path)


def write_mnist(folder: Path, *, test_labels: Any = None) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("t10k", 4)):
        images = rng.integers(0, 256, (count, 2, 3)).astype("u1")
        labels = (np.arange(count) % 3).astype("u1")
        if split == "t10k" and test_labels is not None:
            labels = test_labels
        (folder / f"{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(idx(labels))


def test_a_folder_like_mnists(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    data = datasets.load_idx_folder(tmp_path)
    assert data.train_images.shape == (6, 6)
    assert data.test_images.shape == (4, 6)
    assert data.train_images.dtype == np.float32
    assert data.classes == 3
    assert data.image_shape == (2, 3)
    assert data.name == tmp_path.name
    expected = np.random.default_rng(0).integers(0, 256, (6, 2, 3)).reshape(6, 6)
    np.testing.assert_array_equal(data.train_images, (expected / np.float32(255)).astype("f4"))


def test_a_folder_that_lacks_a_file(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"holds neither t10k-labels-idx1-ubyte nor .*\.gz"):
        datasets.load_idx_folder(tmp_path)


def test_labels_of_another_number(tmp_path: Path) -> None:
    write_mnist(tmp_path, test_labels=np.zeros(5, "u1"))
    with pytest.raises(DataError, match=r"test images of shape \(4, 6\) do not fit labels"):
        datasets.load_idx_folder(tmp_path)


# --- CSV


def test_csv_files_with_and_without_a_header(tmp_path: Path) -> None:
    train, test = tmp_path / "d.tra", tmp_path / "d.tes"
    train.write_text("a,b,class\n0,8,1\n\n16,4,0\n")
    test.write_text("4,4,2\n")
    data = datasets.load_csv(train, test, scale=16)
    np.testing.assert_array_equal(data.train_images, [[0, 0.5], [1, 0.25]])
    np.testing.assert_array_equal(data.train_labels, [1, 0])
    assert data.classes == 3
    assert data.image_shape == (1, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,0\n1,x,0\n", "line 2: '1,x,0' is not numbers"),
        ("1,2,0\n1,0\n", "line 2: 2 columns, but 3 before"),
        ("", "must have lines of inputs followed by a class"),
        ("1,2,0.5\n", "the last column must hold whole numbers"),
        ("1,2,-1\n", r"labels are -1 \.\. -1, outside of 0"),
    ],
)
def test_a_damaged_csv_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "data.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        datasets.load_csv(path, path)


# --- npz


def test_an_npz_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    images, labels = np.arange(12.0).reshape(3, 2, 2), np.array([0, 1, 1])
    np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    data = datasets.load_npz(path, scale=2)
    np.testing.assert_array_equal(data.train_images, images.reshape(3, 4) / 2)
    assert (data.name, data.classes, data.image_shape) == ("mine", 2, (2, 2))


def test_a_damaged_npz_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, train_images=np.ones(1))
    with pytest.raises(
        DataError, match="lacks train_labels, test_images, test_labels; it has train_"
    ):
        datasets.load_npz(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:50])
    with pytest.raises(DataError, match=r"mine\.npz is no readable \.npz archive"):
        datasets.load_npz(path)
    path.write_bytes(b"text")
    with pytest.raises(DataError, match="is no readable"):
        datasets.load_npz(path)
    np.save(tmp_path / "one.npy", np.ones(3))
    with pytest.raises(DataError, match="is a single array, not an"):
        datasets.load_npz(tmp_path / "one.npy")


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "evil.npz"
    np.savez(path, train_images=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(DataError, match="is no readable"):
        datasets.load_npz(path)


def test_a_flipped_bit_in_an_archive_is_found(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    images, labels = np.arange(64.0).reshape(16, 4), np.zeros(16, int)
    np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    with zipfile.ZipFile(path) as archive:
        offset = archive.getinfo("train_images.npy").header_offset
    data = bytearray(path.read_bytes())
    data[offset + 300] ^= 4
    path.write_bytes(data)
    with pytest.raises(DataError, match="Bad CRC-32"):
        datasets.load_npz(path)
