"""A board's end of the link, written from ``docs/spec/link.md`` alone, with another's COBS.

A judge of the gateware: of :mod:`siligrad_sim.benches.link`, and of ``benchmarks.fuzz.gateware``.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field, replace

__all__ = ["Answers", "LinkModel", "decoded", "encoded", "frame_of", "outcomes", "word_at"]

_ADDRESS_LIMIT = 1 << 23
_WORDS_MAX = 64
_REQUEST_BYTES = 14


def _sealed(data: bytes) -> bytes:
    return data + struct.pack("<I", zlib.crc32(data))


def encoded(data: bytes) -> bytes:
    """Return `data` without zeros, and without the zero that ends a frame."""
    from cobs import cobs  # noqa: PLC0415  (who imports all modules may not have it)

    return bytes(cobs.encode(data))


def decoded(frame: bytes) -> bytes | None:
    """Return what is in an encoded frame, without its zero; None if it is none, or empty."""
    from cobs import cobs  # noqa: PLC0415

    try:
        return bytes(cobs.decode(frame)) if frame else None
    except cobs.DecodeError:
        return None


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
        data = decoded(frame)
        if (
            data is None
            or len(data) < _REQUEST_BYTES + 4
            or zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little")
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


def outcomes(model: LinkModel, pieces: list[bytes]) -> list[tuple[Answers, LinkModel]]:
    """Return what may come of frames that follow at once: each that is answered costs the next.

    How much of what follows is lost to an answer depends on how long that takes, so that any of
    those behind an answer may be heard or not.
    """
    found: list[tuple[Answers, LinkModel]] = [(Answers(), model)]
    for piece in pieces:
        further = []
        for before, state in found:
            after = state.copy()
            answers = after.answer(piece)
            both = Answers(before.replies + answers.replies, before.writes + answers.writes)
            further.append((both, after))
            if before.replies:
                further.append((before, state))  # it was not heard
        found = further
    return found
