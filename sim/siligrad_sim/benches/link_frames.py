"""Frames for a link, such as hosts and bad lines send; drawn from a generator of random numbers."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

from siligrad_sim.benches.link_model import LinkModel, frame_of

__all__ = ["tried"]


def tried(rng: random.Random, count: int) -> list[bytes]:
    """Return parts of a stream, each of one or two frames with their zeros, and a good request.

    Frames are right, nearly right, damaged, repeated, old, or any bytes; the last request must be
    answered, whatever came before it: a link that hangs is noticed.
    """
    model = LinkModel()
    parts: list[bytes] = []
    while len(parts) < count:
        frames = [_frame(rng, model) for _ in range(1 + (rng.random() < 0.1))]
        for frame in frames:
            for piece in frame.split(b"\0"):
                model.answer(piece)
        parts.append(b"".join(frame + bytes(rng.choice((1, 1, 1, 1, 2, 7))) for frame in frames))
    parts.append(b"\0" + _request(model.session + 1 or 1, 7, 0, 0) + b"\0")
    parts.append(_request(model.session + 1 or 1, 8, 2, 5, (1, 2, 3)) + b"\0")
    return parts


def _request(
    session: int, number: int, operation: int, address: int, words: Sequence[int] = ()
) -> bytes:
    count = max(len(words), 1) - 1
    head = struct.pack("<IIBBI", session % 2**32, number % 2**32, operation, count, address)
    return frame_of(head + struct.pack(f"<{len(words)}I", *words))


def _frame(rng: random.Random, model: LinkModel) -> bytes:
    """Return a frame without its zero: good, nearly good, damaged, old, or anything."""
    kind = rng.random()
    if kind < 0.05:
        return rng.randbytes(rng.randrange(40))
    if kind < 0.13 and model.history:
        return rng.choice(model.history)
    good = frame_of(_plain(rng, model))
    if kind < 0.75:
        return good
    return _damaged(rng, good, model)


def _plain(rng: random.Random, model: LinkModel) -> bytes:
    """Return a request before it is sealed; most are such as a host would send."""
    odd = rng.random() < 0.3

    def unless_odd(value: int, *others: int) -> int:
        return rng.choice(others) if odd and rng.random() < 0.4 else value

    usual = (0,) if model.session == 0 and rng.random() < 0.7 else (0, 1, 1, 1, 2, 2, 2, 2, 2)
    operation = unless_odd(rng.choice(usual), 3, 127, 128, 255)
    fresh = rng.choice((rng.getrandbits(32), 1, model.session + 1)) % 2**32
    session = fresh if operation == 0 and rng.random() < 0.5 else model.session
    session = rng.choice((session,) * 12 + (0, model.session ^ 1, fresh))
    number = model.number + (rng.random() < 0.9)
    number = rng.choice((number, number, number, model.number - 1, model.number + 2))
    count = rng.choice((1, 1, 2, rng.randrange(1, 65), 64))
    address = rng.choice((rng.getrandbits(23), rng.randrange(8), (1 << 23) - count))
    address = unless_odd(address, (1 << 23) - count + 1, 1 << 23, (1 << 32) - 1)
    told = unless_odd(count, count + 1, 65, 256)
    if operation == 0:
        address = unless_odd(0, 5)
        told = unless_odd(1, 64)
    sent = unless_odd(count if operation == 2 else 0, count + 1, count - 1, 66, 130)
    words = (rng.getrandbits(32) & rng.choice((0, 0xFF00FF, 2**32 - 1)) for _ in range(sent))
    data = struct.pack("<IIBBI", session, number % 2**32, operation, told - 1, address)
    data += struct.pack(f"<{sent}I", *words)
    return data[: unless_odd(len(data), len(data) - 1, len(data) - 5)]


def _damaged(rng: random.Random, frame: bytes, model: LinkModel) -> bytes:
    """Return a frame to which a bad line has done something."""
    data = bytearray(frame)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(6)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at : at + rng.choice((1, 1, 4, 1000))]
        elif kind == 2:
            data[at:at] = data[at : at + rng.choice((1, 1, 4, 1000))]
        elif kind == 3:
            data.insert(at, rng.randrange(256))
        elif kind == 4 and at < len(data):
            data[at] = rng.choice((0, 1, 2, 254, 255))
        elif model.history:
            other = rng.choice(model.history)
            data = bytearray(other[: rng.randrange(len(other) + 1)] + bytes(data[at:]))
    return bytes(data)
