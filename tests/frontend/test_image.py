from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import siligrad as sg
import siligrad.numpy as np
from siligrad.image import ImageError, to_bytes
from siligrad.program import Program


def forward(params: Any, x: Any) -> Any:
    return {"scores": np.maximum(x @ params["W"] + params["b"], 0)}


def compiled() -> Program:
    params = {"W": numpy.linspace(-1, 1, 35).reshape(5, 7), "b": numpy.linspace(0, 1, 7)}
    return sg.compile(forward, params, numpy.ones((3, 5)), resident=0, target=sg.Target(array=3))


PROGRAM = compiled()
IMAGE = to_bytes(PROGRAM)


def resealed(image: bytearray) -> bytes:
    """The image with a right size and CRC: what a careful forger would write."""
    struct.pack_into("<I", image, 12, len(image))
    struct.pack_into("<I", image, 16, 0)
    struct.pack_into("<I", image, 16, zlib.crc32(image))
    return bytes(image)


def test_an_image_survives_a_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "forward.sgp"
    PROGRAM.save(path)
    again = Program.load(path)
    assert again.instructions == PROGRAM.instructions
    assert again.tensors == PROGRAM.tensors
    assert again.arguments == PROGRAM.arguments
    assert again.result == PROGRAM.result
    assert again.geometry == PROGRAM.geometry
    assert (again.name, again.macs, again.sources) == (PROGRAM.name, PROGRAM.macs, PROGRAM.sources)
    assert set(again.initial) == set(PROGRAM.initial)
    for index, codes in PROGRAM.initial.items():
        numpy.testing.assert_array_equal(again.initial[index], codes)
    assert to_bytes(again) == IMAGE == path.read_bytes()
    assert [item.name for item in tmp_path.iterdir()] == ["forward.sgp"]


def test_the_header_is_what_the_specification_says() -> None:
    assert IMAGE[:8] == b"SILIGRAD"
    assert struct.unpack_from("<HHI", IMAGE, 8) == (2, 96, len(IMAGE))
    assert tuple(IMAGE[20:24]) == (3, 16, 40, 16)
    assert struct.unpack_from("<4I", IMAGE, 24) == (256, 256, 256, 64)
    assert struct.unpack_from("<Q", IMAGE, 40) == (PROGRAM.cycles,)
    sections = [struct.unpack_from("<II", IMAGE, 48 + 8 * i) for i in range(5)]
    assert sections[0] == (96, 16 * 4)  # a header of two lines, a product, a bias
    assert all(offset % 8 == 0 for offset, _ in sections)
    # The second argument's first tensor record, read with the offsets of the specification.
    at = sections[1][0]
    name, role, memory, _, base, rows, columns, frac = struct.unpack_from("<IBBHIIIi", IMAGE, at)
    tensor = PROGRAM.tensors[0]
    assert IMAGE[sections[2][0] + name :].split(b"\0")[0].decode() == tensor.name == "params['W']"
    assert (role, memory, base) == (1, tensor.memory, tensor.base)
    assert (rows, columns, frac) == (5, 7, tensor.format.frac)
    # Element (4, 6) of W: tile (1, 2), row 1, column 0, in bank (1 + 0) mod 3.
    (data,) = struct.unpack_from("<I", IMAGE, at + 36)
    word = (1 * 3 + 2) * 3 + 1
    (code,) = struct.unpack_from("<h", IMAGE, sections[3][0] + data + 2 * (word * 3 + 1))
    assert code == round(1.0 * 2**frac)


@given(st.integers(0, 8 * len(IMAGE) - 1))
def test_a_flipped_bit_is_noticed(bit: int) -> None:
    image = bytearray(IMAGE)
    image[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ImageError):
        Program.from_bytes(bytes(image))


@given(st.integers(0, len(IMAGE) - 1))
def test_a_truncated_image_is_refused(size: int) -> None:
    with pytest.raises(ImageError, match=r"truncated|does not begin with SILIGRAD"):
        Program.from_bytes(IMAGE[:size])


@given(st.integers(20, len(IMAGE) - 1), st.integers(1, 255))
def test_a_forged_image_is_refused_or_a_valid_program(at: int, change: int) -> None:
    image = bytearray(IMAGE)
    image[at] ^= change
    try:
        program = Program.from_bytes(resealed(image))
    except ImageError:
        return
    assert (
        program.cycles > 0
    )  # whatever was changed, it passed the same checks as a compiled program


@pytest.mark.parametrize(
    "structure", [[], 5, "a", {"list": 5}, {"set": []}, {"a": [], "b": []}, {}]
)
def test_a_structure_that_is_none_is_refused(structure: object) -> None:
    at, size = struct.unpack_from("<II", IMAGE, 80)
    metadata = json.loads(IMAGE[at : at + size])
    metadata["result"]["structure"] = structure
    text = json.dumps(metadata).encode()
    image = bytearray(IMAGE[:at] + text)
    struct.pack_into("<I", image, 84, len(text))
    with pytest.raises(ImageError):
        Program.from_bytes(resealed(image))


def test_a_foreign_or_a_newer_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    with pytest.raises(ImageError, match=r"notes.txt: not a siligrad image"):
        Program.load(path)
    with pytest.raises(ImageError, match=r"missing.sgp: No such file"):
        Program.load(tmp_path / "missing.sgp")
    newer = bytearray(IMAGE)
    struct.pack_into("<H", newer, 8, 3)
    with pytest.raises(ImageError, match="image version 3; this siligrad reads version 2"):
        Program.from_bytes(resealed(newer))


def test_a_wrong_promise_of_cycles_is_refused() -> None:
    image = bytearray(IMAGE)
    struct.pack_into("<Q", image, 40, PROGRAM.cycles + 1)
    with pytest.raises(ImageError, match=f"promises {PROGRAM.cycles + 1} cycles"):
        Program.from_bytes(resealed(image))


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.sgp"
    with path.open("wb") as file:
        file.truncate((1 << 26) + 1)
    with pytest.raises(ImageError, match="an image has at most 67108864"):
        Program.load(path)


def test_an_image_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "forward.sgp"
    PROGRAM.save(path)
    broken = object.__new__(Program)
    with pytest.raises(AttributeError):
        broken.save(path)
    assert Program.load(path).cycles == PROGRAM.cycles
    assert [item.name for item in tmp_path.iterdir()] == ["forward.sgp"]
