"""What Python reads of bytes that others wrote: each parser refuses them, or reads what is right.

Inputs are drawn by hypothesis: mostly files that are right but for a few changes, their checksums
mended so that what lies behind them is reached too, and sometimes anything. A parser may raise its
own error and nothing else, and must not take long.
"""

from __future__ import annotations

import io
import struct
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
from cobs import cobs as other_cobs
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import siligrad as sg
from siligrad import checkpoint, datasets, nn
from siligrad.errors import DataError
from siligrad.image import ImageError
from siligrad.program import Program
from siligrad_cli.archive import read_arrays
from siligrad_cli.main import main
from siligrad_cli.run_state import State
from siligrad_host import Link, LinkError, cobs
from siligrad_sim.benches.link_model import LinkModel, encoded, frame_of, word_at
from siligrad_sim.reference import ReferenceDevice

__all__ = ["TARGETS", "Target", "fuzz"]

SECONDS_MAX = 5.0
"""That a parser may take for one input."""

_EXAMPLES = 50
_CRC_AT = 16
_RUN_CYCLES_MAX = 20_000
_DEPTH_MAX = 4096


@dataclass(frozen=True, slots=True)
class Target:
    """A parser, what it is given, and what must come of it.

    Parameters
    ----------
    name
        Of the parser.
    inputs
        What is drawn.
    check
        Raises if something is wrong.
    """

    name: str
    inputs: Callable[[], st.SearchStrategy[Any]]
    check: Callable[[Any], None]


def fuzz(target: Target, seconds: float, seed: int) -> int:
    """Try a parser for some time; return how many inputs it was given.

    Raises
    ------
    Exception
        What the parser should not have raised, with the input, made as small as can be, in its
        notes.
    """
    count = 0
    inputs = target.inputs()
    # What a first call costs (imports, files that are made) is none of the parser's time.
    deadline = time.monotonic() + seconds
    while count == 0 or time.monotonic() < deadline:

        @hypothesis.seed(hash((seed, count)))
        @settings(
            max_examples=_EXAMPLES,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        )
        @hypothesis.given(value=inputs)
        def attempt(value: Any) -> None:
            nonlocal count
            count += 1
            begin = time.monotonic()
            target.check(value)
            took = time.monotonic() - begin
            assert took < SECONDS_MAX, f"it took {took:.1f} s"

        attempt()
    return count


# Changes of what is right

_Edit = tuple[int, int, int, int]

_VALUES = (0, 1, 2, 7, 8, 16, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**20, 2**31 - 1, 2**32 - 1)


def _edits(most: int = 4) -> st.SearchStrategy[list[_Edit]]:
    position = st.integers(0, 2**20)
    value = st.one_of(st.sampled_from(_VALUES), st.integers(0, 2**32 - 1))
    length = st.sampled_from((1, 2, 4, 8, 16, 48, 1000))
    return st.lists(st.tuples(st.integers(0, 5), position, value, length), max_size=most)


def _edited(data: bytes, edits: Sequence[_Edit]) -> bytes:
    result = bytearray(data)
    for kind, position, value, length in edits:
        at = position % (len(result) + 1)
        if kind == 0:
            result[at : at + 1] = bytes([value % 256])
        elif kind == 1:
            at -= at % 4
            result[at : at + 4] = struct.pack("<I", value)
        elif kind == 2:
            del result[at : at + length]
        elif kind == 3:
            result[at:at] = result[at : at + length]
        elif kind == 4:
            at -= at % 2
            result[at : at + 2] = struct.pack("<H", value % 2**16)
        else:
            result[at : at + 1] = bytes([result[at] ^ 1 << value % 8]) if at < len(result) else b""
    return bytes(result)


def _files(whole: bytes) -> st.SearchStrategy[bytes]:
    """Files like one that is right, and a few that are not."""
    return st.one_of(st.builds(_edited, st.just(whole), _edits()), st.binary(max_size=200))


