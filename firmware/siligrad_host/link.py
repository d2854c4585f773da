"""A host's end of the link of ``docs/spec/link.md``: every request once, or known to be lost."""

from __future__ import annotations

import secrets
import struct
import time
import zlib
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from siligrad.device import DeviceError
from siligrad.frames import (
    CRC_BYTES,
    REPLY_FIELDS,
    REQUEST_FIELDS,
    WORDS_MAX,
    Answer,
    Operation,
)
from siligrad_host import cobs

__all__ = ["Link", "LinkError", "Transport"]

_CODES = {8: "B", 32: "I"}
_REQUEST = struct.Struct("<" + "".join(_CODES[bits] for bits in REQUEST_FIELDS.values()))
_REPLY = struct.Struct("<" + "".join(_CODES[bits] for bits in REPLY_FIELDS.values()))
_STRAYS_MAX = 1000
"""Replies to other requests that are passed over, before the request is sent again."""

_FRAME_MAX = 2 * (_REPLY.size + 4 * WORDS_MAX + CRC_BYTES)
"""Bytes after which what comes is no frame any more, whatever it is."""


class LinkError(DeviceError):
    """The board did not answer, lost its session, or did not understand."""


class Transport(Protocol):
    """What carries bytes, as pyserial does."""

    def write(self, data: bytes, /) -> Any:
        """Send `data`."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; fewer, or none, when none come for a while."""


class Link:
    """Reads and writes words of a board's host port.

    Opening it says hello; what a board kept of an earlier session ends with that.

    Parameters
    ----------
    transport
        What carries bytes. Its own wait for bytes should be short against `patience`.
    patience
        Seconds to wait for a reply before the request is sent again.
    attempts
        How often a request is sent before it is given up.

    Attributes
    ----------
    requests : int
        Requests that were made.
    resent : int
        Frames that were sent again.
    dropped : int
        Frames that came damaged, or too late.

    Raises
    ------
    LinkError
        If nothing answers.
    """

    def __init__(self, transport: Transport, *, patience: float = 0.5, attempts: int = 20) -> None:
        self._transport = transport
        self._patience = patience
        self._attempts = attempts
        self._session = secrets.randbelow(2**32 - 1) + 1
        self._number = secrets.randbelow(2**32)
        self._rest = b""
        self.requests = 0
        self.resent = 0
        self.dropped = 0
        self._request(Operation.HELLO, 0, 1, b"")

    def read(self, address: int, count: int) -> NDArray[np.uint32]:
        """Read `count` consecutive words from word address `address` on."""
        parts = [np.zeros(0, np.uint32)]
        for at in range(0, count, WORDS_MAX):
            words = min(WORDS_MAX, count - at)
            payload = self._next(Operation.READ, address + at, words, b"")
            parts.append(np.frombuffer(payload, "<u4").astype(np.uint32))
        return np.concatenate(parts)

    def write(self, address: int, words: NDArray[np.uint32]) -> None:
        """Write consecutive words from word address `address` on."""
        for at in range(0, len(words), WORDS_MAX):
            part = words[at : at + WORDS_MAX]
            self._next(Operation.WRITE, address + at, len(part), part.astype("<u4").tobytes())

    def _next(self, operation: Operation, address: int, count: int, payload: bytes) -> bytes:
        self._number = (self._number + 1) % 2**32
        return self._request(operation, address, count, payload)

    def _request(self, operation: Operation, address: int, count: int, payload: bytes) -> bytes:
        """Send a request until it is answered; return the words of the reply."""
        data = _REQUEST.pack(self._session, self._number, operation, count - 1, address) + payload
        frame = cobs.encode(data + struct.pack("<I", zlib.crc32(data)))
        wanted = 4 * count if operation == Operation.READ else 0
        self.requests += 1
        for attempt in range(self._attempts):
            self.resent += attempt > 0
            # The zero in front ends what a disturbance may have left of another frame.
            self._transport.write(b"\0" + frame + b"\0")
            deadline = time.monotonic() + self._patience
            for _ in range(_STRAYS_MAX):
                if (reply := self._receive(deadline)) is None:
                    break
                session, number, status = _REPLY.unpack(reply[: _REPLY.size])
                words = reply[_REPLY.size :]
                if (session, number) != (self._session, self._number) or status < Answer.DONE:
                    self.dropped += 1  # of a request that was sent twice; or one that came back
                elif status == Answer.DONE and len(words) == wanted:
                    return words
                else:
                    raise LinkError(_refusal(status, operation, address, count))
        raise LinkError(
            f"the board did not answer {self._attempts} times in {self._patience:g} s; it is not "
            f"known whether the {operation.name.lower()} of {count} words at {address:#x} was "
            "done: is it connected, configured, and the port the right one?"
        )

    def _receive(self, deadline: float) -> bytes | None:
        """Return the next reply that is whole, without its check; None after `deadline`."""
        expired = False
        while True:
            frame, zero, rest = self._rest.partition(b"\0")
            if zero:
                self._rest = rest
                data = cobs.decode(frame)
                if data is not None and len(data) >= _REPLY.size + CRC_BYTES:
                    body, check = data[:-CRC_BYTES], data[-CRC_BYTES:]
                    if struct.pack("<I", zlib.crc32(body)) == check:
                        return body
                self.dropped += bool(frame)
                continue
            if len(self._rest) > _FRAME_MAX:
                self._rest = b""
                self.dropped += 1
            if expired:
                return None
            self._rest += self._transport.read(_FRAME_MAX)
            expired = time.monotonic() > deadline


def _refusal(status: int, operation: Operation, address: int, count: int) -> str:
    what = f"the {operation.name.lower()} of {count} words at {address:#x}"
    if status == Answer.OTHER_SESSION:
        return (
            f"the board has been reset, or another host has taken it, before {what}: what it held "
            "may be lost; open it anew and load a saved state"
        )
    if status == Answer.OTHER_NUMBER:
        return f"the board has lost count before {what}; open it anew"
    return f"the board did not understand {what} (status {status}): is its version this host's?"
