"""A board as docs/spec/link.md has it: frames on one side, words of a host port on the other.

:class:`BoardThread` puts it behind a pseudo-terminal, where programs find a serial port.
"""

from __future__ import annotations

import os
import random
import select
import struct
import threading
import tty
import zlib
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from cobs import cobs

__all__ = ["BadLine", "BoardThread", "LinkedPort", "Memory", "Words", "untouched"]


class Words(Protocol):
    """What a board's words are behind."""

    def read(self, address: int, /) -> int: ...
    def write(self, address: int, value: int, /) -> None: ...


class Memory:
    """Words that are what was written last; each write is counted."""

    def __init__(self) -> None:
        self.words: dict[int, int] = {}
        self.written: list[tuple[int, int]] = []

    def read(self, address: int) -> int:
        return self.words.get(address, 0)

    def write(self, address: int, value: int) -> None:
        self.words[address] = value
        self.written.append((address, value))


def untouched(frame: bytes) -> list[bytes]:
    """Be a good line."""
    return [frame]


class BadLine:
    """Damages, cuts, drops, repeats and delays a share of the frames."""

    def __init__(self, seed: int, share: float) -> None:
        self.random = random.Random(seed)
        self.share = share
        self.late: list[bytes] = []
        self.damaged = 0

    def __call__(self, frame: bytes) -> list[bytes]:
        if self.random.random() >= self.share:
            return [frame]
        self.damaged += 1
        at = self.random.randrange(len(frame))
        kind = self.random.randrange(6)
        if kind == 0:
            changed = frame[at] ^ 1 << self.random.randrange(8)
            return [frame[:at] + bytes([changed]) + frame[at + 1 :]]
        if kind == 1:
            return [frame[:at]]
        if kind == 2:
            return [frame, frame]
        if kind == 3:
            self.late.append(frame)
            return []
        return [*self.late, frame] if kind == 4 else [frame, *self.late]  # old ones once more


class LinkedPort:
    """A board: bytes in, bytes out. Frames of both directions go through `line`.

    `executed` has the address and the words of each request to write that was carried out.
    """

    def __init__(self, port: Words, line: Callable[[bytes], list[bytes]] = untouched) -> None:
        self.port = port
        self.line = line
        self.session = self.number = 0
        self.executed: list[tuple[int, ...]] = []
        self.status = 128  # of what is well
        self._heard = b""

    def hear(self, data: bytes) -> bytes:
        """Take bytes from the host; return those of the replies."""
        said = b""
        *frames, self._heard = (self._heard + data).split(b"\0")
        for frame in frames:
            for arrived in self.line(frame) if frame else []:
                if (reply := self._answer(arrived)) is not None:
                    check = struct.pack("<I", zlib.crc32(reply))
                    said += b"".join(sent + b"\0" for sent in self.line(cobs.encode(reply + check)))
        return said

    def _answer(self, frame: bytes) -> bytes | None:
        try:
            data = cobs.decode(frame)
        except cobs.DecodeError:
            return None
        if len(data) < 18 or struct.pack("<I", zlib.crc32(data[:-4])) != data[-4:]:
            return None
        session, number, operation, count, address = struct.unpack("<IIBBI", data[:14])
        status, words, count = self.status, b"", count + 1
        if operation >= 128:
            return None
        if operation == 0:
            if session != self.session:
                self.session, self.number = session, number
        elif session != self.session:
            status = 129
        elif number not in {self.number, (self.number + 1) % 2**32}:
            status = 130
        elif operation not in {1, 2} or len(data) != 18 + (4 * count if operation == 2 else 0):
            status = 131
        else:
            if operation == 1:
                values = [self.port.read(address + index) for index in range(count)]
                words = struct.pack(f"<{count}I", *values)
            elif number != self.number:
                values = list(struct.unpack(f"<{count}I", data[14:-4]))
                for index, value in enumerate(values):
                    self.port.write(address + index, value)
                self.executed.append((address, *values))
            self.number = number
        return struct.pack("<IIB", session, number, status) + words


class BoardThread:
    """A board behind a pseudo-terminal, :attr:`port`, until it is closed."""

    def __init__(self, board: LinkedPort) -> None:
        self.board = board
        self._ours, self._theirs = os.openpty()
        tty.setraw(self._theirs)
        self.port = os.ttyname(self._theirs)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._closing.is_set():
            if select.select([self._ours], [], [], 0.05)[0]:
                os.write(self._ours, self.board.hear(os.read(self._ours, 4096)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._thread.join()
        os.close(self._ours)
        os.close(self._theirs)
