"""A host's end of the link, against a board written from docs/spec/link.md, over bad lines."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from cobs import cobs as other_cobs
from hypothesis import given
from hypothesis import strategies as st

from siligrad_host import Link, LinkError, cobs

bytestrings = st.one_of(
    st.binary(max_size=600),
    st.lists(st.sampled_from([b"\0", b"\1" * 253, b"\2" * 254, b"\3" * 255]), max_size=6).map(
        b"".join
    ),
)


@given(data=bytestrings)
def test_frames_are_those_of_another_library(data: bytes) -> None:
    assert cobs.encode(data) == other_cobs.encode(data)
    assert cobs.decode(cobs.encode(data)) == data


@given(frame=st.binary(max_size=300))
def test_what_is_no_frame_is_not_decoded(frame: bytes) -> None:
    try:
        expected = other_cobs.decode(frame) if frame else None
    except other_cobs.DecodeError:
        expected = None
    assert cobs.decode(frame) == expected


def untouched(frame: bytes) -> list[bytes]:
    return [frame]


class Board:
    """A board of 128 words, and a line that does to each frame what `line` says."""

    def __init__(self, line: Callable[[bytes], list[bytes]] = untouched) -> None:
        self.words = [0] * 128
        self.executed: list[tuple[int, ...]] = []
        self.session = self.number = 0
        self.line = line
        self.heard = b""
        self.said = b""

    def write(self, data: bytes) -> None:
        self.heard += data
        *frames, self.heard = self.heard.split(b"\0")
        for frame in frames:
            for arrived in self.line(frame) if frame else []:
                if (reply := self.answer(arrived)) is not None:
                    check = struct.pack("<I", zlib.crc32(reply))
                    for sent in self.line(other_cobs.encode(reply + check)):
                        self.said += sent + b"\0"

    def read(self, size: int) -> bytes:
        part, self.said = self.said[:size], self.said[size:]
        return part

    def answer(self, frame: bytes) -> bytes | None:
        try:
            data = other_cobs.decode(frame)
        except other_cobs.DecodeError:
            return None
        if len(data) < 18 or struct.pack("<I", zlib.crc32(data[:-4])) != data[-4:]:
            return None
        session, number, operation, count, address = struct.unpack("<IIBBI", data[:14])
        if operation >= 128:
            return None
        status, words = 128, b""
        if operation == 0:
            if session != self.session:
                self.session, self.number = session, number
        elif session != self.session:
            status = 129
        elif number not in {self.number, (self.number + 1) % 2**32}:
            status = 130
        else:
            if operation == 1:
                got = self.words[address : address + count + 1]
                words = struct.pack(f"<{count + 1}I", *got)
            elif number != self.number:
                values = struct.unpack(f"<{count + 1}I", data[14:-4])
                self.words[address : address + count + 1] = values
                self.executed.append((address, *values))
            self.number = number
        return struct.pack("<IIB", session, number, status) + words


def test_words_arrive_in_as_many_frames_as_they_need() -> None:
    board = Board()
    link = Link(board)
    words = np.arange(1, 101, dtype=np.uint32) * 0x01010101
    link.write(5, words)
    np.testing.assert_array_equal(link.read(5, 100), words)
    assert [len(item) - 1 for item in board.executed] == [64, 36]
    assert link.read(0, 0).tolist() == []
    assert (link.resent, link.dropped) == (0, 0)


class BadLine:
    """Damages, cuts, drops, repeats and delays frames."""

    def __init__(self, seed: int, share: float) -> None:
        self.random = random.Random(seed)
        self.share = share
        self.late: list[bytes] = []
        self.damaged = 0

    def __call__(self, frame: bytes) -> list[bytes]:
        if self.random.random() >= self.share:
            return [frame]
        self.damaged += 1
        kind = self.random.randrange(5)
        at = self.random.randrange(len(frame))
        if kind == 0:
            return [
                frame[:at] + bytes([frame[at] ^ 1 << self.random.randrange(8)]) + frame[at + 1 :]
            ]
        if kind == 1:
            return [frame[:at]]
        if kind == 2:
            return [frame, frame]
        if kind == 3:
            self.late.append(frame)
            return []
        return [frame, *self.late]  # old ones once more


@pytest.mark.parametrize("seed", range(3))
def test_a_thousand_commands_on_a_bad_line_are_a_thousand_executions(seed: int) -> None:
    line = BadLine(seed, 0.15)
    board = Board(line)
    link = Link(board, patience=0.0)
    expected = []
    rng = np.random.default_rng(seed)
    mirror = np.zeros(128, np.uint32)
    for command in range(1000):
        address, count = int(rng.integers(60)), int(rng.integers(1, 9))
        words = rng.integers(0, 1 << 32, count, dtype=np.uint32)
        link.write(address, words)
        expected.append((address, *words.tolist()))
        mirror[address : address + count] = words
        if command % 50 == 0:
            np.testing.assert_array_equal(link.read(0, 128), mirror)
    assert board.executed == expected
    assert board.words == mirror.tolist()
    assert line.damaged > 200
    assert link.resent > 100


def test_a_board_that_was_reset_is_told_of_and_nothing_is_repeated() -> None:
    board = Board()
    link = Link(board)
    link.write(3, np.array([7], np.uint32))
    board.session = board.number = 0
    with pytest.raises(
        LinkError, match=r"the board has been reset.*before the write of 1 words at 0x4"
    ):
        link.write(4, np.array([8], np.uint32))
    assert board.executed == [(3, 7)]


def test_a_second_host_ends_the_session_of_the_first() -> None:
    board = Board()
    first, second = Link(board), Link(board)
    second.write(1, np.array([1], np.uint32))
    with pytest.raises(LinkError, match="another host has taken it"):
        first.read(0, 1)


def test_silence_is_an_error_that_says_what_is_not_known() -> None:
    quiet = Board(lambda _: [])
    with pytest.raises(LinkError, match=r"did not answer 3 times .* not known whether the hello"):
        Link(quiet, patience=0.0, attempts=3)
    board = Board()
    link = Link(board, patience=0.0, attempts=2)
    board.line = lambda _: []
    with pytest.raises(LinkError, match=r"the write of 2 words at 0x20 was done"):
        link.write(32, np.zeros(2, np.uint32))
    assert link.resent == 1


def test_noise_without_end_is_dropped() -> None:
    board = Board()
    board.said = b"\1" * 5000 + b"\0"
    link = Link(board, patience=0.0)
    assert link.read(0, 2).tolist() == [0, 0]
    assert link.dropped > 0


class Babbler(Board):
    """A board, or another's echo, that says the replies of other requests without end."""

    def read(self, size: int) -> bytes:
        reply = struct.pack("<IIB", 1, 2, 128)
        return bytes(other_cobs.encode(reply + struct.pack("<I", zlib.crc32(reply)))) + b"\0"


def test_replies_to_others_without_end_are_not_listened_to_for_ever() -> None:
    with pytest.raises(LinkError, match="did not answer 2 times"):
        Link(Babbler(), patience=60.0, attempts=2)


def test_a_line_that_sends_back_what_it_is_given_is_no_board() -> None:
    class Echo(Board):
        def write(self, data: bytes) -> None:
            self.said += data

    with pytest.raises(LinkError, match="did not answer 3 times"):
        Link(Echo(), patience=0.0, attempts=3)


def test_requests_are_counted_and_so_is_what_was_sent_again() -> None:
    lost = iter([True, True, False, False, True, False, False])
    board = Board()
    link = Link(board, patience=0.0)
    board.line = lambda frame: [] if next(lost, False) else [frame]
    link.write(1, np.array([7], np.uint32))  # twice lost on its way there
    link.write(2, np.array([8], np.uint32))  # once
    assert (link.requests, link.resent, link.dropped) == (3, 3, 0)
    assert board.executed == [(1, 7), (2, 8)]
