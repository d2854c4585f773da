"""A board's end of the link, written from ``docs/spec/link.md`` alone, with another's COBS."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field, replace

from cobs import cobs

__all__ = ["Answers", "LinkModel", "encoded", "frame_of", "word_at"]

_ADDRESS_LIMIT = 1 << 23
_WORDS_MAX = 64
_REQUEST_BYTES = 14


def _sealed(data: bytes) -> bytes:
    return data + struct.pack("<I", zlib.crc32(data))


def encoded(data: bytes) -> bytes:
    """Return `data` without zeros, and without the zero that ends a frame."""
    return bytes(cobs.encode(data))


def frame_of(data: bytes) -> bytes:
    """Return `data` with its CRC, encoded, without the zero that ends a frame."""
    return encoded(_sealed(data))


def word_at(address: int) -> int:
    """Return the word that every read of an address gives: its bits, some of them flipped."""
    return (address * 0x01000193 + 0x811C9DC5) % 2**32


@dataclass(frozen=True, slots=True)
class Answers:
    """What a board does about frames.

    Parameters
    ----------
    replies
        Decoded, with their checks; an encoder may end a frame with an empty block or not.
    writes
        Addresses and words, in order.
    """

    replies: tuple[bytes, ...] = ()
    writes: tuple[tuple[int, int], ...] = ()


@dataclass(slots=True)
class LinkModel:
    """What a board keeps between frames."""

    session: int = 0
    number: int = 0
    history: list[bytes] = field(default_factory=list)

    def copy(self) -> LinkModel:
        """Return a board that is in the same state."""
        return replace(self, history=list(self.history))

    def answer(self, frame: bytes) -> Answers:
        """Take a frame, without zeros, and return what comes of it."""
        self.history.append(frame)
        try:
            data = bytes(cobs.decode(frame)) if frame else b""
        except cobs.DecodeError:
            return Answers()
        if len(data) < _REQUEST_BYTES + 4 or zlib.crc32(data[:-4]) != int.from_bytes(
            data[-4:], "little"
        ):
            return Answers()
        session, number, operation, count, address = struct.unpack("<IIBBI", data[:_REQUEST_BYTES])
        if operation >= 128:
            return Answers()
        words = data[_REQUEST_BYTES:-4]
        count += 1
        known = operation in {0, 1, 2} and count <= _WORDS_MAX
        fits = len(words) == (4 * count if operation == 2 else 0)
        inside = address + count <= _ADDRESS_LIMIT
        if not (known and fits and inside) or (operation == 0 and session == 0):
            return self._reply(session, number, 131)
        if operation == 0:
            if session != self.session:
                self.session, self.number = session, number
            return self._reply(session, number, 128)
        if session != self.session or session == 0:
            return self._reply(session, number, 129)
        if number not in {self.number, (self.number + 1) % 2**32}:
            return self._reply(session, number, 130)
        again, self.number = number == self.number, number
        if operation == 1:
            read = struct.pack(f"<{count}I", *(word_at(address + at) for at in range(count)))
            return self._reply(session, number, 128, read)
        written = [] if again else enumerate(struct.unpack(f"<{count}I", words), address)
        return replace(self._reply(session, number, 128), writes=tuple(written))

    @staticmethod
    def _reply(session: int, number: int, status: int, words: bytes = b"") -> Answers:
        return Answers((_sealed(struct.pack("<IIB", session, number, status) + words),))
