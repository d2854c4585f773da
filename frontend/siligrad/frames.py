"""What the frames of the serial link hold: ``docs/spec/link.md`` explains it.

The hardware, the host and the firmware are written from this table.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Answer", "CRC_BYTES", "Operation", "REPLY_FIELDS", "REQUEST_FIELDS", "WORDS_MAX"]

WORDS_MAX = 64
"""Most words of a frame."""

CRC_BYTES = 4
"""Of the check at the end of a frame, a CRC-32."""

REQUEST_FIELDS = {"session": 32, "number": 32, "operation": 8, "count": 8, "address": 32}
"""What a request begins with: names and bits, in order, little-endian. The count is of words, less
one."""

REPLY_FIELDS = {"session": 32, "number": 32, "status": 8}
"""What a reply begins with."""


class Operation(IntEnum):
    """What a request asks for."""

    HELLO = 0
    READ = 1
    WRITE = 2


class Answer(IntEnum):
    """The status of a reply; its top bit tells it from a request that was sent back."""

    DONE = 0x80
    OTHER_SESSION = 0x81
    OTHER_NUMBER = 0x82
    NOT_UNDERSTOOD = 0x83
