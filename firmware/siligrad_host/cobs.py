"""Frames without zeros: Consistent Overhead Byte Stuffing (S. Cheshire, M. Baker, 1999)."""

from __future__ import annotations

__all__ = ["decode", "encode"]

_BLOCK = 254
"""Most bytes of a block that no zero follows."""


def encode(data: bytes) -> bytes:
    """Return `data` without zeros, without the zero that ends a frame.

    >>> encode(bytes([1, 0, 2])).hex()
    '02010202'
    """
    result = bytearray()
    parts = data.split(b"\0")
    for number, part in enumerate(parts):
        whole = len(part) // _BLOCK
        for at in range(whole):
            result.append(_BLOCK + 1)
            result += part[at * _BLOCK : (at + 1) * _BLOCK]
        rest = part[whole * _BLOCK :]
        # A full block at the very end says by itself that nothing follows.
        if rest or not whole or number < len(parts) - 1:
            result.append(len(rest) + 1)
            result += rest
    return bytes(result)


def decode(frame: bytes) -> bytes | None:
    r"""Return what :func:`encode` made `frame` of, or None if it made no such frame.

    >>> decode(bytes([2, 1, 2, 2]))
    b'\x01\x00\x02'
    >>> decode(bytes([5, 1])) is None
    True
    """
    result = bytearray()
    at = 0
    if not frame or 0 in frame:
        return None
    while at < len(frame):
        code = frame[at]
        block = frame[at + 1 : at + code]
        if len(block) != code - 1:
            return None
        result += block
        at += code
        if code <= _BLOCK and at < len(frame):
            result.append(0)
    return bytes(result)
