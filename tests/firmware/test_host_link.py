"""A host's end of the link, against a board written from docs/spec/link.md, over bad lines."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from cobs import cobs as other_cobs
from hypothesis import given
from hypothesis import strategies as st

from siligrad_host import Link, LinkError, cobs
from tests.firmware.linked_port import BadLine, LinkedPort, Memory, untouched

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


class Board(LinkedPort):
    """A board at the other end of a serial port."""

    def __init__(self, line: Callable[[bytes], list[bytes]] = untouched) -> None:
        self.memory = Memory()
        self.said = b""
        super().__init__(self.memory, line)

    def write(self, data: bytes) -> None:
        self.said += self.hear(data)

    def read(self, size: int) -> bytes:
        part, self.said = self.said[:size], self.said[size:]
        return part


def test_words_arrive_in_as_many_frames_as_they_need() -> None:
    board = Board()
    link = Link(board)
    words = np.arange(1, 101, dtype=np.uint32) * 0x01010101
    link.write(5, words)
    np.testing.assert_array_equal(link.read(5, 100), words)
    assert [len(item) - 1 for item in board.executed] == [64, 36]
    assert link.read(0, 0).tolist() == []
    assert (link.resent, link.dropped) == (0, 0)


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
    assert [board.memory.read(address) for address in range(128)] == mirror.tolist()
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