def _archives(whole: bytes) -> st.SearchStrategy[bytes]:
    """Zip files like one that is right, with changes inside its members or outside."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def zipped(edits: dict[str, list[_Edit]], dropped: set[str], compressed: bool) -> bytes:
        file = io.BytesIO()
        how = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
        with zipfile.ZipFile(file, "w", how) as archive:
            for name, data in members.items():
                if name not in dropped:
                    member = zipfile.ZipInfo(name)
                    archive.writestr(member, _edited(data, edits.get(name, [])), how)
        return file.getvalue()

    names = st.sampled_from(sorted(members))
    inside = st.builds(
        zipped,
        st.dictionaries(names, _edits(2), max_size=2),
        st.sets(names, max_size=1),
        st.booleans(),
    )
    return st.one_of(inside, inside, _files(whole))


# The files that are right


@cache
def _program() -> Program:
    rng = np.random.default_rng(0)
    params = nn.perceptron(rng, [5, 4, 3])
    x, y = rng.random((4, 5)), np.where(rng.integers(0, 2, (4, 3)), 1.0, -1.0)

    def loss(params: Any, x: Any, y: Any) -> Any:
        return sg.losses.squared_hinge(nn.predict(params, x), y)

    def step(params: Any, x: Any, y: Any) -> Any:
        slopes = sg.grad(loss)(params, x, y)
        return [(W - dW, b - db) for (W, b), (dW, db) in zip(params, slopes, strict=True)]

    target = sg.Target(array=2, x_depth=64, w_depth=64, e_depth=64, program_depth=64)
    return sg.compile(step, params, x, y, donate=0, target=target)


@contextmanager
def _file(content: bytes, name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="siligrad-fuzz-") as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        yield path


@cache
def _state() -> bytes:
    with _file(_program().to_bytes(), "net.sgp") as image:
        state = image.with_name("state.npz")
        with redirect_stdout(io.StringIO()):
            assert main(["run", str(image), "--steps", "1", "--state", str(state)]) == 0
        return state.read_bytes()


_TREES = {"params": [np.arange(6.0).reshape(2, 3), (np.ones(2, np.float32), None)]}


@cache
def _checkpoint() -> bytes:
    with _file(b"", "checkpoint.npz") as path:
        checkpoint.save(path, _TREES, {"epoch": 3})
        return path.read_bytes()


@cache
def _dataset() -> bytes:
    images, labels = np.zeros((3, 2, 2), np.uint8), np.array([0, 1, 2], np.uint8)
    file = io.BytesIO()
    np.savez(file, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    return file.getvalue()


_IDX = b"\0\0\x08\x03" + struct.pack(">3I", 2, 2, 3) + bytes(range(12))
_CSV = b"a,b,c\n1,2,0\n3,4,1\n\n5,6.5e2,2\n"


# What must come of them


def _images() -> st.SearchStrategy[bytes]:
    def sealed(edits: list[_Edit], mend: bool) -> bytes:
        data = bytearray(_edited(_program().to_bytes(), edits))
        if mend and len(data) >= _CRC_AT + 4:
            struct.pack_into("<I", data, 12, len(data))
            struct.pack_into("<I", data, _CRC_AT, 0)
            struct.pack_into("<I", data, _CRC_AT, zlib.crc32(data))
        return bytes(data)

    return st.builds(sealed, _edits(), st.sampled_from((True, True, True, False)))


def _check_image(blob: bytes) -> None:
    try:
        program = Program.from_bytes(blob)
    except ImageError:
        return
    again = program.to_bytes()
    assert Program.from_bytes(again).to_bytes() == again
    geometry = program.geometry
    depth = max(geometry.x_depth, geometry.w_depth, geometry.e_depth)
    if depth <= _DEPTH_MAX and program.cycles <= _RUN_CYCLES_MAX:
        device = ReferenceDevice(geometry)
        device.load(program)
        assert device.execute(program.loop, program.cycles) == program.cycles


def _check_cobs(frame: bytes) -> None:
    assert cobs.decode(cobs.encode(frame)) == frame
    assert cobs.encode(frame) == other_cobs.encode(frame)
    try:
        expected = other_cobs.decode(frame) if frame else None
    except other_cobs.DecodeError:
        expected = None
    assert cobs.decode(frame) == expected


class _Board:
    """A board that says other things between its replies."""

    def __init__(self, between: Sequence[bytes]) -> None:
        self._between = list(between)
        self._model = LinkModel()
        self._said = b""

    def write(self, data: bytes) -> None:
        for frame in data.split(b"\0"):
            for reply in self._model.answer(frame).replies:
                if self._model.number % 2 and self._between:
                    self._said += self._between.pop() + b"\0"
                self._said += encoded(reply) + b"\0"

    def read(self, size: int) -> bytes:
        part, self._said = self._said[:size], self._said[size:]
        return part


def _babble() -> st.SearchStrategy[list[bytes]]:
    heads = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 255))
    strays = st.builds(
        lambda head, words: frame_of(struct.pack("<IIB", *head) + words), heads, st.binary()
    )
    return st.lists(st.one_of(st.binary(max_size=700), strays), max_size=20)


def _check_replies(between: list[bytes]) -> None:
    try:
        link = Link(_Board(between), patience=0.0)
        for address in (0, 5, 1000):
            words = link.read(address, 3).tolist()
            assert words == [word_at(address + at) for at in range(3)]
    except LinkError:
        return


def _refusing_data(read: Callable[[Path], Any], name: str) -> Callable[[bytes], None]:
    def check(content: bytes) -> None:
        with _file(content, name) as path:
            try:
                read(path)
            except DataError:
                return

    return check


def _read_checkpoint(path: Path) -> None:
    trees, _ = checkpoint.load(path, _TREES)
    params = trees["params"]
    assert params[0].shape == (2, 3)
    assert params[1][0].dtype == np.float32


def _read_state(path: Path) -> None:
    state = State.load(path, _program())
    assert 0 <= state.done <= state.steps
    assert all(state.lfsr)


TARGETS = {
    target.name: target
    for target in (
        Target("image", _images, _check_image),
        Target("cobs", lambda: st.binary(max_size=600), _check_cobs),
        Target("replies", _babble, _check_replies),
        Target(
            "checkpoint",
            lambda: _archives(_checkpoint()),
            _refusing_data(_read_checkpoint, "checkpoint.npz"),
        ),
        Target("state", lambda: _archives(_state()), _refusing_data(_read_state, "state.npz")),
        Target("arrays", lambda: _archives(_dataset()), _refusing_data(read_arrays, "in.npz")),
        Target("npz", lambda: _archives(_dataset()), _refusing_data(datasets.load_npz, "d.npz")),
        Target("idx", lambda: _files(_IDX), _refusing_data(datasets.load_idx, "images-idx3")),
        Target("idx.gz", lambda: _files(_IDX), _refusing_data(datasets.load_idx, "images.gz")),
        Target(
            "csv",
            lambda: _files(_CSV),
            _refusing_data(lambda path: datasets.load_csv(path, path), "digits.csv"),
        ),
    )
}
"""The parsers, by name."""
